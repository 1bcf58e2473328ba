"""What libzmq does not check of an endpoint."""

from __future__ import annotations

HIGHEST_PORT = 65_535


def is_exposed(endpoint: str) -> bool:
    """Tell whether other machines can reach what is bound to the endpoint."""
    host = endpoint.removeprefix("tcp://").rpartition(":")[0]
    local = host.startswith("127.") or host in ("localhost", "[::1]")
    return endpoint.startswith("tcp://") and not local


def has_impossible_port(endpoint: str) -> bool:
    """Tell whether a ``tcp://`` endpoint names a port above 65,535, which libzmq would take modulo 65,536."""
    port = endpoint.rpartition(":")[2]
    return endpoint.startswith("tcp://") and port.isdecimal() and int(port) > HIGHEST_PORT
