"""``streamdet keys``: makes CURVE keys and shows which there are."""

from __future__ import annotations

import json
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from streamdet.keys import SERVER, KeyRing, load_public, make_keys


def run_make(directory: Path, name: str) -> None:
    """Make a client's keys and say what to do with them.

    Raises:
        ConfigError: the name is none or taken, or the directory cannot be written.
    """
    make_keys(directory, name)
    print(f"made keys for {name}; it may connect now")
    print(f"give {name}: {directory / f'{name}.key_secret'} (secret) and {directory / f'{SERVER}.key'}")
    print(f"use them: streamdet watch --key {name}.key_secret --server-key {SERVER}.key")


def run_list(directory: Path, *, as_json: bool) -> None:
    """List who may connect.

    Raises:
        ConfigError: there is no key directory, others can read it, or a file in it is no key.
    """
    ring = KeyRing(directory)
    clients = {name: key.decode() for key, name in sorted(ring.allowed().items(), key=lambda entry: entry[1])}
    server = load_public(directory / f"{SERVER}.key").decode()
    if as_json:
        print(json.dumps({"server": server, "clients": clients}))
        return
    table = Table(box=None, header_style="bold")
    for title in ("name", "public key"):
        table.add_column(title, no_wrap=True)
    table.add_row(f"{SERVER} (itself)", server)
    for name, key in clients.items():
        table.add_row(Text(name), key)
    Console().print(table)
