"""The page of all options, made from the fields themselves so that it cannot be wrong."""

from __future__ import annotations

import types
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import annotated_types
from pydantic.fields import FieldInfo

from streamdet.config import Config, Section

INTRODUCTION: Final = """# Configuration

`streamdet listen --config FILE` reads one TOML file; `streamdet check-config FILE` says what it comes to without
running anything. An unknown key or a value out of bounds is an error. Where the command line gives an option too,
it wins.

This page is made by `streamdet check-config --reference`; a test keeps it up to date.
"""
PER_STREAM: Final = """
The first section whose `match` fits the name of a stream holds for it, and no other; keys it does not set are as in the
global tables. A section that names an `operating_point` takes `raise`, `clear`, `min_seconds` and `smoothing` from that
point of the model file, not from the global tables. Names are compared with upper and lower case, `*` also matches `/`.

```toml
[[stream]]
match = "line-*"                 # telephone lines: shorter words, more patience
alarm = { raise = 0.95, min_seconds = 2.0 }

[[stream]]
match = "desk"
operating_point = "strict"
windows = { short = 4.0 }
```
"""


def reference() -> str:
    """Write the page, in Markdown."""
    scalar = [(name, field) for name, field in Config.model_fields.items() if _section(field) is None]
    tables = [(name, field) for name, field in Config.model_fields.items() if _section(field) is not None]
    parts = [INTRODUCTION, "## At the top of the file\n", *_table(scalar)]
    for name, field in tables:
        parts += _chapter(name, field)
    return "\n".join(parts).rstrip("\n") + "\n"


def _chapter(name: str, field: FieldInfo) -> Iterator[str]:
    section = _section(field)
    assert section is not None
    title = f"[[{name}]]" if _repeats(field) else f"[{name}]"
    yield f"\n## `{title}`\n"
    yield _purpose(section)
    if name == "stream":
        yield PER_STREAM
    else:
        yield ""
    inner = [(key, value) for key, value in section.model_fields.items() if _section(value) is not None]
    yield from _table([(key, value) for key, value in section.model_fields.items() if _section(value) is None])
    for key, value in inner:
        nested = _section(value)
        assert nested is not None
        yield f"\n### `[{name}.{key}]`\n"
        yield _purpose(nested) + "\n"
        yield from _table(list(nested.model_fields.items()))


def _purpose(section: type[Section]) -> str:
    text = " ".join((section.__doc__ or "").split())
    told = text.split("``: ", 1)[-1]
    return (told[:1].upper() + told[1:]).replace("``", "`")


def _table(fields: list[tuple[str, FieldInfo]]) -> Iterator[str]:
    yield "| key | values | default | meaning |"
    yield "|---|---|---|---|"
    for name, field in fields:
        meaning = (field.description or "").replace("|", "\\|")
        yield f"| `{field.alias or name}` | {_values(field)} | {_default(field)} | {meaning} |"


def _values(field: FieldInfo) -> str:
    kind = _kind(field.annotation)
    low = [f"{'≥' if isinstance(m, annotated_types.Ge) else '>'} {_bound(m)}" for m in field.metadata if _is_low(m)]
    high = [f"{'≤' if isinstance(m, annotated_types.Le) else '<'} {_bound(m)}" for m in field.metadata if _is_high(m)]
    return ", ".join([kind, *low, *high])


def _is_low(mark: object) -> bool:
    return isinstance(mark, annotated_types.Ge | annotated_types.Gt)


def _is_high(mark: object) -> bool:
    return isinstance(mark, annotated_types.Le | annotated_types.Lt)


def _bound(mark: Any) -> str:
    return next(f"{getattr(mark, name):g}" for name in ("ge", "gt", "le", "lt") if hasattr(mark, name))


def _kind(annotation: Any) -> str:
    if typing.get_origin(annotation) is typing.Annotated:
        return _kind(typing.get_args(annotation)[0])
    options = [entry for entry in typing.get_args(annotation) if entry is not type(None)]
    origin = typing.get_origin(annotation)
    if origin in (types.UnionType, typing.Union):
        return " or ".join(_kind(option) for option in options)
    if origin is typing.Literal:
        return ", ".join(f"`{option}`" for option in options)
    if origin is tuple:
        return f"list of {_kind(options[0])}"
    if hasattr(annotation, "__value__"):
        return _kind(annotation.__value__)
    names = {bool: "`true`, `false`", int: "whole number", float: "number", str: "text", Path: "path"}
    return names.get(annotation, str(annotation))


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "needed"
    value = field.default
    if value is None or value == ():
        return ""
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, tuple):
        return f"`[{', '.join(_quoted(entry) for entry in value)}]`"
    return f"`{_quoted(value)}`"


def _quoted(value: object) -> str:
    return f'"{value}"' if isinstance(value, str | Path) else f"{value:g}" if isinstance(value, float) else str(value)


def _section(field: FieldInfo) -> type[Section] | None:
    annotation: Any = field.annotation
    for entry in (annotation, *typing.get_args(annotation)):
        if isinstance(entry, type) and issubclass(entry, Section):
            return entry
    return None


def _repeats(field: FieldInfo) -> bool:
    return typing.get_origin(field.annotation) is tuple
