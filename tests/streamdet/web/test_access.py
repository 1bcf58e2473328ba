"""Who gets in, and what every answer carries; over real sockets."""

from __future__ import annotations

import base64
import socket
from pathlib import Path

import pytest

from streamdet.config import Config, WebSection
from streamdet.errors import ConfigError, SinkError
from streamdet.web.access import make_access
from streamdet.web.address import Address
from streamdet.web.guard import HEADERS
from streamdet.web.part import WebPart

from .conftest import Make, Rig, request, write_secret

TOKEN = "correct-horse-battery"


def basic(words: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(words.encode()).decode()}


@pytest.fixture(scope="module")
def guarded(make_rig: Make, tmp_path_factory: pytest.TempPathFactory) -> Rig:
    path = tmp_path_factory.mktemp("secret") / "token"
    return make_rig(token_file=write_secret(path, TOKEN), hosts=("listen.example",))


def test_every_answer_carries_the_security_headers(rig: Rig) -> None:
    for path in ("/", "/static/main.js", "/api/alerts", "/nothing", "/api/scans/none"):
        answer = request(rig.port, "GET", path)
        for name, value in HEADERS.items():
            assert answer.headers[name] == value, path
    assert request(rig.port, "GET", "/", headers={"Host": "evil.example"}).headers["x-frame-options"] == "DENY"


def test_the_policy_allows_nothing_inline_and_nothing_from_elsewhere() -> None:
    policy = HEADERS["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "http:" not in policy
    assert "https:" not in policy
    assert "*" not in policy


def test_the_page_holds_no_inline_script_or_style_and_no_foreign_address() -> None:
    static = Path(__file__).parents[3] / "streamdet" / "web" / "static"
    html = (static / "index.html").read_text()
    assert "<style" not in html
    assert "style=" not in html
    assert "<script>" not in html
    for path in static.iterdir():
        text = path.read_text().replace("http://www.w3.org/2000/svg", "")
        assert "http://" not in text, path
        assert "https://" not in text, path
        assert "innerHTML" not in text, path


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "", "[", "localhost.evil"]
)
def test_a_foreign_host_name_gets_nothing(rig: Rig, host: str) -> None:
    answer = request(rig.port, "GET", "/api/alerts", headers={"Host": host})
    assert answer.status == 421
    assert b"alerts" not in answer.body


@pytest.mark.parametrize("host", ["localhost:1", "127.0.0.1", "[::1]:8765", "10.1.2.3:80"])
def test_an_address_or_localhost_is_a_host(rig: Rig, host: str) -> None:
    assert request(rig.port, "GET", "/api/alerts", headers={"Host": host}).status == 200


def test_a_configured_name_is_a_host(guarded: Rig) -> None:
    headers = {"Host": "Listen.Example:443", "Authorization": f"Bearer {TOKEN}"}
    assert request(guarded.port, "GET", "/api/alerts", headers=headers).status == 200


def test_a_stranger_gets_nothing(guarded: Rig) -> None:
    for path in ("/", "/static/main.js", "/api/events", "/api/alerts", "/?token=wrong", "/api/alerts?token=" + TOKEN):
        answer = request(guarded.port, "GET", path)
        assert answer.status == 401, path
        assert not answer.cookies
    assert request(guarded.port, "POST", "/api/scans", b"RIFF").status == 401
    for value in ("Bearer wrong", "Basic " + base64.b64encode(b"x:y").decode(), "Basic !!", "Bearer"):
        assert request(guarded.port, "GET", "/api/alerts", headers={"Authorization": value}).status == 401
    assert request(guarded.port, "GET", "/", headers={"Cookie": f"streamdet_{guarded.port}={TOKEN}"}).status == 401


def test_the_token_in_the_address_becomes_a_cookie(guarded: Rig) -> None:
    assert guarded.url.endswith(f"/?token={TOKEN}")
    answer = request(guarded.port, "GET", f"/?token={TOKEN}&x=1")
    assert answer.status == 303
    assert answer.headers["location"] == "/?x=1"
    (cookie,) = answer.cookies
    assert TOKEN not in cookie
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    value = cookie.partition(";")[0]
    assert request(guarded.port, "GET", "/", headers={"Cookie": value}).status == 200
    assert request(guarded.port, "GET", "/api/alerts", headers={"Cookie": value}).status == 200


def test_a_user_with_a_password(make_rig: Make, tmp_path: Path) -> None:
    rig = make_rig(auth="basic", password_file=write_secret(tmp_path / "password", "ada:lovelace-1815"))
    stranger = request(rig.port, "GET", "/")
    assert stranger.status == 401
    assert stranger.headers["www-authenticate"].startswith("Basic")
    assert request(rig.port, "GET", "/", headers=basic("ada:wrong-password")).status == 401
    assert request(rig.port, "GET", "/", headers=basic("eve:lovelace-1815")).status == 401
    assert request(rig.port, "GET", "/", headers=basic("ada:lovelace-1815")).status == 200


@pytest.mark.parametrize(
    ("headers", "marked", "status"),
    [
        ({}, True, 404),
        ({}, False, 403),
        ({"Origin": "http://127.0.0.1:PORT"}, True, 404),
        ({"Origin": "http://evil.example"}, True, 403),
        ({"Origin": "http://127.0.0.1:1"}, True, 403),
        ({"Origin": "null"}, True, 403),
    ],
)
def test_only_the_page_itself_may_post(rig: Rig, headers: dict[str, str], marked: bool, status: int) -> None:
    headers = {name: value.replace("PORT", str(rig.port)) for name, value in headers.items()}
    path = "/api/alerts/none/verify"
    assert request(rig.port, "POST", path, b"", headers, marked=marked).status == status


@pytest.mark.parametrize(
    ("web", "says"),
    [
        ({"listen": "0.0.0.0:8765", "auth": "none"}, "can be reached from other machines"),
        ({"listen": "192.0.2.1:8765", "auth": "none"}, "can be reached from other machines"),
        ({"listen": "0.0.0.0:8765", "auth": "basic"}, "needs password_file"),
        ({"listen": "8765"}, "is no HOST:PORT"),
        ({"listen": "localhost:http"}, "is no HOST:PORT"),
        ({"listen": "::1:8765"}, "goes in brackets"),
        ({"listen": "127.0.0.1:99999"}, "is no HOST:PORT"),
    ],
)
def test_what_would_be_unsafe_or_senseless_is_refused(web: dict[str, str], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        WebPart(Config(web=WebSection.model_validate(web)))


@pytest.mark.parametrize("text", ["short", "with spaces in it that is long", ""])
def test_a_weak_token_is_refused(tmp_path: Path, text: str) -> None:
    section = WebSection(listen="127.0.0.1:0", token_file=write_secret(tmp_path / "token", text))
    with pytest.raises(ConfigError, match="16 or more characters"):
        make_access(section, Address("127.0.0.1", 0))


def test_elsewhere_than_on_loopback_a_token_is_made() -> None:
    one, other = (make_access(WebSection(), Address("0.0.0.0", 1)) for _ in range(2))
    assert one.token is not None
    assert len(one.token) >= 32
    assert one.token != other.token
    assert make_access(WebSection(), Address("::1", 1)).open
    assert make_access(WebSection(), Address("localhost", 1)).open
    assert not make_access(WebSection(auth="token"), Address("localhost", 1)).open


def test_a_port_in_use_is_one_clear_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(SinkError, match="Address already in use; try another port"):
            Address("127.0.0.1", port).bind()


def test_an_unknown_host_is_one_clear_error() -> None:
    with pytest.raises(SinkError, match="cannot"):
        Address("192.0.2.77", 0).bind()
