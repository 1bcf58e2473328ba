"""A window peer says what the streaming network says: it is the same work, only all of it at every hop."""

import numpy as np
import onnxruntime
import pytest

from streamdet.bench.windows import window_network
from streamdet.bundled import bundled_model
from streamdet.engine.modelfile import read_model
from streamdet.engine.onnx import OnnxEngine
from streamdet.errors import ModelError
from streamdet.features import FrontEnd

HOPS = 5


def test_windows_equal_a_fresh_stream(speech: np.ndarray) -> None:
    content, info = read_model(bundled_model("edge"))
    features = FrontEnd(info.front_end).whole(speech[160_000 : 160_000 + HOPS * 5_120])
    session = onnxruntime.InferenceSession(window_network(content, HOPS * 32), providers=["CPUExecutionProvider"])
    assert len(session.get_inputs()) == len(session.get_outputs()) == 1
    (window,) = session.run(None, {"features": features[None]})
    engine = OnnxEngine(bundled_model("edge"))
    slots = np.array([engine.allocate()], np.intp)
    streamed = np.concatenate([engine.step(slots, hop[None]) for hop in np.split(features, HOPS)])
    assert np.ptp(streamed[:, 0]) > 0
    np.testing.assert_allclose(window, streamed, atol=1e-5 if info.precision == "int8" else 1e-3)


def test_another_network_is_refused() -> None:
    onnx = pytest.importorskip("onnx")
    value = onnx.helper.make_tensor_value_info("x", 1, ["batch", 32, 64])
    node = onnx.helper.make_node("Identity", ["x"], ["y"])
    graph = onnx.helper.make_graph([node], "other", [value], [onnx.helper.make_tensor_value_info("y", 1, None)])
    content = onnx.helper.make_model(graph).SerializeToString()
    with pytest.raises(ModelError, match="cannot make a window network"):
        window_network(content, 64)
