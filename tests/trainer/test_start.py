"""The ``trainer`` command where its extra is missing."""

import subprocess
import sys


def test_a_missing_extra_is_named_in_one_line() -> None:
    code = "import sys; sys.modules['torch'] = None; from trainer.start import main; main()"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=250)
    assert ended.returncode == 5
    assert ended.stderr == "trainer: torch is not installed: pip install 'streamdet[trainer]'\n"
