"""The picture of a recording: spectrogram, and under it p_fake over the same time; drawn without a display."""

from __future__ import annotations

import io
from dataclasses import dataclass
from functools import cache
from typing import Final

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from streamdet.features.logmel import FloatArray, FrontEndConfig

WIDTH: Final = 1200
LEFT, RIGHT = 84, 1180
TOP, MIDDLE = 64, 344
UPPER, LOWER = 372, 532
HEIGHT: Final = 580
RANGE: Final = 11.0  # nats below the loudest that are drawn
INK, FAINT, PAPER = (30, 34, 42), (205, 210, 218), (255, 255, 255)
GROUND: Final = (236, 238, 242)  # where there is no sound
RED, BLUE, ORANGE = (192, 32, 38), (32, 86, 168), (214, 112, 0)
# Dark blue over purple and orange to pale yellow: brightness rises all the way, so it reads in grey too.
COLOURS: Final = np.array([(10, 8, 34), (74, 20, 104), (158, 42, 99), (225, 92, 55), (250, 170, 50), (252, 252, 190)])


@dataclass(frozen=True, slots=True)
class Drawing:
    """What is drawn; times are media times in seconds, ``frames`` natural-log mel powers ``[frames, mels]``."""

    title: str
    frames: FloatArray
    frame_seconds: float
    start: float
    scores: tuple[tuple[float, float | None], ...]
    raise_at: tuple[tuple[float, float], ...]  # from when on, and the probability
    onset: float
    raised: float
    cleared: float | None
    front_end: FrontEndConfig

    @property
    def stop(self) -> float:
        """Where the picture ends: at the last score, even where the sound was cut off before."""
        last = self.scores[-1][0] if self.scores else self.start
        return max(self.start + 1.0, self.start + len(self.frames) * self.frame_seconds, last)


def draw(drawing: Drawing) -> bytes:
    """Draw it as PNG."""
    image = Image.new("RGB", (WIDTH, HEIGHT), PAPER)
    pen = ImageDraw.Draw(image)
    _spectrogram(image, drawing)
    _axes(pen, drawing)
    _scores(pen, drawing)
    _marks(pen, drawing)
    target = io.BytesIO()
    image.quantize(palette=_palette(), dither=Image.Dither.NONE).save(target, "PNG", compress_level=3)
    return target.getvalue()


@cache
def _palette() -> Image.Image:
    """All colours there are, so that none have to be looked for in each picture: the ramp, and inks fading to paper.

    Nothing but paper is nearly white: Pillow rounds before it looks for the nearest colour.
    """
    inks = [np.linspace(ink, PAPER, 7)[:-1] for ink in (INK, RED, BLUE, ORANGE)]
    palette = Image.new("P", (1, 1))
    palette.putpalette(np.concatenate([[PAPER, FAINT, GROUND], _ramp(128), *inks]).astype(np.uint8).tobytes())
    return palette


def _ramp(steps: int) -> npt.NDArray[np.float64]:
    """Colours ``[steps, 3]`` from the quietest to the loudest."""
    at, stops = np.linspace(0.0, 1.0, steps), np.linspace(0.0, 1.0, len(COLOURS))
    return np.stack([np.interp(at, stops, COLOURS[:, part]) for part in range(3)], axis=-1)


@cache
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


def _x(drawing: Drawing, at: float) -> float:
    return LEFT + (RIGHT - LEFT) * (at - drawing.start) / (drawing.stop - drawing.start)


def _spectrogram(image: Image.Image, drawing: Drawing) -> None:
    frames = drawing.frames
    ImageDraw.Draw(image).rectangle((LEFT, TOP, RIGHT, MIDDLE), fill=GROUND)
    width = round(_x(drawing, drawing.start + len(frames) * drawing.frame_seconds)) - LEFT
    if len(frames) == 0 or width < 1:
        return
    edges = np.linspace(0, len(frames), min(width, len(frames)) + 1).astype(int)[:-1]
    columns = np.maximum.reduceat(frames, edges, axis=0)
    top = float(columns.max())
    level = np.clip((columns - (top - RANGE)) / RANGE, 0.0, 1.0).T[::-1]
    picture = Image.fromarray(_coloured(level)).resize((width, MIDDLE - TOP), Image.Resampling.NEAREST)
    image.paste(picture, (LEFT, TOP))


def _coloured(level: npt.NDArray[np.float64]) -> npt.NDArray[np.uint8]:
    table: npt.NDArray[np.uint8] = _ramp(128).astype(np.uint8)
    return table[(level * 127).astype(np.intp)]


def _axes(pen: ImageDraw.ImageDraw, drawing: Drawing) -> None:
    small = _font(15)
    pen.text((LEFT, 10), drawing.title, fill=INK, font=_font(20))
    for box in ((LEFT, TOP, RIGHT, MIDDLE), (LEFT, UPPER, RIGHT, LOWER)):
        pen.rectangle(box, outline=INK)
    for hertz, y in _frequencies(drawing.front_end):
        pen.line((LEFT - 5, y, LEFT, y), fill=INK)
        pen.text((LEFT - 9, y), hertz, fill=INK, font=small, anchor="rm")
    for share in (0.0, 0.5, 1.0):
        y = _y(share)
        pen.line((LEFT, y, RIGHT, y), fill=FAINT)
        pen.text((LEFT - 9, y), f"{share:g}", fill=INK, font=small, anchor="rm")
    pen.text((8, UPPER + (LOWER - UPPER) / 4), "p_fake", fill=BLUE, font=small, anchor="lm")
    length = drawing.stop - drawing.start
    step = next(step for step in (1, 2, 5, 10, 20, 30, 60, 120, 300) if length / step <= 14 or step == 300)
    for at in np.arange(np.ceil(drawing.start / step) * step, drawing.stop, step):
        x = _x(drawing, float(at))
        pen.line((x, LOWER, x, LOWER + 5), fill=INK)
        pen.text((x, LOWER + 8), f"{at:g}", fill=INK, font=small, anchor="mt")
    pen.text((RIGHT, HEIGHT - 6), "seconds of the stream", fill=INK, font=small, anchor="rb")


def _frequencies(front_end: FrontEndConfig) -> list[tuple[str, float]]:
    def place(hertz: float) -> float:
        return hertz if front_end.bands == "linear" else float(np.log1p(hertz / 700.0))

    low, high = place(front_end.low), place(front_end.high)
    named = {250: "250 Hz", 1000: "1 kHz", 2000: "2 kHz", 4000: "4 kHz"}
    return [(name, MIDDLE - (MIDDLE - TOP) * (place(hertz) - low) / (high - low)) for hertz, name in named.items()]


def _y(share: float) -> float:
    return LOWER - (LOWER - UPPER) * share


def _scores(pen: ImageDraw.ImageDraw, drawing: Drawing) -> None:
    _thresholds(pen, drawing)
    before: tuple[float, float] | None = None
    for at, share in drawing.scores:
        point = None if share is None or at < drawing.start else (_x(drawing, at), _y(share))
        if before is not None and point is not None:
            pen.line((*before, *point), fill=BLUE, width=3)
        before = point


def _thresholds(pen: ImageDraw.ImageDraw, drawing: Drawing) -> None:
    """Draw what was in force: a reload in the middle of an alert is a step."""
    ends = [*(at for at, _ in drawing.raise_at[1:]), drawing.stop]
    for (at, value), end in zip(drawing.raise_at, ends, strict=True):
        y, left, right = _y(value), round(_x(drawing, max(at, drawing.start))), round(_x(drawing, end))
        for x in range(left, right, 12):
            pen.line((x, y, min(x + 6, right), y), fill=RED, width=2)
        pen.text((right - 6, y + 3), f"raise {value:.2f}", fill=RED, font=_font(15), anchor="rt")


def _marks(pen: ImageDraw.ImageDraw, drawing: Drawing) -> None:
    marks = [("onset", drawing.onset, ORANGE), ("raised", drawing.raised, RED), ("cleared", drawing.cleared, BLUE)]
    free = 0.0  # where the last label ends
    for name, at, colour in marks:
        if at is None or not drawing.start <= at <= drawing.stop + 1e-6:
            continue
        x = _x(drawing, at)
        for y in (*range(TOP, MIDDLE, 10), *range(UPPER, LOWER, 10)):
            pen.line((x, y, x, y + 6), fill=colour, width=2)
        text, font = f"{name} {at:.1f} s", _font(15)
        width = pen.textlength(text, font=font)
        left = min(max(free, x - width / 2), WIDTH - width - 4)
        pen.text((left, TOP - 5), text, fill=colour, font=font, anchor="ls")
        free = left + width + 12
