#!/usr/bin/env python3
"""Exits with 0 where a streamdet publishes its health and keeps up: healthcheck.py [ENDPOINT]."""

from __future__ import annotations

import json
import sys

import zmq

PATIENCE = 11.0  # seconds; health comes every 5
LAG_LIMIT = 5000.0  # ms between a hop's arrival and its score


def main() -> int:
    """Wait for one health event and judge it."""
    endpoint = sys.argv[1] if len(sys.argv) > 1 else "tcp://127.0.0.1:5560"
    with zmq.Context() as context, context.socket(zmq.SUB) as socket:
        socket.set(zmq.LINGER, 0)
        socket.subscribe(b"health")
        socket.connect(endpoint)
        if not socket.poll(int(1000 * PATIENCE)):
            print(f"no health event from {endpoint} within {PATIENCE:.0f} s")
            return 1
        health = json.loads(socket.recv_multipart()[1])
    print(f"{health['streams']} streams, {health['alerts']} alerts, {health['lag_ms']:.0f} ms behind")
    return 0 if health["lag_ms"] < LAG_LIMIT else 1


if __name__ == "__main__":
    raise SystemExit(main())
