"""``streamdet listen``: a thread for each source, the scoring loop, the sinks, and an orderly end."""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import FrameType

import structlog
from rich.console import Console

from streamdet.assembly import (
    Settings,
    choose_engine,
    exposed,
    judge_maker,
    key_ring,
    load_engine,
    make_gate,
    make_parts,
    ring_seconds,
)
from streamdet.audio.block import Block, End, Status
from streamdet.audio.ring import Span
from streamdet.bundled import lighter
from streamdet.config import Config
from streamdet.crew import Crew, one_at_a_time
from streamdet.delivery.courier import Delivers
from streamdet.engine.memory import give_back_memory, keep_working_memory
from streamdet.engine.modelfile import ModelInfo
from streamdet.engine.overload import OverloadWatch
from streamdet.errors import StreamdetError
from streamdet.events import DAEMON, Health, Sequencer, State, StatePhase, utc
from streamdet.notify import Notifier
from streamdet.outbound import outbound_sinks
from streamdet.parts import KeepsEvidence
from streamdet.pipeline import Pipeline
from streamdet.placement import Placement
from streamdet.reload import Origin, Reloader
from streamdet.shadow.shadows import Shadows
from streamdet.sinks.base import Sink
from streamdet.sinks.fanout import Fanout
from streamdet.sinks.jsonl import JsonLinesSink
from streamdet.sinks.queue import QueueSink
from streamdet.sinks.terminal import TerminalSink
from streamdet.sinks.zeromq import ZeroMQSink
from streamdet.sources.base import Counted, Source, Unhurried
from streamdet.store.gate import Gate, Past
from streamdet.totals import Totals

log = structlog.get_logger(__name__)
Detail = dict[str, float | int | str]
HEALTH_SECONDS = 5.0
ENDED_STREAMS = 64  # of a source, whose names are kept for what is still told of them
IDLE_SECONDS = 0.2  # between two looks at how things go
STALL_LIMIT = 5.0  # seconds without a sign of life from a scoring thread at which the watchdog is no longer fed
FAREWELL_SECONDS = 2.0  # how long sources may take to stop


SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class SourceThread(threading.Thread):
    """Runs one source and hands what it yields to the crew that scores."""

    def __init__(self, source: Source, crew: Crew) -> None:
        super().__init__(name=f"source-{source.name}", daemon=True)
        self.source = source
        self.error: StreamdetError | None = None
        self._crew = crew
        self._stop_event = threading.Event()
        self._open: set[str] = set()  # streams that have sound and have not ended
        self._ended: dict[str, None] = {}  # the latest of those that have, whose last sound may not be scored yet

    def stop(self) -> None:
        """Ask it to stop; returns at once."""
        self._stop_event.set()

    def remove(self, reason: str) -> None:
        """Stop it and end what streams it has."""
        self.stop()
        self.join(FAREWELL_SECONDS)
        if self.is_alive():
            log.error("source_stuck", source=self.source.uri)
        for name in sorted(self._open):
            self._crew.end(name, reason)

    def feeds(self, stream: str) -> bool:
        """Whether a stream comes from this source, or did so a moment ago; from any thread."""
        return stream in self._open or stream in self._ended

    def run(self) -> None:
        """Go on until the source ends, fails, or is told to stop."""
        try:
            self._pass_on()
        except StreamdetError as error:
            self._fail(error)
        except Exception as error:  # a fault in one source must neither take the others down nor go unseen
            log.exception("source_crashed", source=self.source.uri)
            self._fail(StreamdetError(f"{self.source.uri}: {type(error).__name__}: {error}"))

    def _pass_on(self) -> None:
        wait = None if self.source.live else self._stop_event
        expect = self.source.expect if isinstance(self.source, Unhurried) else None
        for item in self.source.items(self._stop_event):
            if isinstance(item, Block):
                self._open.add(item.stream)
            elif isinstance(item, End):
                self._ended[item.stream] = None
                while len(self._ended) > ENDED_STREAMS:
                    del self._ended[next(iter(self._ended))]
                self._open.discard(item.stream)
            self._crew.push(item, wait=wait)
            if expect is not None and isinstance(item, Block):
                expect(self._crew.wanting(item.stream))

    def _fail(self, error: StreamdetError) -> None:
        self.error = error
        log.error("source_failed", source=self.source.uri, reason=str(error))
        self._crew.push(Status(self.source.name, "failed", str(error)))
        for name in sorted(self._open):
            self._crew.end(name, str(error))


class Listener:
    """Everything ``listen`` runs, from loading the model to the summary.

    Args:
        config: what was configured; its sources are not looked at.
        sources: what to listen to.
        json: print events as JSON lines on standard output instead of drawing them.
        seconds: stop after this much time; None goes on for ever.
        origin: where the configuration is read anew on SIGHUP; where there is none, SIGHUP ends the process.

    Raises:
        ModelError, ConfigError, SinkError: something cannot be set up; nothing is left running.
    """

    def __init__(
        self,
        config: Config,
        sources: Sequence[Source],
        *,
        json: bool = False,
        seconds: float | None = None,
        origin: Origin | None = None,
    ) -> None:
        keep_working_memory()
        self._config = config  # of the start; what runs now is ``config``
        self._engine_reason = choose_engine(config).reason
        self._engines = [load_engine(config) for _ in range(config.workers)]
        self._stop = threading.Event()
        self._seconds = seconds
        self._patient = all(not source.live for source in sources)
        self._parts = make_parts(config)
        sinks = _open_sinks(config, json=json) + [sink for part in self._parts for sink in part.sinks()]
        self._gate = make_gate(config, patient=self._patient, stop=self._stop)
        past = Past({}, ()) if self._gate is None else self._gate.open()
        self._unfinished = past.unfinished
        self._exposed = exposed(config)
        self._told: deque[tuple[StatePhase, str, Detail]] = deque()
        self._sequencer = Sequencer(past.positions)
        self._fanout = Fanout([self._queue(sink) for sink in sinks], self._gate)
        self._crew = self._make_crew(config)
        self._overload = OverloadWatch(config.overload.late)
        self._max_streams = config.max_streams
        self._crowded = False  # more streams than that are open
        self._threads = [SourceThread(source, self._crew) for source in sources]
        self._reloader = None if origin is None else Reloader(config, origin)
        self._reload_asked = False
        self._shadows: Shadows | None = None
        if config.shadow.model is not None:
            self._shadows = Shadows(config, config.shadow.model, self._crew.pipelines)
        self._notifier = Notifier()
        self._began = self._health_due = time.monotonic()
        self._shadow_due = self._began + config.shadow.every

    def _make_crew(self, config: Config) -> Crew:
        judge = judge_maker(config, self.model)
        taps = [tap for part in self._parts for tap in part.taps()]
        if config.workers > 1:
            taps = [one_at_a_time(tap) for tap in taps]
        keeper = None if self.evidence is None else self.evidence.keeper
        engines = iter(self._engines)

        def make(placement: Placement) -> Pipeline:
            return Pipeline(
                next(engines),
                judge,
                self._fanout.emit,
                batch=config.batch,
                ring_seconds=ring_seconds(config, self._parts),
                gap_reset=config.gap_reset,
                keeper=keeper,
                taps=taps,
                sequencer=self._sequencer,
                policy=config.overload.policy,
                late=config.overload.late,
                gather=config.batch_wait,
                on_close=placement.leave,
                on_forget=placement.forget,
            )

        return Crew(make, workers=config.workers, on_failure=self._worker_failed)

    def _worker_failed(self, trouble: str) -> None:
        self.tell("failed", trouble, {"cause": "worker"})
        self._stop.set()

    def run(self) -> int:
        """Listen until all sources have ended, a signal comes, or the time is up; returns the exit code."""
        previous = {number: signal.signal(number, self._on_signal) for number in SIGNALS}
        try:
            if self._gate is not None:
                self._gate.start(self._fanout.pass_on, self.tell)
            for queue in self._fanout.sinks:
                if isinstance(queue.sink, Delivers):
                    queue.sink.courier.outbox.report_to(self.tell)
            self._clear_unfinished()
            for endpoint in self._exposed:
                self.tell(
                    "degraded", f"{endpoint} is open to the whole network: set [security] keys, or insecure = true"
                )
            for part in self._parts:
                part.start(self)
            give_back_memory()
            if self._shadows is not None:
                self._shadows.start()
            self._crew.start()
            for thread in self._threads:
                thread.start()
            log.info(
                "listening",
                engine=self._engines[0].name,
                reason=self._engine_reason,
                model=self.model.digest[:12],
                workers=len(self._crew),
            )
            self._notifier.ready("listening")
            while not self._over():
                self._turn()
        finally:
            self._finish()
            for number, handler in previous.items():
                signal.signal(number, handler)
        return self._exit_code()

    def _clear_unfinished(self) -> None:
        """End the alerts that were active when the process before this one died, so that none lasts for ever."""
        for alert in self._unfinished:
            seq, now = self._sequencer.next(alert.stream), utc(time.time())
            self._fanout.emit(replace(alert, seq=seq, time=now, phase="cleared", reason="ended"))

    def _turn(self) -> None:
        self._stop.wait(IDLE_SECONDS)
        now = time.monotonic()
        if now - self._crew.quiet_since < STALL_LIMIT:
            self._notifier.watchdog()
        self._watch_load(now)
        if self._shadows is not None and now >= self._shadow_due:
            self._tell_shadows(self._shadows)
        if self._reload_asked:
            self._reload()
        self._tell_state()
        if now >= self._health_due:
            self._health_due += HEALTH_SECONDS
            self._sequencer.next(DAEMON)
            self._fanout.emit(self.health())

    def _watch_load(self, now: float) -> None:
        """Say once when more sound comes than can be scored, or more streams than were found to fit, and when not."""
        change = self._overload.look(self._crew.load, now)
        if change is not None:
            hint = lighter(self.model) if change.begins else ""
            said = {"hint": hint} if hint else {}
            log.warning("overload" if change.begins else "overload_over", **change.detail(), **said)
            if change.begins:
                reason = f"overload: scoring is {change.lag:.1f} s behind the sound" + (f"; {hint}" if hint else "")
            else:
                reason = f"overload is over after {change.seconds:.0f} s, {change.skipped} hops were left out"
            self.tell("degraded" if change.begins else "live", reason, change.detail())
        if self._max_streams is not None:
            self._watch_crowd(self._crew.open_streams, self._max_streams)

    def _watch_crowd(self, streams: int, most: int) -> None:
        if (streams > most) == self._crowded:
            return
        self._crowded = streams > most
        detail: Detail = {"cause": "streams", "streams": streams, "max_streams": most}
        log.warning("too_many_streams" if self._crowded else "streams_fit_again", streams=streams, max_streams=most)
        reason = f"{streams} streams are open, max_streams is {most}"
        self.tell("degraded" if self._crowded else "live", reason, detail)

    def _tell_state(self) -> None:
        while self._told:
            phase, reason, detail = self._told.popleft()
            health = self.health()
            self._fanout.emit(
                State(
                    stream=DAEMON,
                    seq=self._sequencer.next(DAEMON),
                    time=health.time,
                    media_time=health.media_time,
                    model=health.model,
                    phase=phase,
                    reason=reason,
                    detail=detail,
                )
            )

    def _reload(self) -> None:
        self._reload_asked = False
        if self._reloader is not None:
            self._notifier.reloading()
            self._reloader.reload(self)
            self._notifier.ready("listening")

    def _tell_shadows(self, shadows: Shadows) -> None:
        self._shadow_due = time.monotonic() + shadows.every
        log.info("shadow", **shadows.comparison().detail())
        self.tell("live", shadows.text(), shadows.detail())

    @property
    def shadows(self) -> Shadows | None:
        """The second model that is compared, if there is one."""
        return self._shadows

    def pipelines(self) -> Sequence[Pipeline]:
        """List the pipelines that score."""
        return self._crew.pipelines

    def replace_shadows(self, shadows: Shadows | None) -> None:
        """Compare with these from now on, or with none."""
        if self._shadows is not None:
            self._tell_shadows(self._shadows)
            self._shadows.close()
        self._shadows = shadows
        if shadows is not None:
            shadows.start()
            self._shadow_due = time.monotonic() + shadows.every

    def swap(self, settings: Settings) -> None:
        """Make the shadow the model, and have no shadow any more."""
        if self._shadows is not None:
            self._tell_shadows(self._shadows)
            self._shadows.settings = settings
            self._engines = self._shadows.swap()
            self._shadows = None

    @property
    def patient(self) -> bool:
        """Whether scoring holds the sources up, since none sets its own pace."""
        return self._patient

    def retune(self, settings: Settings, max_streams: int | None) -> None:
        """Judge like this from the next hop on."""
        self._max_streams = max_streams
        self._crew.retune(settings.of, settings.judge)

    def source_names(self) -> Sequence[str]:
        """List the sources that run, or ran and ended."""
        return [thread.source.name for thread in self._threads]

    def replace_sources(self, removed: Sequence[str], added: Sequence[Source]) -> None:
        """Stop sources and end their streams; then start others. All the rest goes on untouched."""
        for thread in [thread for thread in self._threads if thread.source.name in removed]:
            thread.remove("removed from the configuration")
            self._threads.remove(thread)
        for source in added:
            thread = SourceThread(source, self._crew)
            self._threads.append(thread)
            thread.start()

    def _over(self) -> bool:
        if self._seconds is not None and time.monotonic() - self._began >= self._seconds:
            self._stop.set()
        # The threads are looked at first: what they pushed before they ended is then seen by the pipeline.
        return self._stop.is_set() or (not any(t.is_alive() for t in self._threads) and self._crew.idle)

    def _finish(self) -> None:
        self._notifier.stopping()
        self._stop.set()
        for thread in self._threads:
            thread.stop()
        for thread in self._threads:
            if thread.ident is not None:
                thread.join(FAREWELL_SECONDS)
        try:
            self._crew.finish("stopped", FAREWELL_SECONDS)
        finally:
            if self._shadows is not None:
                self._tell_shadows(self._shadows)
                self._shadows.close()
            self._watch_load(time.monotonic())
            self._tell_state()
            self._sequencer.next(DAEMON)
            self._fanout.emit(self.health())
            self._fanout.close()
            for part in self._parts:
                part.close()
            for engine in self._engines:
                engine.close()

    @property
    def model(self) -> ModelInfo:
        """What the model file that scores says of itself."""
        return self._engines[0].info

    @property
    def config(self) -> Config:
        """The configuration that runs now."""
        return self._config if self._reloader is None else self._reloader.config

    @property
    def queues(self) -> Sequence[QueueSink]:
        """The queue before each sink, with its counters."""
        return self._fanout.sinks

    def sources(self) -> Mapping[str, Mapping[str, Mapping[str, float]]]:
        """Counters of those sources that count, by source, then by stream, then by counter."""
        counted = [thread.source for thread in self._threads if isinstance(thread.source, Counted)]
        return {source.name: source.counters() for source in counted}

    def source_of(self, stream: str) -> str | None:
        """Address of the source that a stream comes from, with secrets masked; None where it is long over."""
        return next((thread.source.uri for thread in list(self._threads) if thread.feeds(stream)), None)

    def sound(self, stream: str, start: int, stop: int) -> Span | None:
        """Copy samples of a stream's clock as far as its ring still holds them; None where it is over."""
        return self._crew.sound(stream, start, stop)

    @property
    def store(self) -> Gate | None:
        """The event store, with its counters; None where none is kept."""
        return self._gate

    @property
    def evidence(self) -> KeepsEvidence | None:
        """The part that keeps recordings of alerts; None where none are kept."""
        return next((part for part in self._parts if isinstance(part, KeepsEvidence)), None)

    def tell(self, phase: StatePhase, reason: str, detail: Detail | None = None) -> None:
        """Publish a state event of the daemon itself, within a fraction of a second; from any thread."""
        self._told.append((phase, reason, detail or {}))

    def health(self) -> Health:
        """How the daemon fares now; its ``seq`` is the one of the last health event."""
        crew, load = self._crew, self._crew.load
        return Health(
            seq=max(1, self._sequencer.last(DAEMON)),
            time=utc(time.time()),
            media_time=round(crew.seconds, 3),
            model=self.model.digest,
            uptime=round(time.monotonic() - self._began, 3),
            streams=crew.open_streams,
            alerts=crew.active_alerts,
            hops=crew.hops,
            lag_ms=round(1e3 * load.lag, 3),
            dropped=self._fanout.dropped(),
            engine=self._engines[0].name,
            workers=len(crew),
            overloaded=self._overload.overloaded,
            skipped=load.skipped,
            overrun=load.overrun,
            max_streams=self._max_streams,
        )

    def summary(self) -> str:
        """Say in a few lines what was heard."""
        lines = [_describe(name, totals) for name, totals in self._crew.totals()]
        count, rest = self._crew.rest()
        if count:
            lines.append(_describe(f"{count} streams that ended before", rest))
        lost = {name: count for name, count in self._fanout.dropped().items() if count}
        return "\n".join([*lines, *(f"{name}: {count} events dropped" for name, count in lost.items())])

    def _exit_code(self) -> int:
        errors = [thread.error for thread in self._threads if thread.error is not None]
        return errors[0].exit_code if errors else 0

    def _queue(self, sink: Sink) -> QueueSink:
        return QueueSink(sink, patient=self._patient, stop=self._stop, on_ended=self._stop.set)

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        if number == signal.SIGHUP and self._reloader is not None:
            self._reload_asked = True
        else:
            self._stop.set()


def _open_sinks(config: Config, *, json: bool) -> list[Sink]:
    sinks: list[Sink] = []
    if config.publish not in (None, "none"):
        sinks.append(ZeroMQSink(config.publish, ring=key_ring(config)))
    sinks.append(JsonLinesSink(sys.stdout.buffer) if json else TerminalSink(Console()))
    return sinks + outbound_sinks(config)


def _describe(name: str, totals: Totals) -> str:
    if totals.hops == 0 and totals.unscored:
        return f"{name}: {totals.unscored} hops, none scored"
    if totals.hops == 0:
        return f"{name}: no sound" + (f" ({totals.failed})" if totals.failed else "")
    verdicts = ", ".join(f"{verdict} {count}" for verdict, count in totals.verdicts.most_common())
    peak = "none" if totals.peak is None else f"{totals.peak:.2f}"
    lost = f", {totals.lost_seconds:.1f} s lost" if totals.lost_seconds else ""
    overrun = f", {totals.overrun} samples overrun" if totals.overrun else ""
    skipped = f", {totals.skipped} hops skipped" if totals.skipped else ""
    unscored = f", {totals.unscored} hops not scored" if totals.unscored else ""
    return (
        f"{name}: {totals.seconds:.1f} s, alerts {totals.alerts}, highest p_fake {peak}, "
        f"hops by verdict: {verdicts}{lost}{skipped}{unscored}{overrun}"
    )
