"""The page in a real browser: every control, both themes, a phone, the keyboard, fifty streams."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, BrowserContext, CDPSession, Locator, Page, Playwright, expect, sync_playwright

from streamdet.evidence.chain import read_entries
from trainer.export import ExportReport

from .conftest import RATE, SYNTHETIC, Make, Rig, request, wait_for

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
PATIENCE = 45_000  # ms; a busy machine draws slowly
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium is installed")
expect.set_options(timeout=PATIENCE)
AXE = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]}


@pytest.fixture(scope="module")
def microphone(tmp_path_factory: pytest.TempPathFactory, speech: np.ndarray) -> Path:
    """What the browser takes for its microphone: a synthetic voice."""
    path = tmp_path_factory.mktemp("microphone") / "voice.wav"
    soundfile.write(path, speech[SYNTHETIC], RATE, subtype="PCM_16")
    return path


@pytest.fixture(scope="module")
def playwright() -> Iterator[Playwright]:
    with sync_playwright() as running:
        yield running


@pytest.fixture(scope="module")
def browser(playwright: Playwright, microphone: Path) -> Iterator[Browser]:
    opened = playwright.chromium.launch(
        executable_path=CHROMIUM,
        args=[
            "--no-sandbox",
            "--disable-gpu",
            "--use-fake-device-for-media-stream",
            "--use-fake-ui-for-media-stream",
            f"--use-file-for-fake-audio-capture={microphone}",
            "--autoplay-policy=no-user-gesture-required",
        ],
    )
    yield opened
    opened.close()


Open = Callable[..., Page]


@pytest.fixture
def open_page(browser: Browser) -> Iterator[Open]:
    """Open the page; at the end it must have neither complained nor asked for anything from elsewhere."""
    contexts: list[BrowserContext] = []
    complaints: list[str] = []

    def open_one(rig: Rig, *, width: int = 1280, height: int = 900, **settings: Any) -> Page:
        calm = {"reduced_motion": "reduce"}  # drawing thirty times a second is for the tests that look at it
        context = browser.new_context(viewport={"width": width, "height": height}, **(calm | settings))
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(PATIENCE)
        page.on("console", lambda message: complaints.append(message.text) if message.type != "log" else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda asked: complaints.append(f"asked {asked.url}") if foreign(asked.url, rig) else None)
        page.goto(rig.url)
        expect(page.locator("#link-text")).to_have_text("Connected")
        return page

    yield open_one
    for context in contexts:
        context.close()
    assert complaints == []


def foreign(url: str, rig: Rig) -> bool:
    return not url.startswith((f"http://127.0.0.1:{rig.port}/", "blob:", "data:"))


def pixels(page: Page, canvas: str) -> int:
    """How many different colours a canvas shows."""
    count: int = page.locator(canvas).evaluate(
        "c => new Set(new Uint32Array(c.getContext('2d').getImageData(0, 0, c.width, c.height).data.buffer)).size"
    )
    return count


def busy(metrics: CDPSession) -> float:
    """CPU seconds that the page's main thread has taken."""
    found = metrics.send("Performance.getMetrics")["metrics"]
    return float(next(one["value"] for one in found if one["name"] == "TaskDuration"))


def check_accessibility(page: Page) -> None:
    found = Axe().run(page, options=AXE).response["violations"]
    assert [(one["id"], [node["html"][:120] for node in one["nodes"]]) for one in found] == []


def test_an_empty_page_says_what_it_waits_for(make_rig: Make, open_page: Open) -> None:
    page = open_page(make_rig(clients=9))
    expect(page.locator("#streams-empty")).to_contain_text("Waiting for the first sound")
    expect(page.locator("#alerts-empty")).to_contain_text("No alerts")
    expect(page.locator("#health")).to_contain_text("onnx")
    check_accessibility(page)


def test_streams_alerts_and_every_control(rig: Rig, alerted: str, open_page: Open, speech: np.ndarray) -> None:
    page = open_page(rig)
    row = page.get_by_role("row").filter(has=page.get_by_role("button", name="caller", exact=True))
    expect(row).to_contain_text(re.compile(r"\d+ %"))
    expect(page.locator("#scope-title")).to_have_text("caller")
    wait_for(lambda: pixels(page, "#picture") > 50)
    expect(page.locator("#picture-text")).to_contain_text("highest p_fake")

    page.get_by_role("button", name="Hold picture").click()
    expect(page.locator("#hold")).to_have_attribute("aria-pressed", "true")
    page.keyboard.press("h")
    expect(page.locator("#hold")).to_have_attribute("aria-pressed", "false")

    other = open_page(rig)
    alert = page.locator(".alert").last
    expect(alert).to_contain_text("over")
    alert.get_by_role("button", name="Play").click()
    expect(alert.get_by_role("button", name="Pause")).to_be_visible()
    expect(alert.locator("output")).to_contain_text(re.compile(r"0:0[0-9.]+ / 0:[12]\d"))
    alert.get_by_role("slider").fill("9")
    expect(alert.locator("output")).to_contain_text(re.compile(r"0:(09|1\d)\.\d /"))
    alert.get_by_role("button", name="Pause").click()
    expect(alert.get_by_role("button", name="Play")).to_be_visible()
    alert.get_by_role("button", name="Verify").click()
    expect(alert.locator(".proof")).to_contain_text(re.compile("Not sealed.*SHA-256 [0-9a-f]{64}", re.DOTALL))

    alert.get_by_role("button", name="Acknowledge").click()
    page.get_by_role("button", name="Cancel").click()
    alert.get_by_role("button", name="Acknowledge").click()
    page.locator("#name").fill("Ada")
    page.locator("#name-ok").click()
    for seen in (page, other):
        expect(seen.locator(".alert").last).to_contain_text("Acknowledged by Ada")
    before = page.locator(".alert:visible").count()
    page.get_by_label("Only those nobody has acknowledged").check()
    expect(page.locator(".alert:visible")).to_have_count(before - 1)

    rig.play("second", speech[: 2 * RATE])
    expect(page.locator("#rows tr")).to_have_count(2)
    page.get_by_role("button", name="second", exact=True).click()
    expect(page.locator("#scope-title")).to_have_text("second")
    rig.say("second", "recovering", "cable pulled")
    expect(page.locator("#scope-state")).to_have_text("recovering: cable pulled")
    expect(page.locator("#rows tr").last).to_contain_text("recovering: cable pulled")
    page.get_by_label("Filter streams by name").fill("call")
    expect(page.locator("#rows tr:visible")).to_have_count(1)
    page.keyboard.press("Escape")
    expect(page.locator("#rows tr:visible")).to_have_count(2)
    check_accessibility(page)
    rig.end("second")


def places(of: Locator) -> list[tuple[float, float]]:
    """Where elements begin from the top, and how high they are: of one moment, as what is above them may still move."""
    boxes = of.evaluate_all("all => all.map(one => one.getBoundingClientRect()).map(box => [box.y, box.height])")
    return [(y, height) for y, height in boxes]


def test_what_is_recorded_is_played_shown_verified_and_chained(
    tmp_path: Path, open_page: Open, speech: np.ndarray
) -> None:
    rig = Rig(evidence=tmp_path)
    try:
        page = open_page(rig)
        alert = page.locator(".alert")
        rig.play("caller", speech[: int(31.0 * RATE)])
        expect(alert).to_contain_text("lasting")
        alert.get_by_role("button", name="Verify").click()
        expect(alert.locator(".proof")).to_contain_text("Not sealed")
        rig.play("caller", speech[int(31.0 * RATE) : SYNTHETIC.stop + 12 * RATE])
        sound = wait_for(lambda: rig.tick() or next(tmp_path.glob("*.flac"), None))
        wait_for(lambda: [entry["kind"] for entry in read_entries(tmp_path)].count("alert") == 1)

        alert.get_by_role("button", name="Play").click()
        length = soundfile.info(sound).duration
        expect(alert.locator("output")).to_contain_text(f"/ 0:{length:04.1f}")
        expect(alert.locator("output")).not_to_contain_text("0:00.0 /")
        alert.get_by_role("button", name="Pause").click()
        assert len(set(places(alert.locator(".actions > *")))) == 1  # the link is like the buttons
        page.set_viewport_size({"width": 360, "height": 740})
        assert len({y for y, _ in places(alert.locator(".actions > *"))}) == 1  # and all have room on a phone
        with page.context.expect_page() as opened:
            alert.get_by_role("link", name="Picture").click()
        wait_for(lambda: opened.value.evaluate("document.querySelector('img')?.naturalWidth > 400"))
        opened.value.close()
        alert.get_by_role("button", name="Verify").click()
        expect(alert.locator(".proof")).to_contain_text(re.compile("Intact.*SHA-256 [0-9a-f]{64}", re.DOTALL))

        data = bytearray(sound.read_bytes())
        data[len(data) // 2] ^= 1
        sound.chmod(0o600)
        sound.write_bytes(data)
        alert.get_by_role("button", name="Verify").click()
        expect(alert.locator(".proof")).to_contain_text("Changed")
        expect(alert.locator(".proof")).to_contain_text(sound.name)

        alert.get_by_role("button", name="Acknowledge").click()
        page.locator("#name").fill("Ada")
        page.locator("#name-ok").click()
        expect(alert).to_contain_text("Acknowledged by Ada")
        check_accessibility(page)
        first, last = read_entries(tmp_path)
        assert (last["kind"], last["alert"], last["by"]) == ("acknowledged", first["alert"], "Ada")
    finally:
        rig.close()


def test_an_alert_is_seen_and_announced_when_it_is_raised(rig: Rig, open_page: Open, speech: np.ndarray) -> None:
    page = open_page(rig)
    rig.play("fresh", speech[: int(31.0 * RATE)])
    lasting = page.locator(".alert").filter(has_text="fresh").filter(has_text="lasting")
    expect(lasting).to_be_visible()
    expect(page.locator("#announce")).to_contain_text("fresh sounds synthetic")
    expect(page.locator("#rows tr[data-alert]")).to_contain_text("alert")
    assert page.title().startswith("▲ 1")
    rig.end("fresh")
    expect(page.locator(".alert").filter(has_text="fresh").first).to_contain_text("the stream ended")


def test_a_picture_goes_on_with_the_bands_of_a_new_model(
    make_rig: Make, open_page: Open, speech: np.ndarray, exported: dict[str, ExportReport]
) -> None:
    rig = make_rig()
    page = open_page(rig)
    heights = (
        "() => { const draw = CanvasRenderingContext2D.prototype.drawImage; window.heights = [];"
        "CanvasRenderingContext2D.prototype.drawImage = function (image, ...rest) {"
        "window.heights.push(image.height); return draw.call(this, image, ...rest); } }"
    )
    page.evaluate(heights)
    rig.play("seen", speech[: 4 * RATE])
    wait_for(lambda: page.evaluate("window.heights.at(-1)") == 96)
    rig.swap(exported["int8"].path)
    rig.play("seen", speech[4 * RATE : 8 * RATE])
    wait_for(lambda: page.evaluate("window.heights.at(-1)") == 64)
    assert pixels(page, "#picture") > 50


@pytest.mark.parametrize("width", [360, 1280])
def test_frequencies_beside_the_picture_stand_apart(
    open_page: Open, speech: np.ndarray, exported: dict[str, ExportReport], width: int
) -> None:
    rig = Rig()
    try:
        page = open_page(rig, width=width)
        page.evaluate(
            """() => {
                const prototype = CanvasRenderingContext2D.prototype, { clearRect, fillText } = prototype;
                window.labels = [];
                prototype.clearRect = function (...box) { window.labels = []; clearRect.apply(this, box); };
                prototype.fillText = function (text, x, y) {
                    if (/^(Hz|250|[124]k)$/.test(text)) window.labels.push([text, y]);
                    fillText.call(this, text, x, y);
                };
            }"""
        )
        rig.play("seen", speech[: 4 * RATE])
        linear = wait_for(lambda: page.evaluate("window.labels"))
        rig.swap(exported["int8"].path)
        rig.play("seen", speech[4 * RATE : 8 * RATE])
        mel = wait_for(lambda: page.evaluate("window.labels.some(([text]) => text === '250') && window.labels"))
    finally:
        rig.close()
    for labels in (linear, mel):
        at = sorted(y for _, y in labels)
        assert len(at) >= 3
        assert min(np.diff(at)) >= 24


def test_a_file_is_checked_and_a_broken_one_is_explained(rig: Rig, open_page: Open, microphone: Path) -> None:
    page = open_page(rig)
    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name="Choose a file").click()
    chooser.value.set_files(microphone)
    result = page.locator(".result").first
    expect(result.locator(".answer")).to_contain_text(re.compile(r"SYNTHETIC\s*confidence \d+ %"), timeout=60_000)
    expect(result).to_contain_text("0:13.2 long")
    assert pixels(page, ".result canvas") > 50
    result.get_by_role("button", name="Play").click()
    expect(result.get_by_role("button", name="Pause")).to_be_visible()
    result.locator("canvas").click(position={"x": 200, "y": 60})
    expect(result.locator("output")).to_contain_text(re.compile(r"0:0[3-9]\.\d"))
    result.get_by_role("button", name="Pause").click()
    result.get_by_text("Timeline in numbers").click()
    expect(result.get_by_role("row")).to_have_count(15)
    check_accessibility(page)
    page.locator("#file").set_input_files({"name": "notes.wav", "mimeType": "audio/wav", "buffer": b"not a sound"})
    broken = page.locator(".result").first
    expect(broken.locator(".problem")).to_contain_text("no sound file that can be read")
    broken.get_by_role("button", name="Dismiss").click()
    expect(page.locator(".result")).to_have_count(1)
    page.locator("#file").set_input_files({"name": "huge.wav", "mimeType": "audio/wav", "buffer": bytes(8_000_001)})
    expect(page.locator("#check-problem")).to_contain_text("huge.wav is too large: 8 MB")


def test_a_file_can_be_dropped_and_given_up(rig: Rig, open_page: Open) -> None:
    page = open_page(rig)
    page.evaluate(
        """() => {
            const rate = 8000, count = 100 * rate, view = new DataView(new ArrayBuffer(44 + 2 * count));
            [..."RIFF    WAVEfmt "].forEach((letter, i) => view.setUint8(i, letter.charCodeAt(0)));
            view.setUint32(4, 36 + 2 * count, true);
            [16, 65537, rate, 2 * rate, 1048578].forEach((word, i) => view.setUint32(16 + 4 * i, word, true));
            [..."data"].forEach((letter, i) => view.setUint8(36 + i, letter.charCodeAt(0)));
            view.setUint32(40, 2 * count, true);
            const data = new DataTransfer();
            data.items.add(new File([view], "dropped.wav", { type: "audio/wav" }));
            dispatchEvent(new DragEvent("dragenter", { dataTransfer: data }));
            if (document.getElementById("veil").hidden) throw new Error("no veil");
            dispatchEvent(new DragEvent("drop", { dataTransfer: data }));
        }"""
    )
    expect(page.locator("#veil")).to_be_hidden()
    page.get_by_role("button", name="Cancel dropped.wav").click()
    expect(page.locator(".result")).to_have_count(0)
    scans = rig.part.scans
    assert scans is not None
    wait_for(lambda: scans.open == 0)


def test_a_dropped_file_gets_its_verdict(rig: Rig, open_page: Open, microphone: Path) -> None:
    page = open_page(rig)
    browser = page.context.new_cdp_session(page)
    data = {"items": [], "files": [str(microphone)], "dragOperationsMask": 1}
    for kind in ("dragEnter", "dragOver"):
        browser.send("Input.dispatchDragEvent", {"type": kind, "x": 600, "y": 400, "data": data})
    expect(page.locator("#veil")).to_be_visible()
    browser.send("Input.dispatchDragEvent", {"type": "drop", "x": 600, "y": 400, "data": data})
    expect(page.locator("#veil")).to_be_hidden()
    result = page.locator(".result")
    expect(result.locator(".answer")).to_contain_text(re.compile(r"SYNTHETIC\s*confidence \d+ %"), timeout=60_000)
    expect(result.locator("h3")).to_contain_text(microphone.name)
    expect(result).to_contain_text("0:13.2 long")
    assert pixels(page, ".result canvas") > 50


def test_the_browsers_microphone_is_recorded_and_checked(rig: Rig, open_page: Open) -> None:
    page = open_page(rig, permissions=["microphone"])
    page.keyboard.press("r")
    expect(page.get_by_role("button", name="Stop and check")).to_be_visible()
    expect(page.locator("#record-time")).to_contain_text(re.compile(r"0:0[6-9]\.\d of"))
    page.get_by_role("button", name="Stop and check").click()
    expect(page.locator(".result .answer")).to_contain_text("SYNTHETIC", timeout=60_000)
    expect(page.locator(".result h3")).to_contain_text("Recording")


def test_the_keyboard_reaches_everything(rig: Rig, alerted: str, open_page: Open) -> None:
    page = open_page(rig)
    expect(page.locator(".alert").first).to_be_visible()
    wanted: set[str] = set(
        page.evaluate(
            """() => [...document.querySelectorAll("button, input, a, summary")]
                .filter((e) => e.checkVisibility() && !e.disabled && e.tabIndex >= 0 && e.id !== "file")
                .map((e, i) => (e.dataset.walk = String(i)))"""
        )
    )
    assert len(wanted) > 10
    reached: set[str] = set()
    for _ in range(3 * len(wanted)):
        page.keyboard.press("Tab")
        at, outline = page.evaluate(
            "() => [document.activeElement.dataset.walk, getComputedStyle(document.activeElement).outlineStyle]"
        )
        if at is not None:
            reached.add(at)
            assert outline != "none"
        if reached == wanted:
            break
    assert reached == wanted


def test_shortcuts_work_and_can_be_switched_off(rig: Rig, alerted: str, open_page: Open, speech: np.ndarray) -> None:
    rig.play("zulu", speech[:RATE])
    page = open_page(rig)
    page.get_by_role("button", name="caller", exact=True).click()
    page.keyboard.press("Shift+?")
    expect(page.get_by_role("dialog")).to_be_visible()
    check_accessibility(page)
    page.keyboard.press("Escape")
    names = page.locator("#rows tr:visible .name button").all_inner_texts()
    for _ in names:
        page.keyboard.press("j")
    expect(page.locator("#scope-title")).to_have_text(names[-1])
    page.keyboard.press("k")
    expect(page.locator("#scope-title")).to_have_text(names[-2])
    page.keyboard.press("/")
    expect(page.locator("#filter")).to_be_focused()
    page.keyboard.type("ch")
    expect(page.locator("#filter")).to_have_value("ch")
    page.keyboard.press("Escape")
    page.keyboard.press("v")
    expect(page.locator(".proof").first).not_to_be_empty()
    page.keyboard.press("p")
    expect(page.get_by_role("button", name=re.compile("^Pause"))).to_be_visible()
    page.keyboard.press("p")
    page.keyboard.press("t")
    expect(page.locator("#theme")).to_have_text("Theme: light")
    page.keyboard.press("Shift+?")
    page.get_by_label("Single-key shortcuts").uncheck()
    page.get_by_role("button", name="Close").click()
    page.keyboard.press("t")
    expect(page.locator("#theme")).to_have_text("Theme: light")
    rig.end("zulu")


@pytest.mark.parametrize(("width", "height"), [(360, 740), (1280, 800)])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_both_themes_at_both_widths(
    rig: Rig, alerted: str, open_page: Open, scheme: Any, width: int, height: int, speech: np.ndarray
) -> None:
    name = f"the-switchboard-of-the-{scheme}-house-{width}"
    rig.play(name, speech[: int(31.0 * RATE)])
    page = open_page(rig, width=width, height=height, color_scheme=scheme)
    expect(page.locator(".alert").first).to_be_visible()
    row = page.get_by_role("row").filter(has=page.get_by_role("button", name=name, exact=True))
    expect(row.locator(".word")).to_have_text("SYNTHETIC")  # the widest word that can stand there
    wide, room = page.locator("#streams-scroll").evaluate("e => [e.scrollWidth, e.clientWidth]")
    assert wide <= room
    card = page.locator("#streams-scroll").bounding_box()
    assert card is not None
    for cell in row.get_by_role("cell").all():
        box = cell.bounding_box()
        assert box is not None
        assert box["width"] > 20
        assert box["x"] + box["width"] <= card["x"] + card["width"]
    shown = row.locator(".name button").bounding_box()
    assert shown is not None
    assert shown["width"] > 80  # and there is room for a name
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    dark = sum(map(int, re.findall(r"\d+", ground))) < 200
    assert dark == (scheme == "dark")
    for clipped in page.locator("#rows td:visible, #rows th:visible").all():
        box = clipped.bounding_box()
        assert box is not None
        assert box["x"] + box["width"] <= width
    check_accessibility(page)
    if scheme == "dark":
        page.locator("#theme").click()
        wait_for(lambda: page.evaluate("getComputedStyle(document.body).backgroundColor") != ground)
    rig.end(name)


def test_fifty_streams_stay_smooth(make_rig: Make, open_page: Open, speech: np.ndarray) -> None:
    rig = make_rig(waiting=3)
    page = open_page(rig, reduced_motion="no-preference")
    for name in range(50):
        rig.play(f"line-{name:02d}", speech[: RATE // 2], step=RATE // 2)
    expect(page.locator("#rows tr")).to_have_count(50)
    metrics = page.context.new_cdp_session(page)
    metrics.send("Performance.enable", {"timeDomain": "threadTicks"})
    before = busy(metrics)
    hop = 5120
    began = time.monotonic()
    for at in range(10):
        for name in range(50):
            rig.play(f"line-{name:02d}", speech[at * hop : (at + 1) * hop], step=hop)
        time.sleep(max(0.0, began + 0.32 * (at + 1) - time.monotonic()))
    expect(page.locator("#rows tr").last).to_contain_text(re.compile(r"\d %|undecided|no speech"))
    share = (busy(metrics) - before) / (time.monotonic() - began)
    assert share < 0.6  # of a core, drawing without a GPU
    expect(page.locator("#health")).not_to_contain_text("missed")
    page.get_by_label("Filter streams by name").fill("line-4")
    expect(page.locator("#rows tr:visible")).to_have_count(10)


def test_a_lost_connection_is_shown_and_comes_back(browser: Browser, speech: np.ndarray) -> None:
    rig = Rig()
    port, url = rig.port, rig.url
    page = browser.new_page()
    page.goto(url)
    rig.play("caller", speech[:RATE])
    expect(page.locator("#rows tr")).to_have_count(1)
    rig.close()
    expect(page.locator("body")).to_have_attribute("data-link", "stopped")
    expect(page.locator("#link-text")).to_contain_text("streamdet has stopped")
    again = Rig(listen=f"127.0.0.1:{port}")
    expect(page.locator("#link-text")).to_have_text("Connected")
    expect(page.locator("#streams-empty")).to_be_visible()
    page.context.set_offline(True)
    page.context.set_offline(False)
    page.close()
    again.close()


def test_a_token_opens_the_page_and_leaves_the_address_bar(make_rig: Make, open_page: Open) -> None:
    rig = make_rig(auth="token")
    page = open_page(rig)
    assert "token" not in page.url
    page.reload()
    expect(page.locator("#link-text")).to_have_text("Connected")
    assert request(rig.port, "GET", "/").status == 401
