from __future__ import annotations

import pytest

from streamdet.endpoint import has_impossible_port


@pytest.mark.parametrize(
    ("endpoint", "wanted"),
    [
        ("tcp://127.0.0.1:5560", False),
        ("tcp://127.0.0.1:65535", False),
        ("tcp://127.0.0.1:65536", True),
        ("tcp://[::1]:99999", True),
        ("tcp://127.0.0.1:*", False),
        ("tcp://127.0.0.1", False),
        ("ipc:///run/streamdet:99999", False),
    ],
)
def test_impossible_ports(endpoint: str, wanted: bool) -> None:
    assert has_impossible_port(endpoint) is wanted
