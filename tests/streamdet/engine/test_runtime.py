"""Sessions and the allocator: what is loaded is held once."""

import ctypes
import subprocess
import sys

from streamdet.bundled import bundled_model
from streamdet.engine.runtime import load_session

TWICE = """
import sys
from pathlib import Path
from streamdet.bench.machine import resident_mb
from streamdet.engine.memory import give_back_memory, keep_working_memory
import onnxruntime
from streamdet.engine.runtime import load_session, session_options
content = Path(sys.argv[1]).read_bytes()
keep_working_memory()
before = resident_mb()
if sys.argv[2] == "bytes":
    session = onnxruntime.InferenceSession(bytes(bytearray(content)), session_options())
else:
    session = load_session(content)
    give_back_memory()
print(resident_mb() - before)
"""


def grown(how: str) -> float:
    done = subprocess.run(
        [sys.executable, "-c", TWICE, str(bundled_model("edge")), how], capture_output=True, text=True, check=True
    )
    return float(done.stdout)


def test_a_session_holds_no_second_copy_of_its_network() -> None:
    size = bundled_model("edge").stat().st_size / 1e6
    assert grown("bytes") - grown("memory") > 0.8 * size


def test_a_session_from_memory_is_the_network_it_was_given() -> None:
    content = bundled_model("edge").read_bytes()
    session = load_session(content)
    assert session.get_inputs()[0].name == "features"
    assert session.get_modelmeta().custom_metadata_map["streamdet.digest"].encode() == content[-64:]


FAULTS = """
import resource
import numpy as np
from streamdet.engine.memory import keep_working_memory
from streamdet.features import FrontEnd
keep_working_memory()
front_end, samples = FrontEnd(), np.full((8, 5120), 0.1, np.float32)
state = front_end.start(8)
for _ in range(5):
    front_end(samples, state)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(50):
    front_end(samples, state)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def test_a_hop_faults_no_memory_in_once_it_is_warm() -> None:
    if not hasattr(ctypes.CDLL(None), "mallopt"):
        return
    done = subprocess.run([sys.executable, "-c", FAULTS], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 50  # without, 280 a hop
