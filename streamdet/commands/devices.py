"""``streamdet devices``."""

from __future__ import annotations

import dataclasses
import json

from rich.console import Console
from rich.table import Table
from rich.text import Text

from streamdet.sources.cards import card_of, read_cards
from streamdet.sources.explain import Finding, explain
from streamdet.sources.microphone import Device, list_devices

SIGNS = {"ok": "[green]ok[/]", "note": "[yellow]note[/]", "fault": "[red]fault[/]"}


def run_devices(*, as_json: bool) -> None:
    """Print all microphones; raises DependencyError where PortAudio is not installed."""
    found = list_devices()
    if as_json:
        print(json.dumps([{**dataclasses.asdict(device), "tokens": _tokens(device)} for device in found]))
        return
    table = Table(box=None, header_style="bold")
    for title in ("device", "name", "host API", "channels", "rate", "stays the same"):
        table.add_column(title)
    for device in found:
        token = next((f"mic:{token}" for token in _tokens(device)), "")
        table.add_row(*(Text(str(value)) for value in dataclasses.astuple(device)), token)
    Console().print(table if found else "no microphone found; `streamdet devices --explain` looks for the reason")


def run_explain(*, as_json: bool) -> int:
    """Print why microphones are there or missing; returns 3 where there is none to record from, else 0."""
    findings = explain()
    if as_json:
        print(json.dumps([dataclasses.asdict(finding) for finding in findings]))
    else:
        _show(findings)
    return 0 if any(finding.what.startswith("microphone ") for finding in findings) else 3


def _show(findings: list[Finding]) -> None:
    table = Table(box=None, show_header=False)
    for finding in findings:
        says = Text(finding.says)
        if finding.do:
            says.append(f"\n→ {finding.do}", style="dim")
        table.add_row(SIGNS[finding.result], Text(finding.what), says)
    Console().print(table)


def _tokens(device: Device) -> list[str]:
    number = card_of(device.name)
    card = None if number is None else read_cards().get(number)
    return [] if card is None else list(card.tokens)
