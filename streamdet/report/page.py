"""Writes a day as HTML: no script, no font, no picture from anywhere else."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from typing import Final

from streamdet.report.day import BINS, Day, StreamDay
from streamdet.version import running_version

WIDTH, HEIGHT, LEFT, BOTTOM = 960, 110, 40, 18  # of a plot, in its own units
DRIFTED: Final = 1.0  # nats between the halves of a day from which on it is worth a look
ORDER: Final = ("spoof", "undecided", "bona_fide", "no_speech")
WORDS: Final = {"spoof": "synthetic", "undecided": "undecided", "bona_fide": "human", "no_speech": "no speech"}
STYLE: Final = """
:root { color-scheme: light dark; --ink: #1c2024; --dim: #5b6570; --paper: #fbfbfa; --card: #fff; --line: #dcdfe3;
 --spoof: #c4302b; --undecided: #b07d00; --bona_fide: #2e7d4f; --no_speech: #9aa3ad; --curve: #2457a6;
 --alert: #c4302b33 }
@media (prefers-color-scheme: dark) { :root { --ink: #e8eaed; --dim: #9aa3ad; --paper: #14171a; --card: #1c2024;
 --line: #343a40; --spoof: #ff6b63; --undecided: #e0b040; --bona_fide: #5fbf85; --no_speech: #66707a;
 --curve: #7aa7f0; --alert: #ff6b6340 } }
* { box-sizing: border-box } body { margin: 0 auto; padding: 2rem 1rem 4rem; max-width: 66rem; background: var(--paper);
 color: var(--ink); font: 16px/1.5 system-ui, sans-serif }
h1 { margin: 0 0 .25rem; font-size: 1.7rem } h2 { font-size: 1.15rem; margin: 0 0 .5rem; overflow-wrap: anywhere }
p { margin: .25rem 0 } .dim { color: var(--dim) } section { background: var(--card); border: 1px solid var(--line);
 border-radius: .6rem; padding: 1rem 1.2rem; margin: 1rem 0 } dl { display: flex; flex-wrap: wrap; gap: .3rem 2rem;
 margin: .5rem 0 } dt { color: var(--dim); font-size: .85rem } dd { margin: 0; font-variant-numeric: tabular-nums }
svg { width: 100%; height: auto; display: block } svg text { font-size: 12px; fill: var(--dim) }
.shares { display: flex; height: .7rem; border-radius: .35rem; overflow: hidden; background: var(--line);
 margin: .6rem 0 .2rem } .plot { overflow-x: auto } .plot svg { min-width: 40rem }
.shares i { display: block } .wide { overflow-x: auto } .wide + .wide { margin-top: 1rem }
table { border-collapse: collapse; width: 100%; font-size: .92rem }
th, td { text-align: left; padding: .3rem .7rem .3rem 0; border-bottom: 1px solid var(--line); vertical-align: top;
 font-variant-numeric: tabular-nums } td { white-space: nowrap }
td.text { white-space: normal; overflow-wrap: anywhere; width: 60% }
th { color: var(--dim); font-weight: 600 } .bad { color: var(--spoof); font-weight: 600 } a { color: var(--curve) }
@media print { body { max-width: none } section { break-inside: avoid } }
"""


def page(day: Day) -> str:
    """Write the page; what came from outside is escaped."""
    streams = sorted(day.streams.values(), key=lambda stream: (-len(stream.alerts), -stream.spoof, stream.name))
    title = f"streamdet, {day.begin:%A, %d %B %Y}"
    body = "".join(_stream(stream) for stream in streams) or "<section><p>Nothing was heard on this day.</p></section>"
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        f"<title>{title}</title><style>{STYLE}</style></head><body><header><h1>{title}</h1>{_head(day)}</header>"
        f'<main>{body}{_health(day)}</main><footer class="dim"><p>All times are UTC. p_fake is always 1 for synthetic.'
        f" streamdet {running_version()}</p></footer></body></html>\n"
    )


def _head(day: Day) -> str:
    alerts = sum(len(stream.alerts) for stream in day.streams.values())
    hours = sum(stream.hours for stream in day.streams.values())
    word = "alert" if alerts == 1 else "alerts"
    return f'<p class="dim">{len(day.streams)} streams, {hours:.1f} hours heard, {alerts} {word}</p>'


def _stream(stream: StreamDay) -> str:
    facts = [("heard", _duration(stream.hours * 3600)), ("alerts", str(len(stream.alerts)))]
    if stream.scores:
        facts.append(("speech", f"{stream.speech / stream.scores:.0%}"))
        facts.append(("lost", f"{stream.lost / stream.scores:.2%}"))
        facts.append(("synthetic", f"{stream.spoof / stream.scores:.1%} of all verdicts"))
    if stream.drift is not None:
        first, second = stream.drift
        mark = ' <span class="bad">drifted</span>' if abs(second - first) > DRIFTED else ""
        facts.append(("mean log-odds, first and second half", f"{first:+.1f}, {second:+.1f}{mark}"))
    listed = "".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in facts)
    return (
        f"<section><h2>{escape(stream.name)}</h2><dl>{listed}</dl>{_timeline(stream)}{_shares(stream)}"
        f"{_alerts(stream)}{_troubles(stream)}</section>"
    )


def _timeline(stream: StreamDay) -> str:
    return "".join(
        (
            f'<div class="plot" tabindex="0"><svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img"',
            f' aria-label="{escape(_spoken(stream), quote=True)}">',
            *_axes(),
            *_bands(stream),
            *_curves(stream),
            "</svg></div>",
        )
    )


def _spoken(stream: StreamDay) -> str:
    peaks = [bin_.highest for bin_ in stream.bins if bin_.highest is not None]
    highest = f"highest {max(peaks):.0%}" if peaks else "nothing judged"
    return f"p_fake of {stream.name} over the day: {highest}, {len(stream.alerts)} alerts"


def _x(share: float) -> float:
    return LEFT + share * (WIDTH - LEFT)


def _y(p_fake: float) -> float:
    return 6 + (1 - p_fake) * (HEIGHT - BOTTOM - 6)


def _axes() -> Iterator[str]:
    for p_fake in (0.0, 0.5, 1.0):
        y = _y(p_fake)
        yield f'<line x1="{LEFT}" x2="{WIDTH}" y1="{y:.1f}" y2="{y:.1f}" stroke="var(--line)"/>'
        yield f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{p_fake:.0%}</text>'
    for hour in range(0, 25, 3):
        anchor = "start" if hour == 0 else "end" if hour == 24 else "middle"
        yield f'<text x="{_x(hour / 24):.1f}" y="{HEIGHT - 3}" text-anchor="{anchor}">{hour:02d}:00</text>'


def _bands(stream: StreamDay) -> Iterator[str]:
    for alert in stream.alerts.values():
        begin = alert.raised / 86_400_000
        width = max(2.0, _x(begin + alert.last["duration"] / 86_400) - _x(begin))
        size = f'y="6" width="{width:.1f}" height="{HEIGHT - BOTTOM - 6}"'
        yield f'<rect x="{_x(begin):.1f}" {size} fill="var(--alert)"/>'


def _curves(stream: StreamDay) -> Iterator[str]:
    """Draw the mean as a line and what lies between it and the highest value as bars."""
    step = (WIDTH - LEFT) / BINS
    run: list[str] = []
    for number in range(BINS + 1):
        bin_ = stream.bins[number] if number < BINS else None
        if bin_ is None or not bin_.judged:
            if run:
                shape = f'points="{" ".join(run)}" fill="none" stroke="var(--curve)" stroke-width="1.6"'
                yield f'<polyline {shape} stroke-linecap="round"/>'
            run = []
            continue
        mean, high = bin_.total / bin_.judged, bin_.highest or 0.0
        x = _x(number / BINS)
        colour = "spoof" if high >= 0.5 else "no_speech"
        tall = max(1.0, _y(mean) - _y(high))
        yield (
            f'<rect x="{x:.1f}" y="{_y(high):.1f}" width="{step:.2f}" height="{tall:.1f}" fill="var(--{colour})"'
            ' opacity="0.45"/>'
        )
        run += [f"{x:.1f},{_y(mean):.1f}", f"{x + step:.1f},{_y(mean):.1f}"]


def _shares(stream: StreamDay) -> str:
    total = sum(stream.verdicts.values())
    if not total:
        return ""
    known = [(verdict, stream.verdicts[verdict] / total) for verdict in ORDER if stream.verdicts[verdict]]
    bars = "".join(f'<i style="width:{share:.2%};background:var(--{verdict})"></i>' for verdict, share in known)
    told = ", ".join(f"{WORDS[verdict]} {share:.1%}" for verdict, share in known)
    told = f"verdicts, where single scores are kept: {told}"
    return f'<div class="shares" aria-hidden="true">{bars}</div><p class="dim">{told}</p>'


def _alerts(stream: StreamDay) -> str:
    if not stream.alerts:
        return ""
    heads = ("raised", "lasted", "peak", "ended", "recording", "id")
    rows = "".join(
        f"<tr><td>{_clock(alert.raised)}</td><td>{_duration(alert.last['duration'])}</td>"
        f"<td>{alert.last['peak']:.0%}</td><td>{_ended(alert.last)}</td>"
        f'<td class="text">{_recording(alert.last)}</td><td>{escape(alert.id[:8])}</td></tr>'
        for alert in stream.alerts.values()
    )
    return _table("alerts", heads, rows)


def _ended(event: dict[str, str]) -> str:
    return f"by {escape(event['reason'])}" if event["phase"] == "cleared" else '<span class="bad">still active</span>'


def _recording(event: dict[str, dict[str, str] | None]) -> str:
    kept = event.get("evidence")
    if not kept:
        return '<span class="dim">none kept</span>'
    return f'<a href="file://{escape(kept["path"], quote=True)}">{escape(kept["path"].rsplit("/", 1)[-1])}</a>'


def _troubles(stream: StreamDay) -> str:
    return _remarks("troubles of the source", stream.troubles)


def _remarks(title: str, found: list[tuple[int, str, str]], most: int = 50) -> str:
    if not found:
        return ""
    rows = "".join(
        f'<tr><td>{_clock(at)}</td><td>{escape(phase)}</td><td class="text">{escape(reason)}</td></tr>'
        for at, phase, reason in found[-most:]
    )
    more = f"<p class='dim'>and {len(found) - most} before these</p>" if len(found) > most else ""
    return _table(title, ("time", "state", ""), rows) + more


def _table(title: str, heads: tuple[str, ...], rows: str) -> str:
    top = "".join(f'<th scope="col">{head}</th>' for head in heads)
    head = f'<table aria-label="{title}"><thead><tr>{top}</tr></thead>'
    return f'<div class="wide" tabindex="0">{head}<tbody>{rows}</tbody></table></div>'


def _health(day: Day) -> str:
    lost = ", ".join(f"{escape(sink)} {count}" for sink, count in day.dropped.items() if count) or "none"
    facts = [
        ("models", ", ".join(escape(model[:12]) for model in day.models) or "unknown"),
        ("engines", ", ".join(sorted(map(escape, day.engines))) or "unknown"),
        ("starts", str(day.starts)),
        ("longest lag", f"{day.lag_ms:.0f} ms"),
        ("events dropped", lost),
        ("hops left out", str(day.skipped)),
        ("samples overrun", str(day.overrun)),
    ]
    listed = "".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in facts)
    return f"<section><h2>The machine</h2><dl>{listed}</dl>{_remarks('states of the daemon', day.remarks)}</section>"


def _clock(ms: int) -> str:
    seconds = ms // 1000
    return f"{seconds // 3600:02d}:{seconds % 3600 // 60:02d}:{seconds % 60:02d}"


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60:02d} min" if minutes >= 60 else f"{minutes} min"
