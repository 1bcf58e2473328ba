"""Readers of published data sets: each turns a folder, as it is distributed, into clips.

``open_dataset("inthewild:/data/release_in_the_wild")`` names the layout, ``open_dataset("/data/LA")`` recognises it.
"""

from __future__ import annotations

from pathlib import Path

from trainer.data.errors import DataError
from trainer.data.readers import asvspoof, fakeorreal, folder, inthewild, manifest, mlaad, wavefake
from trainer.data.readers.base import Dataset, Layout, Options, read

LAYOUTS: dict[str, Layout] = {
    layout.name: layout
    for layout in (
        manifest.LAYOUT,
        folder.LAYOUT,
        inthewild.LAYOUT,
        asvspoof.LAYOUT_2019,
        asvspoof.LAYOUT_2021_LA,
        asvspoof.LAYOUT_2021_DF,
        asvspoof.LAYOUT_5,
        fakeorreal.LAYOUT,
        wavefake.LAYOUT,
        mlaad.LAYOUT,
    )
}
__all__ = ["LAYOUTS", "Dataset", "Layout", "Options", "detect", "listing", "open_dataset"]


def listing() -> str:
    """One line for each layout: name and looks."""
    return "\n".join(f"  {layout.name}: {layout.looks}" for layout in LAYOUTS.values())


def detect(root: Path) -> Layout:
    """Recognise the layout of a folder or manifest.

    Raises:
        DataError: nothing is there, no layout fits, or more than one does.
    """
    if not root.exists():
        raise DataError(f"{root}: no such file or folder")
    found = [layout for layout in LAYOUTS.values() if layout.detect(root)]
    found = [layout for layout in found if layout is not folder.LAYOUT] or found  # MLAAD too has real/ and fake/
    if len(found) == 1:
        return found[0]
    if found:
        choices = " or ".join(f"{layout.name}:{root}" for layout in found)
        raise DataError(f"{root}: more than one layout fits; say {choices}")
    raise DataError(f"{root}: no known layout fits. Known are\n{listing()}")


def open_dataset(place: str | Path, options: Options | None = None) -> Dataset:
    """Read ``LAYOUT:PATH``, or ``PATH`` alone with its layout recognised.

    Raises:
        DataError: the layout is unknown or cannot be recognised, or its lists are missing or malformed.
    """
    name, colon, rest = str(place).partition(":")
    if colon and name in LAYOUTS:
        return read(LAYOUTS[name], Path(rest), options or Options())
    if colon and name.isalnum() and not Path(place).exists():
        raise DataError(f"{name}: not a known layout. Known are\n{listing()}")
    root = Path(place)
    return read(detect(root), root, options or Options())
