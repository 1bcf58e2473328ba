"""What every request passes first, and what every answer carries: host, identity, origin, security headers."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Collection, Mapping
from urllib.parse import urlencode, urlsplit

import structlog
from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from streamdet.web.access import Access
from streamdet.web.address import Address, is_address

log = structlog.get_logger(__name__)
MARK = "x-streamdet"  # no form and no foreign page can send this header without asking first
REFUSED_SECONDS = 0.5  # how long a wrong password has to wait for its answer
POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "media-src 'self' blob:",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    )
)
HEADERS: Mapping[str, str] = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-embedder-policy": "require-corp",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "microphone=(self), camera=(), geolocation=(), display-capture=(), payment=(), usb=()",
}


class Guard:
    """Lets a request through to ``app`` only with a host name of ours, from somebody allowed, and from our own page.

    A page elsewhere could otherwise point a name of its own at this machine (DNS rebinding) or send requests with our
    cookie. Addresses are accepted as hosts, since rebinding needs a name.
    """

    def __init__(self, app: ASGIApp, *, access: Access, address: Address, hosts: Collection[str], secure: bool) -> None:
        self._app = app
        self._access = access
        self._names = {name.lower() for name in (*hosts, "localhost", address.host, socket.gethostname())}
        self._secure = secure
        self._cookie = f"streamdet_{address.port}"  # browsers share cookies between the ports of a host

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer or pass on one request."""
        if scope["type"] != "http":
            return
        request = Request(scope)
        send = _guarded(send)
        refusal = self._refuse(request) or await self._identify(request)
        await (refusal or self._app)(scope, receive, send)

    def _refuse(self, request: Request) -> Response | None:
        host = request.headers.get("host", "")
        if not self._ours(host):
            return PlainTextResponse(
                "This name is not known here. Add it to hosts in the [web] section of the configuration.\n", 421
            )
        if request.method in ("GET", "HEAD"):
            return None
        origin = request.headers.get("origin")
        foreign = origin is not None and urlsplit(origin).netloc.lower() != host.lower()
        if MARK not in request.headers or foreign:
            return PlainTextResponse(
                f"Only the page itself may ask for this; programs send the header {MARK}: 1.\n", 403
            )
        return None

    def _ours(self, host: str) -> bool:
        try:
            name = urlsplit(f"//{host}").hostname
        except ValueError:
            return False
        return name is not None and (is_address(name) or name in self._names)

    async def _identify(self, request: Request) -> Response | None:
        user = self._access.admits(request.headers, request.cookies.get(self._cookie))
        offered = request.query_params.get("token")
        if request.url.path == "/" and offered is not None and (user is not None or self._access.right_token(offered)):
            return self._welcome(request)
        if user is None:
            return await self._reject(request)
        request.state.user = user
        return None

    def _welcome(self, request: Request) -> Response:
        """Move the token from the address bar, which is kept in histories, to a cookie that no script can read."""
        rest = [(key, value) for key, value in request.query_params.multi_items() if key != "token"]
        response = RedirectResponse("/" + ("?" + urlencode(rest) if rest else ""), 303)
        if self._access.token is not None:
            response.set_cookie(
                self._cookie, self._access.session, httponly=True, samesite="strict", secure=self._secure, path="/"
            )
        return response

    async def _reject(self, request: Request) -> Response:
        if "authorization" in request.headers or "token" in request.query_params:
            log.warning("page_refused", client=request.client.host if request.client else "")
            await asyncio.sleep(REFUSED_SECONDS)
        if self._access.password is not None:
            return PlainTextResponse(
                "A user and a password are needed.\n",
                401,
                {"www-authenticate": 'Basic realm="streamdet", charset="UTF-8"'},
            )
        text = "Open the address with ?token=... that streamdet wrote when it started.\n"
        return PlainTextResponse(text, 401, {"www-authenticate": 'Bearer realm="streamdet"'})


def _guarded(send: Send) -> Send:
    async def send_with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in HEADERS.items():
                headers[name] = value
            headers.setdefault("cache-control", "no-store")
        await send(message)

    return send_with_headers
