"""What libzmq does not check of an endpoint."""

from __future__ import annotations

HIGHEST_PORT = 65_535


def has_impossible_port(endpoint: str) -> bool:
    """Tell whether a ``tcp://`` endpoint names a port above 65,535, which libzmq would take modulo 65,536."""
    port = endpoint.rpartition(":")[2]
    return endpoint.startswith("tcp://") and port.isdecimal() and int(port) > HIGHEST_PORT
