"""How every ONNX Runtime session of this process is set up."""

from __future__ import annotations

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
