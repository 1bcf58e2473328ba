"""The ``streamdet`` command."""

from __future__ import annotations

import json
import sys
from functools import partial
from importlib import resources
from pathlib import Path
from typing import Annotated, Any

import typer

from streamdet import config as configuration
from streamdet.bundled import find_model
from streamdet.config import DEFAULT_ENDPOINT, Config
from streamdet.errors import ConfigError, StreamdetError
from streamdet.logs import set_up_logs

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Tells synthetic speech from human speech while it is being spoken. `p_fake` is always 1 for synthetic.",
)
model_app = typer.Typer(no_args_is_help=True, help="Look at model files.")
app.add_typer(model_app, name="model")
engine_app = typer.Typer(no_args_is_help=True, help="See what can run a model here, and build plans for a GPU.")
app.add_typer(engine_app, name="engine")
events_app = typer.Typer(invoke_without_command=True)
app.add_typer(events_app, name="events")
evidence_app = typer.Typer(no_args_is_help=True, help="List, check and prune recordings of alerts; make signing keys.")
app.add_typer(evidence_app, name="evidence")
signing_app = typer.Typer(no_args_is_help=True, help="Make keys that sign recordings.")
evidence_app.add_typer(signing_app, name="key")
keys_app = typer.Typer(no_args_is_help=True, help="Make and list the keys of who may subscribe.")
app.add_typer(keys_app, name="keys")

WHICH_MODEL = "Model file, or one in the package: streamdet (the default), or medium or edge for many streams."
ModelOption = Annotated[Path | None, typer.Option("--model", "-m", help=WHICH_MODEL)]
StoreOption = Annotated[Path | None, typer.Option("--store", help="The store's SQLite file; a service's by default.")]
KeysOption = Annotated[Path, typer.Option("--dir", help="Key directory.")]
EvidenceOption = Annotated[Path | None, typer.Option("--dir", help="Folder of recordings; a service's by default.")]
JsonOption = Annotated[bool, typer.Option("--json", help="JSON on standard output.")]

# What `bench` takes together with the option that asks for another way to measure; the first that is given counts.
BENCH_WAYS = {
    "--calibrate": {"--calibrate", "--model", "--engine", "--config", "--seconds", "--json"},
    "--engine": {"--engine", "--model", "--streams", "--plot", "--json"},
    "--live-only": {"--live-only", "--model", "--block", "--live", "--quick", "--json"},
}


def main() -> None:
    """Run the command; an error is one line on standard error and an exit code of its own."""
    set_up_logs()
    try:
        app()
    except StreamdetError as error:
        print(f"streamdet: {error}", file=sys.stderr)
        raise SystemExit(error.exit_code) from None


@app.command()
def listen(
    source: Annotated[
        list[str] | None,
        typer.Option(
            "--source",
            "-s",
            help="mic:NAME, rtp://HOST:PORT, zmq://HOST:PORT, file:PATH or -; repeatable.",
            rich_help_panel="Sources",
        ),
    ] = None,
    device: Annotated[
        list[str] | None,
        typer.Option(
            "--device", "-d", help="Microphone, by number or part of its name; repeatable.", rich_help_panel="Sources"
        ),
    ] = None,
    demo: Annotated[
        bool, typer.Option("--demo", help="Play the bundled demo conversation.", rich_help_panel="Sources")
    ] = False,
    config: Annotated[Path | None, typer.Option("--config", "-c", help="TOML file with sources and settings.")] = None,
    publish: Annotated[
        str | None,
        typer.Option(
            help=f"ZeroMQ endpoint of the events; {DEFAULT_ENDPOINT} by default, `none` for none.",
            rich_help_panel="Output",
        ),
    ] = None,
    web: Annotated[
        str | None,
        typer.Option(
            help="HOST:PORT of the live page, such as 127.0.0.1:8765; off by default.", rich_help_panel="Output"
        ),
    ] = None,
    metrics: Annotated[
        str | None,
        typer.Option(
            help="HOST:PORT of /metrics, /healthz and /readyz, such as 127.0.0.1:9464.", rich_help_panel="Output"
        ),
    ] = None,
    store: Annotated[
        str | None,
        typer.Option(
            help="SQLite file that keeps the events; none by default, except in a service.", rich_help_panel="Storage"
        ),
    ] = None,
    evidence: Annotated[
        str | None,
        typer.Option(
            help="Folder for recordings of alerts, chained and checkable; off by default.", rich_help_panel="Storage"
        ),
    ] = None,
    replay: Annotated[
        str | None,
        typer.Option(
            help="ZeroMQ endpoint where subscribers get what they missed; needs a store.", rich_help_panel="Storage"
        ),
    ] = None,
    keys: Annotated[
        str | None,
        typer.Option(
            help="Key directory (`streamdet keys make`): only its clients may connect.", rich_help_panel="Output"
        ),
    ] = None,
    model: ModelOption = None,
    engine: Annotated[
        str | None,
        typer.Option(
            help="auto, onnx-cpu, onnx-cuda, onnx-tensorrt or tensorrt; see `streamdet engine list`.",
            rich_help_panel="Performance",
        ),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(min=1, help="Scoring threads, each on a core of its own.", rich_help_panel="Performance"),
    ] = None,
    speed: Annotated[
        str | None, typer.Option(help="Pace of files: `real` or `max`.", rich_help_panel="Sources")
    ] = None,
    window: Annotated[
        list[float] | None, typer.Option(help="Window in seconds, 3 to 10; up to twice.", rich_help_panel="Decision")
    ] = None,
    raise_at: Annotated[
        float | None, typer.Option("--raise", help="Smoothed p_fake that raises an alert.", rich_help_panel="Decision")
    ] = None,
    clear_at: Annotated[
        float | None, typer.Option("--clear", help="Smoothed p_fake that clears it.", rich_help_panel="Decision")
    ] = None,
    seconds: Annotated[float | None, typer.Option(min=0.0, help="Stop after this many seconds.")] = None,
    as_json: Annotated[
        bool | None,
        typer.Option(
            "--json/--live", help="JSON lines or live lines; live on a terminal by default.", rich_help_panel="Output"
        ),
    ] = None,
) -> None:
    """Judge live sound and publish events until Ctrl-C.

    Examples:

        streamdet listen --demo

        streamdet listen --demo --web 127.0.0.1:8765

        streamdet listen --device 0

        streamdet listen --demo --store events.db --replay tcp://127.0.0.1:5561

        streamdet listen -s 'rtp://0.0.0.0:5004' -s 'zmq://127.0.0.1:5570?mode=pull'

        ffmpeg -i talk.m4a -f s16le -ac 1 -ar 16000 - | streamdet listen -s - --json
    """
    from streamdet.daemon import Listener
    from streamdet.reload import Origin

    read = partial(
        _settings,
        config,
        model=model,
        engine=engine,
        workers=workers,
        publish=publish,
        replay=replay,
        store={"path": store},
        evidence={"dir": evidence},
        security={"keys": keys},
        windows=_windows(window),
        alarm={"raise": raise_at, "clear": clear_at},
        web={"listen": web},
        metrics={"listen": metrics},
    )
    settings = read()
    sources = _sources(settings, source or [], device or [], demo=demo, speed=speed)
    listener = Listener(
        settings,
        sources,
        json=not sys.stdout.isatty() if as_json is None else as_json,
        seconds=seconds,
        origin=None if config is None else Origin(read, speed),
    )
    code = listener.run()
    print(listener.summary(), file=sys.stderr)
    raise typer.Exit(code)


@app.command()
def scan(
    paths: Annotated[list[Path], typer.Argument(help="Sound files, or folders of them.", metavar="PATH")],
    model: ModelOption = None,
    config: Annotated[Path | None, typer.Option("--config", "-c", help="TOML file with settings.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Score files and folders; exits with 3 where a file could not be read, after scoring all others.

    Examples:

        streamdet scan call.wav

        streamdet scan recordings/ --json | jq -r 'select(.p_fake > 0.5) | .path'
    """
    from streamdet.commands.scan import run_scan

    raise typer.Exit(run_scan(_settings(config, model=model), paths, as_json=as_json))


@app.command()
def watch(
    endpoint: Annotated[str, typer.Argument(help="Where a streamdet publishes.")] = DEFAULT_ENDPOINT,
    replay: Annotated[str | None, typer.Option(help="Its `--replay` endpoint: get what was missed.")] = None,
    key: Annotated[Path | None, typer.Option(help="Own NAME.key_secret, where it asks for keys.")] = None,
    server_key: Annotated[Path | None, typer.Option("--server-key", help="Its server.key.")] = None,
    stream: Annotated[list[str] | None, typer.Option("--stream", help="Only this stream; repeatable.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Show the streams and alerts of a running streamdet, live.

    Examples:

        streamdet watch

        streamdet watch tcp://10.0.0.5:5560 --json

        streamdet watch tcp://10.0.0.5:5560 --replay tcp://10.0.0.5:5561 --key desk.key_secret --server-key server.key
    """
    from streamdet.keys import curve_from
    from streamdet.watch import run_watch

    curve = curve_from(key, server_key)
    raise typer.Exit(run_watch(endpoint, replay=replay, curve=curve, json=as_json, streams=stream or ()))


@events_app.callback()
def events(
    context: typer.Context,
    since: Annotated[str | None, typer.Option(help="From then on: 2h, 7d, or an ISO date and time (UTC).")] = None,
    until: Annotated[str | None, typer.Option(help="Up to then.")] = None,
    stream: Annotated[list[str] | None, typer.Option("--stream", help="Only this stream; repeatable.")] = None,
    kind: Annotated[
        list[str] | None,
        typer.Option(help="alert, state, score, health, all, or summary (of old scores); alert and state by default."),
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="At most this many, from the oldest on.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="JSON lines, as they were published.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Comma-separated values with a header.")] = False,
    store: StoreOption = None,
) -> None:
    """Show, export and prune what the event store has, also while `listen` writes it; oldest first.

    Examples:

        streamdet events --since 2h

        streamdet events --since 2026-11-21T06:00 --until 2026-11-21T07:00 --kind all --json > morning.jsonl

        streamdet events --stream lobby --kind score --since 10m

        streamdet events --kind alert --csv --store events.db > alerts.csv

        streamdet events --kind summary --since 7d

        streamdet events prune --before 30d
    """
    from streamdet.assembly import find_store
    from streamdet.commands.events import make_query, run_events

    if context.invoked_subcommand is not None:
        return
    if as_json and as_csv:
        raise ConfigError("--json or --csv, not both")
    query = make_query(since, until, stream or (), kind or (), limit)
    run_events(find_store(store), query, form="json" if as_json else "csv" if as_csv else "table")


@events_app.command("prune")
def events_prune(
    before: Annotated[str | None, typer.Option(help="Delete what is older: 30d, or an ISO date and time.")] = None,
    megabytes: Annotated[int | None, typer.Option(min=0, help="Delete the oldest until this much is left.")] = None,
    store: StoreOption = None,
) -> None:
    """Delete old events, a few at a time, so that a running `listen` is not held up.

    Examples:

        streamdet events prune --before 30d

        streamdet events prune --megabytes 100 --store events.db
    """
    from streamdet.assembly import find_store
    from streamdet.commands.events import run_prune

    run_prune(find_store(store), before, megabytes)


@evidence_app.command("list")
def evidence_list(directory: EvidenceOption = None, as_json: JsonOption = False) -> None:
    """List the recordings that are kept, the oldest first.

    Examples:

        streamdet evidence list --dir recordings
    """
    from streamdet.commands.evidence import find_folder, run_list

    run_list(find_folder(directory), as_json=as_json)


@evidence_app.command("show")
def evidence_show(
    alert: Annotated[str, typer.Argument(help="The alert's id, or its beginning.")],
    directory: EvidenceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show one recording: its alert's events, what heard it, its files.

    Examples:

        streamdet evidence show 3f2a91c0 --dir recordings
    """
    from streamdet.commands.evidence import find_folder, run_show

    run_show(find_folder(directory), alert, as_json=as_json)


@evidence_app.command("verify")
def evidence_verify(
    directory: EvidenceOption = None,
    key: Annotated[list[Path] | None, typer.Option("--key", help="FILE.pub: who must have signed; repeatable.")] = None,
    anchor: Annotated[str | None, typer.Option(help="NUMBER:DIGEST that an earlier check printed.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Check that every recording is there and as it was written; exits with 8 where not.

    Examples:

        streamdet evidence verify --dir recordings

        streamdet evidence verify --dir recordings --key desk.pub --json
    """
    from streamdet.commands.evidence import find_folder, run_verify

    raise typer.Exit(run_verify(find_folder(directory), key or (), anchor, as_json=as_json))


@evidence_app.command("prune")
def evidence_prune(
    directory: EvidenceOption = None,
    days: Annotated[float | None, typer.Option(min=0.0, help="Delete what is older.")] = None,
    count: Annotated[int | None, typer.Option(min=0, help="Delete the oldest until so many are left.")] = None,
    megabytes: Annotated[int | None, typer.Option(min=0, help="Delete the oldest until this much is left.")] = None,
    key: Annotated[Path | None, typer.Option("--key", help="Signing key, where recordings are signed.")] = None,
) -> None:
    """Delete old recordings; the chain keeps a note of it, so that a check still passes.

    Examples:

        streamdet evidence prune --days 30 --dir recordings
    """
    from streamdet.commands.evidence import find_folder, run_prune
    from streamdet.evidence.retention import Limits

    seconds = None if days is None else 86_400 * days
    limits = Limits(seconds=seconds, count=count, most_bytes=None if megabytes is None else megabytes << 20)
    run_prune(find_folder(directory), limits, key)


@signing_app.command("make")
def evidence_key_make(path: Annotated[Path, typer.Argument(help="File to write; FILE.pub comes beside it.")]) -> None:
    """Make an Ed25519 key that signs recordings.

    Examples:

        streamdet evidence key make /etc/streamdet/evidence.key
    """
    from streamdet.commands.evidence import run_make_key

    run_make_key(path)


@keys_app.command("make")
def keys_make(
    name: Annotated[str, typer.Argument(help="Who is to connect.")],
    directory: KeysOption = Path("keys"),
) -> None:
    """Make keys for a client; the first time also the server's.

    Examples:

        streamdet keys make desk --dir /etc/streamdet/keys

        streamdet listen --demo --keys /etc/streamdet/keys
    """
    from streamdet.commands.keys import run_make

    run_make(directory, name)


@keys_app.command("list")
def keys_list(directory: KeysOption = Path("keys"), as_json: JsonOption = False) -> None:
    """List who may connect.

    Examples:

        streamdet keys list --dir /etc/streamdet/keys
    """
    from streamdet.commands.keys import run_list

    run_list(directory, as_json=as_json)


@app.command()
def reload(
    pid: Annotated[int | None, typer.Argument(help="Process of `listen`; the only one that runs where absent.")] = None,
    pidfile: Annotated[Path | None, typer.Option(help="File with the number of the process.")] = None,
) -> None:
    """Have a running `listen --config` read its configuration anew, without losing sound; as SIGHUP does.

    What came of it is a line of its log and a state event of the stream `*`.

    Examples:

        streamdet reload

        streamdet check-config streams.toml && streamdet reload 4711

        systemctl reload streamdet
    """
    from streamdet.commands.reload import run_reload

    run_reload(pid, pidfile)


@app.command()
def tune(
    paths: Annotated[
        list[Path] | None, typer.Argument(help="Sound files, or folders of them; everybody human.", metavar="PATH")
    ] = None,
    store: StoreOption = None,
    since: Annotated[str | None, typer.Option(help="Stored scores from then on: 12h, or an ISO date (UTC).")] = None,
    until: Annotated[str | None, typer.Option(help="Up to then.")] = None,
    stream: Annotated[list[str] | None, typer.Option("--stream", help="Only this stream; repeatable.")] = None,
    false_alarms: Annotated[str, typer.Option(help="Most that are wanted of one stream: 1/day, 0.5/hour.")] = "1/day",
    config: Annotated[Path | None, typer.Option("--config", "-c", help="TOML file whose settings hold.")] = None,
    write: Annotated[bool, typer.Option("--write", help="Write the proposal to --config; comments stay.")] = False,
    model: ModelOption = None,
    as_json: JsonOption = False,
) -> None:
    """Propose thresholds from sound in which everybody is human, for a wanted rate of false alarms.

    Takes sound files, or the scores of the event store. Needs 72 hours of audio, over all streams, to promise one false
    alarm a day; with less it says so.

    Examples:

        streamdet tune recordings/ --false-alarms 1/hour

        streamdet tune --since 12h --false-alarms 1/day --config /etc/streamdet/streams.toml --write

        streamdet tune --store events.db --since 2026-11-20T20:00 --until 2026-11-21T06:00 --json
    """
    from streamdet.assembly import find_store
    from streamdet.commands.tune import Stored, run_tune

    if write and config is None:
        raise ConfigError("--write needs --config FILE")
    where = paths or Stored(path=find_store(store), since=since, until=until, streams=stream or ())
    settings = _settings(config, model=model)
    run_tune(settings, where, rate=false_alarms, write=config if write else None, as_json=as_json)


@app.command()
def report(
    day: Annotated[str, typer.Argument(help="today, yesterday or 2026-11-21 (UTC).")] = "yesterday",
    store: StoreOption = None,
    output: Annotated[Path, typer.Option("--out", "-o", help="HTML file to write.")] = Path("report.html"),
) -> None:
    """Write a day out of the event store as one HTML file that needs nothing else.

    Examples:

        streamdet report yesterday --out report.html

        streamdet report 2026-11-21 --store events.db
    """
    from streamdet.assembly import find_store
    from streamdet.commands.report import run_report

    run_report(day, find_store(store), output)


@app.command()
def shadow(
    since: Annotated[str, typer.Option(help="From then on: 2h, 7d, or an ISO date and time (UTC).")] = "24h",
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show how the model of `[shadow]` compared with the one that alarms, out of the event store.

    Examples:

        streamdet shadow --since 12h
    """
    from streamdet.assembly import find_store
    from streamdet.commands.report import run_shadow

    run_shadow(find_store(store), since, as_json=as_json)


@app.command("check-config")
def check_config(
    path: Annotated[Path | None, typer.Argument(help="TOML file of `listen --config`.", metavar="FILE")] = None,
    as_reference: Annotated[
        bool, typer.Option("--reference", help="Print the page of all options instead (Markdown).")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Say what a configuration comes to, or where it is wrong, without opening anything.

    Exits with 0 where `listen` would run, warnings or not; else with the code of the first error.

    Examples:

        streamdet check-config /etc/streamdet/streams.toml

        streamdet check-config streams.toml --json | jq .settings

        streamdet check-config --reference > docs/configuration.md
    """
    from streamdet.commands.check import run_check
    from streamdet.settings.reference import reference

    if as_reference:
        print(reference(), end="")
        return
    if path is None:
        raise ConfigError("give the FILE to check, or --reference")
    raise typer.Exit(run_check(path, as_json=as_json))


@app.command()
def devices(
    as_json: JsonOption = False,
    why: Annotated[bool, typer.Option("--explain", help="Look for the reason why one is missing.")] = False,
) -> None:
    """List the microphones that `--device` takes, or say why one is missing.

    Examples:

        streamdet devices

        streamdet devices --explain
    """
    from streamdet.commands.devices import run_devices, run_explain

    if why:
        raise typer.Exit(run_explain(as_json=as_json))
    run_devices(as_json=as_json)


@app.command()
def schema() -> None:
    """Print the JSON Schema of the events.

    Examples:

        streamdet schema > events.schema.json
    """
    from streamdet.events import schema as event_schema

    print(json.dumps(event_schema(), indent=2))


@app.command()
def bench(
    context: typer.Context,
    model: Annotated[
        list[Path] | None,
        typer.Option("--model", "-m", help=f"{WHICH_MODEL} Repeatable."),
    ] = None,
    streams: Annotated[
        list[int] | None, typer.Option(min=1, help="Streams at once; repeatable; 1, 8, 32 and 128 by default.")
    ] = None,
    block: Annotated[int, typer.Option(min=10, max=320, help="Milliseconds of sound a source delivers at once.")] = 20,
    rounds: Annotated[int, typer.Option(min=1, help="Rounds; what is shown is their median.")] = 7,
    live: Annotated[float, typer.Option(min=0.0, help="Seconds of one live stream; 0 for none.")] = 20.0,
    live_only: Annotated[bool, typer.Option("--live-only", help="Only the live stream.")] = False,
    peers: Annotated[bool, typer.Option("--peers/--no-peers", help="Measure windows in torch and ONNX too.")] = True,
    quick: Annotated[bool, typer.Option("--quick", help="A rough look within seconds; not for comparisons.")] = False,
    plot: Annotated[Path | None, typer.Option(help="Picture to write, PNG or SVG; needs matplotlib.")] = None,
    engine: Annotated[
        str | None, typer.Option(help="Only this engine, by wall time, such as tensorrt; --streams are its batches.")
    ] = None,
    calibrate: Annotated[
        bool,
        typer.Option("--calibrate", help="Find how many streams fit, also with --engine, and write that to --config."),
    ] = False,
    config: Annotated[Path | None, typer.Option("--config", "-c", help="TOML file that `--calibrate` reads.")] = None,
    seconds: Annotated[float, typer.Option(min=1.0, help="Length of one trial of `--calibrate`.")] = 5.0,
    as_json: JsonOption = False,
) -> None:
    """Measure what this machine can hold: streams a core, where the time goes, latency, memory, against its peers.

    All figures are CPU time, of ways that take turns in one run. The first model goes the whole way from PCM to
    published JSON. Windows in ONNX Runtime need the `onnx` package, those in torch `torch`; without, they are left out.

    Examples:

        streamdet bench

        streamdet bench --quick

        streamdet bench --live 60 --live-only

        streamdet bench -m full-int8.onnx -m full-fp32.onnx --json --plot bench.png > bench.json

        streamdet bench --calibrate --config /etc/streamdet/streams.toml

        streamdet bench --engine tensorrt -m gpu-fp16.onnx --streams 32 --streams 512 --streams 8192 --plot gpu.png
    """
    from streamdet.bench.contestants import Settings
    from streamdet.bench.run import Plan
    from streamdet.commands.bench import calibrate_and_show, measure_engine_and_show, run_and_show

    _check_bench(_given(context), models=len(model or ()), live=live)
    streams = list(dict.fromkeys(streams or ()))
    if calibrate:
        existing = config if config is not None and config.exists() else None
        settings = _settings(existing, model=model[0] if model else None, engine=engine)
        calibrate_and_show(settings, config, as_json=as_json, seconds=seconds)
        return
    if engine is not None:
        sizes = streams or ((32, 128, 512, 2048, 8192) if engine == "tensorrt" else (1, 8, 32, 128))
        measure_engine_and_show(find_model(model[0] if model else None), engine, sizes, as_json=as_json, plot=plot)
        return
    chosen = Settings(
        tuple(find_model(one) for one in model) if model else (find_model(None),),
        tuple(streams or (1, 8, 32, 128)),
        block_ms=block,
        peers=peers,
    )
    plan = Plan(chosen, rounds=rounds, live_seconds=live, throughput=not live_only)
    run_and_show(plan.quickly() if quick else plan, as_json=as_json, plot=plot)


@engine_app.command("list")
def engine_list(
    model: ModelOption = None,
    batch: Annotated[int, typer.Option(min=1, help="Most streams a call; plans are made for one such number.")] = 32,
    as_json: JsonOption = False,
) -> None:
    """List the engines: which can run the model here, why the others cannot, which one is taken.

    Examples:

        streamdet engine list

        streamdet engine list --model gpu.onnx --json
    """
    from streamdet.commands.engine import run_engine_list

    run_engine_list(find_model(model), batch, as_json=as_json)


@engine_app.command("build")
def engine_build(
    model: Annotated[Path, typer.Option("--model", "-m", help="Model file in fp32, fp16 or qdq.")],
    batch: Annotated[int, typer.Option(min=1, help="Most streams a call; `batch` of the configuration.")] = 32,
    cache: Annotated[Path | None, typer.Option(help="Folder of the plans; that of the user or service else.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Build the TensorRT plan of a model for this machine's GPU; `listen` takes it from then on.

    Examples:

        streamdet engine build --model gpu-fp16.onnx --batch 512
    """
    from streamdet.commands.engine import run_engine_build

    run_engine_build(find_model(model), batch, cache, as_json=as_json)


@model_app.command("info")
def model_info(
    path: Annotated[Path | None, typer.Argument(help=WHICH_MODEL)] = None,
    as_json: JsonOption = False,
) -> None:
    """Show what a model file says of itself: front end, calibration, thresholds, figures, digest.

    Examples:

        streamdet model info

        streamdet model info my-model.onnx --json
    """
    from streamdet.commands.model import run_model_info

    run_model_info(find_model(path), as_json=as_json)


def _settings(path: Path | None, **overrides: Any) -> Config:
    """Read the configuration and let command-line options win."""
    settings = configuration.load(path) if path is not None else Config()
    values = settings.model_dump(by_alias=True)
    for key, value in overrides.items():
        if isinstance(value, dict):
            values[key] |= {name: entry for name, entry in value.items() if entry is not None}
        elif value is not None:
            values[key] = None if value == "none" else value
    return configuration.validated(values, "options")


def _given(context: typer.Context) -> list[str]:
    """List the options of the command line, each by its first name."""
    sources = ((option.opts[0], context.get_parameter_source(option.name or "")) for option in context.command.params)
    return [name for name, source in sources if source is not None and source.name == "COMMANDLINE"]


def _check_bench(given: list[str], *, models: int, live: float) -> None:
    """Refuse what `bench` would leave undone without a word.

    Raises:
        typer.BadParameter: an option does nothing together with another one, or without it.
    """
    way = next((way for way in BENCH_WAYS if way in given), None)
    for option in given:
        if way is not None and option not in BENCH_WAYS[way]:
            raise typer.BadParameter(f"{option} does nothing with {way}; leave one of them out")
        if way is None and option in ("--config", "--seconds"):
            raise typer.BadParameter(f"{option} does nothing without --calibrate; add that, or leave {option} out")
    if way is not None and models > 1:
        raise typer.BadParameter(f"{way} measures one --model; give one")
    if way == "--live-only" and not live:
        raise typer.BadParameter("--live 0 leaves nothing for --live-only to measure; give it some seconds")


def _windows(lengths: list[float] | None) -> dict[str, float | None]:
    if not lengths:
        return {}
    if len(lengths) > 2:
        raise ConfigError("--window can be given once or twice")
    return {"short": min(lengths), "long": max(lengths)}


def _sources(settings: Config, uris: list[str], devices: list[str], *, demo: bool, speed: str | None) -> list[Any]:
    from streamdet.settings.sources import make_sources

    named = [*uris, *(f"mic:{device}" for device in devices)]
    if demo:
        named.append(f"file:{resources.files('streamdet') / 'demo' / 'demo.flac'}")
    return make_sources(settings, named, speed=speed)


if __name__ == "__main__":
    main()
