"""Sound cards as the kernel lists them, and words for one that stay true over reboots and ports.

PortAudio knows a card by its number, which changes with the order in which cards are found. The kernel (``/sys``) knows
where it is plugged in and what it is. Two tokens come of that: ``usb:1-1.2``, the port, and ``usb:046d:0825:9f3c2a61``,
vendor, product and a digest of the serial number. The serial number itself names one thing in the world, often with its
owner beside it in a shop's list, so it is read but never shown.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_CARD: Final = re.compile(r"\(hw:(\d+),\d+\)")
_DIGITS: Final = 8


@dataclass(frozen=True, slots=True)
class Card:
    """One sound card; ``tokens`` is empty for one that is not on USB."""

    number: int
    name: str
    tokens: tuple[str, ...] = ()


def read_cards(root: Path = Path("/")) -> dict[int, Card]:
    """Find the sound cards of a Linux machine by number; none elsewhere."""
    cards = {}
    for folder in sorted(root.glob("sys/class/sound/card[0-9]*")):
        number = int(folder.name.removeprefix("card"))
        cards[number] = Card(number, _text(folder / "id") or folder.name, _tokens(folder / "device"))
    return cards


def card_of(device_name: str) -> int | None:
    """Give the number of the card behind a device that PortAudio calls ``... (hw:1,0)``, or None."""
    match = _CARD.search(device_name)
    return None if match is None else int(match[1])


def same_card(card: Card, wanted: str) -> bool:
    """Tell whether a token means this card; one without a serial number means any of its kind."""
    wanted = masked_token(wanted)
    return any(token == wanted or token.startswith(wanted + ":") for token in card.tokens)


def masked_token(token: str) -> str:
    """Put the digest of a serial number in its place, as :attr:`Card.tokens` have it."""
    kind, *rest = token.split(":")
    if kind.lower() != "usb" or len(rest) < 3:
        return token.lower()
    serial = ":".join(rest[2:])
    known = re.fullmatch(rf"[0-9a-f]{{{_DIGITS}}}", serial)
    return ":".join(["usb", rest[0].lower(), rest[1].lower(), serial if known else _digest(serial)])


def is_token(text: str) -> bool:
    """Tell whether a device is asked for by token."""
    return text.lower().startswith("usb:")


def _digest(serial: str) -> str:
    return hashlib.sha256(serial.encode()).hexdigest()[:_DIGITS]


def _tokens(device: Path) -> tuple[str, ...]:
    place = device.resolve()
    while place != place.parent and not (place / "idVendor").exists():
        place = place.parent
    vendor, product, serial = (_text(place / name) for name in ("idVendor", "idProduct", "serial"))
    if not vendor or not product:
        return ()
    kind = f"usb:{vendor.lower()}:{product.lower()}"
    return f"usb:{place.name.lower()}", f"{kind}:{_digest(serial)}" if serial else kind


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return ""
