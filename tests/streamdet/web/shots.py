"""Pictures of the page for the documentation: ``python -m tests.streamdet.web.shots docs``."""

from __future__ import annotations

import io
import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np
import soundfile
from PIL import Image
from playwright.sync_api import Browser, expect, sync_playwright

from ..conftest import DEMO
from .conftest import RATE, SYNTHETIC, Rig, wait_for

SIZES = {"page": (1280, 960), "page-phone": (360, 1480)}


def feed(rig: Rig, speech: np.ndarray) -> None:
    """Let there be a caller who sounds synthetic now, one who did, and somebody human."""
    rig.play("front-desk", speech[: SYNTHETIC.stop + 9 * RATE])
    rig.play("line-2", speech[: int(22.7 * RATE)])
    rig.play("caller", np.concatenate((speech[SYNTHETIC.stop :], speech[: 33 * RATE])))
    for name in ("front-desk", "line-2", "caller"):
        rig.say(name, "live", "sound comes")
    wait_for(lambda: rig.tick() or any(event.type == "alert" and event.phase == "cleared" for event in rig.events))


def shoot(browser: Browser, rig: Rig, sound: Path, name: str, scheme: str, target: Path) -> None:
    """Take one picture, with a file checked."""
    width, height = SIZES[name]
    context = browser.new_context(
        viewport={"width": width, "height": height},
        color_scheme="dark" if scheme == "dark" else "light",
        reduced_motion="reduce",
    )
    page = context.new_page()
    page.goto(rig.url)
    page.get_by_role("button", name="caller", exact=True).click()
    expect(page.locator("#picture-text")).to_contain_text("caller")
    if name == "page":
        page.locator("#file").set_input_files(sound)
        expect(page.locator(".result .answer")).to_contain_text("confidence", timeout=60_000)
        page.get_by_role("button", name="Verify").last.click()
        expect(page.locator(".proof").last).to_contain_text("Intact")
    picture = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    picture.quantize(128, method=Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE).save(target, optimize=True)
    context.close()


def main() -> None:
    """Write ``page.png`` and ``page-phone.png``, each light and dark (``-dark``), into a folder."""
    folder = Path(sys.argv[1])
    speech, _ = soundfile.read(DEMO, dtype="float32")
    with tempfile.TemporaryDirectory() as scratch, sync_playwright() as playwright:
        sound = Path(scratch) / "voicemail.wav"
        soundfile.write(sound, speech[int(18.0 * RATE) : SYNTHETIC.stop], RATE, subtype="PCM_16")
        rig = Rig(evidence=Path(scratch) / "evidence")
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium") or shutil.which("chromium-browser"),
            args=["--no-sandbox", "--disable-gpu"],
        )
        try:
            feed(rig, speech)
            for name in SIZES:
                for scheme in ("light", "dark"):
                    suffix = "-dark" if scheme == "dark" else ""
                    shoot(browser, rig, sound, name, scheme, folder / f"{name}{suffix}.png")
        finally:
            browser.close()
            rig.close()


if __name__ == "__main__":
    main()
