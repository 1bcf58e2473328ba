"""Changes what a model file says of itself, the network left as it is."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import onnx

from streamdet.engine.modelfile import ModelInfo, read_model, seal


def restamp(path: Path, **changes: Any) -> ModelInfo:
    """Replace fields of the :class:`~streamdet.engine.modelfile.ModelInfo` in a model file, in one piece.

    Returns:
        The description as it is now read back, with the new digest.

    Raises:
        ModelError: the file is not a model that :func:`~streamdet.engine.modelfile.read_model` accepts.
    """
    content, info = read_model(path)
    model = onnx.load_from_string(content)
    del model.metadata_props[:]
    partial = path.with_name(f".{path.name}")
    partial.write_bytes(seal(model.SerializeToString(), dataclasses.replace(info, **changes)))
    partial.replace(path)
    return read_model(path)[1]
