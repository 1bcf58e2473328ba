"""How every ONNX Runtime session of this process is set up."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import onnxruntime


def session_options() -> onnxruntime.SessionOptions:
    """One thread, no spinning: idle ONNX Runtime threads that spin burn a whole core (onnxruntime pull 11841)."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    options.log_severity_level = 3
    return options


def load_session(
    network: bytes, *, providers: Sequence[str | tuple[str, dict[str, Any]]] = ("CPUExecutionProvider",)
) -> onnxruntime.InferenceSession:
    """Load a network from memory, and keep no copy of it beside what ONNX Runtime makes of it.

    A session that is given bytes holds on to them for its whole life, so it is given the path of a file that exists in
    memory alone and is gone when this returns: what was checked is still exactly what is loaded.
    """
    handle = os.memfd_create("network")
    try:
        with os.fdopen(handle, "wb", closefd=False) as file:
            file.write(network)
        del network  # the caller may have let go of it too; what follows needs the most memory
        return onnxruntime.InferenceSession(f"/proc/self/fd/{handle}", session_options(), providers=list(providers))
    finally:
        os.close(handle)
