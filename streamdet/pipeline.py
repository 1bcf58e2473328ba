"""The heart of the process: streams come and go, their ready hops are scored in micro-batches, events come out.

Source threads call :meth:`Pipeline.push`; one scoring thread calls :meth:`Pipeline.tick`. All events of a stream are
made on the scoring thread, so that ``seq`` is gapless without a lock. Several make a :class:`streamdet.crew.Crew`.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from concurrent.futures import wait as wait_for_all
from dataclasses import dataclass, field
from typing import Final, TypedDict

import numpy as np

from streamdet.audio.block import Block, End, Item, Status
from streamdet.audio.ring import Span
from streamdet.decide.alarm import Transition
from streamdet.decide.judge import Judge, JudgeMaker, Manner
from streamdet.decide.window import Column
from streamdet.engine.base import Engine
from streamdet.engine.overload import Load, Policy
from streamdet.engine.scheduler import Turns
from streamdet.engine.scorer import HopScorer
from streamdet.events import Alert, Event, Evidence, Score, Sequencer, State, StatePhase, utc
from streamdet.features import SlotFrontEnd
from streamdet.features.logmel import FloatArray
from streamdet.tap import Heard, Keeper, Tap
from streamdet.totals import Ledger, Totals
from streamdet.voice import Hop, Voice

SILENCED: Final = ("recovering", "failed")  # phases of a source that gives no sound
HOLD_SECONDS: Final = 2.0  # how long the end of an alert may wait for its recording
ABSENT: Final = Column(0.0, 0.0, 0.0, 1.0)  # of a hop that was not heard, for want of sound or of time


@dataclass(frozen=True, slots=True)
class _Held:
    """The end of an alert, which waits for its recording."""

    step: Transition
    time: float
    evidence: Future[Evidence | None]
    until: float  # monotonic


@dataclass(frozen=True, slots=True)
class _Note:
    """A status that waits to be told: of when, in seconds of its stream, and the ended voice that is closed first."""

    status: Status
    at: float
    after: Voice | None = None


@dataclass(slots=True)
class _Stream:
    """A voice and everything that is kept for it while it is scored."""

    voice: Voice
    judge: Judge
    slot: int
    totals: Totals
    restarted: bool = False  # with the hop that comes next
    missing: float = 0.0  # seconds lost in a row until now
    heard_at: float = 0.0  # when the last hop's end arrived, seconds since the epoch
    held: list[_Held] = field(default_factory=list)
    ending: bool = False  # all its sound is judged; only what is held keeps it open


def _nothing(_name: str) -> None:
    """Do nothing."""


class _Envelope(TypedDict):
    stream: str
    seq: int
    time: str
    media_time: float
    model: str


class Pipeline:
    """Scores any number of streams with one engine.

    Args:
        engine: runs the network; the pipeline alone uses it from now on.
        judge: makes the judge of a new stream, by its name.
        emit: receives every event on the scoring thread; must not block.
        batch: most hops scored in one call.
        ring_seconds: audio kept per stream.
        gap_reset: seconds of missing audio after which a stream's state starts anew.
        keeper: keeps recordings of alerts. The end of an alert is then told once its recording is complete, two
            seconds late at most; other events of the stream go on meanwhile, but for its next alert and its end.
        taps: each is shown every hop on the scoring thread, after its score was emitted; must not block.
        sequencer: numbers the events; one that begins at 1 where absent.
        policy: ``skip`` leaves hops out while scoring is more than ``late`` seconds behind the sound: at its turn a
            stream skips what is older, but for one hop, so all streams are thinned alike. The network's state stays,
            as over lost sound, and so does what a window sees of such a hop: audio that is missing.
        late: seconds.
        gather: longest time in seconds that :meth:`wait` lets a complete hop wait for others to share its call.
        on_close: hears the name of each stream that has ended.
        on_forget: hears the name of each that ended so long ago that it is known no longer; its ``seq`` begins anew.
    """

    def __init__(
        self,
        engine: Engine,
        judge: JudgeMaker,
        emit: Callable[[Event], None],
        *,
        batch: int = 32,
        ring_seconds: float = 64.0,
        gap_reset: float = 2.0,
        keeper: Keeper | None = None,
        taps: Sequence[Tap] = (),
        sequencer: Sequencer | None = None,
        policy: Policy = "score_all",
        late: float = 1.0,
        gather: float = 0.0,
        on_close: Callable[[str], None] = _nothing,
        on_forget: Callable[[str], None] = _nothing,
    ) -> None:
        self.engine = engine
        self.totals = Ledger(on_forget=self._forget)
        self.hops = 0
        self.skipped = 0  # hops left out under overload
        self._scorer = HopScorer(engine)
        self._front_end = engine.info.front_end
        self._judge = judge
        self._emit = emit
        self._keeper = keeper
        self._holding: dict[str, _Stream] = {}  # streams with an alert whose end waits for its recording
        self._wanted: set[str] = set()  # names of ending streams that new ones wait for
        self._taps = tuple(taps)
        self._batch = batch
        self._ring_seconds = ring_seconds
        self._gap_reset = gap_reset
        self._sequencer = sequencer or Sequencer()
        self._latest_age = late if policy == "skip" else float("inf")
        self._gather = gather
        self._on_close = on_close
        self._on_forget = on_forget
        self._overrun = 0  # samples, of streams that have ended
        self._turns: Turns[Voice] = Turns()  # only ever touched while holding ``_changed``
        self._voices: dict[str, Voice] = {}
        self._streams: dict[str, _Stream] = {}
        self._notes: deque[_Note] = deque()
        self._orders: deque[Callable[[], None]] = deque()
        self._changed = threading.Condition()

    # ---- any thread ----

    def push(self, item: Item, *, wait: threading.Event | None = None) -> None:
        """Take what a source yields.

        With ``wait`` (for sources that do not set their own pace) the call blocks while the stream's ring is half
        full of sound nobody scored yet, until there is room or ``wait`` is set.
        """
        if isinstance(item, Status):
            self._note(item)
        elif isinstance(item, End):
            voice = self._voices.get(item.stream)
            if voice is None:
                self._note(Status(item.stream, "failed", f"ended without sound: {item.reason}"))
            else:
                voice.finish(item.reason)
                self._offer(voice)
        else:
            self._push_block(item, wait)
            return
        self.wake()

    def wait(self, timeout: float) -> None:
        """Sleep until there is something to score or to tell, or ``timeout`` seconds have passed."""
        with self._changed:
            if (
                not self._turns
                and not self._orders
                and not self._due()
                and not any(note.after is None for note in list(self._notes))
            ):
                self._changed.wait(min(timeout, self._held_for()))
            while (left := self._worth_waiting()) > 0:
                self._changed.wait(left)

    def wake(self) -> None:
        """End a :meth:`wait`."""
        with self._changed:
            self._changed.notify_all()

    def _worth_waiting(self) -> float:
        """Seconds that the first in the queue may wait for others; 0 where there is nobody left to wait for."""
        first = self._turns.first
        if first is None or len(self._turns) >= min(self._batch, len(self._voices)):
            return 0.0
        return first.waiting_since + self._gather - time.monotonic() if self._gather else 0.0

    def order(self, action: Callable[[], None]) -> None:
        """Have something done on the scoring thread, between two hops."""
        self._orders.append(action)
        self.wake()

    def retune(self, manner: Callable[[str], Manner], judge: JudgeMaker) -> None:
        """Judge differently from the next hop on, by the name of the stream; nothing that was heard is lost."""
        self.order(lambda: self._retune(manner, judge))

    def add_tap(self, tap: Tap) -> None:
        """Show a tap every hop from now on."""
        self._taps = (*self._taps, tap)

    def remove_tap(self, tap: Tap) -> None:
        """Show a tap no more hops."""
        self._taps = tuple(other for other in self._taps if other != tap)

    def end(self, stream: str, reason: str) -> None:
        """End a stream whose source failed, if it has sound."""
        if stream in self._voices:
            self.push(End(stream, reason))

    @property
    def idle(self) -> bool:
        """True where nothing is open and nothing waits to be told."""
        return not self._voices and not self._notes

    @property
    def open_streams(self) -> int:
        """Streams that have sound and have not ended."""
        return len(self._voices)

    @property
    def active_alerts(self) -> int:
        """Alerts raised and not cleared."""
        return sum(stream.judge.alerting for stream in list(self._streams.values()))

    @property
    def lag(self) -> float:
        """Age in seconds of the oldest whole hop that waits to be scored; sources that wait for room do not count."""
        voices = list(self._voices.values())
        since = min((v.waiting_since for v in voices if v.ready and not v.patient), default=float("inf"))
        return max(0.0, time.monotonic() - since)

    @property
    def load(self) -> Load:
        """How far scoring is behind the sound."""
        return Load(self.lag, self.skipped, self._overrun + sum(v.ring.overrun for v in list(self._voices.values())))

    def sound(self, stream: str, start: int, stop: int) -> Span | None:
        """Copy samples ``[start, stop)`` of a stream's clock as far as they are held; None where there is no stream."""
        voice = self._voices.get(stream)
        return None if voice is None else voice.ring.slice(start, stop)

    def wanting(self, stream: str) -> float:
        """Seconds of sound until the next hop of a stream is complete, for who feeds it; 0 where there is no stream."""
        voice = self._voices.get(stream)
        return 0.0 if voice is None else voice.wanting

    def _note(self, status: Status) -> None:
        voice = self._voices.get(status.stream)
        if voice is None:
            self._notes.append(_Note(status, 0.0))
        elif voice.ended is None:
            self._notes.append(_Note(status, voice.seconds(voice.length)))
        else:
            self._notes.append(_Note(status, 0.0, after=voice))

    def _push_block(self, block: Block, wait: threading.Event | None) -> None:
        voice = self._voices.get(block.stream)
        if voice is None or voice.ended:
            voice = self._new_voice(block.stream, patient=wait is not None)
        voice.accept(block)
        if not voice.ready:
            return  # part of a hop is no news, and waking the scoring thread 50 times a second is not free
        self._offer(voice)
        if wait is not None:
            self._wait_for_room(voice, wait)

    def _wait_for_room(self, voice: Voice, wait: threading.Event) -> None:
        with self._changed:
            while not wait.is_set() and voice.ring.available > voice.ring.capacity // 2:
                self._changed.wait(0.2)

    def _offer(self, voice: Voice) -> None:
        """Let a voice queue up for scoring, or for its end."""
        with self._changed:
            if not voice.queued:
                self._turns.offer(voice)
                self._changed.notify_all()  # once: two that wait and wake each other would never sleep

    def _new_voice(self, name: str, *, patient: bool) -> Voice:
        front_end = self._front_end
        voice = Voice(
            name,
            rate=front_end.rate,
            hop_samples=front_end.hop_samples,
            ring_seconds=self._ring_seconds,
            patient=patient,
        )
        with self._changed:  # a stream of the same name that has just ended is scored to its end first
            while name in self._voices:
                if self._keeper is not None and name not in self._wanted:
                    self._wanted.add(name)
                    self._changed.notify_all()
                self._changed.wait(0.2)
            self._wanted.discard(name)
            self._voices[name] = voice
        return voice

    # ---- the scoring thread ----

    def tick(self) -> int:
        """Score one micro-batch of ready hops, each stream in its turn; returns how many hops that were."""
        while self._orders:
            self._orders.popleft()()
        self._tell_notes()
        if self._holding:
            self._tell_held()
        with self._changed:
            voices = self._turns.take(self._batch)
        voices = [voice for voice in voices if self._voices.get(voice.name) is voice]  # one may have been closed
        done = self._score([self._stream(voice) for voice in voices])
        ended = [voice for voice in voices if not voice.ready and voice.ended is not None]
        for voice in ended:
            self._end(self._stream(voice))
        if voices:
            with self._changed:
                for voice in voices:
                    if voice.ready or (voice.ended is not None and voice not in ended):
                        self._turns.offer(voice)
                self._changed.notify_all()  # for those who wait for room, or for a name to be free
        return done

    def drain(self) -> None:
        """Score everything that waits."""
        while self.tick() or self._turns:
            pass

    def finish(self, reason: str, patience: float = float("inf")) -> None:
        """Score what waits, for ``patience`` seconds at most, then end all streams; what still waits is counted."""
        self._finish_voices(reason)
        until = time.monotonic() + patience
        while (self.tick() or self._turns) and time.monotonic() < until:
            pass
        self._end_all()

    def abandon(self, reason: str) -> None:
        """End all streams without scoring, once that has failed and its thread is over."""
        self._finish_voices(reason)
        self._tell_notes()
        self._end_all()

    def _finish_voices(self, reason: str) -> None:
        for voice in list(self._voices.values()):
            voice.finish(reason)
            self._offer(voice)

    def _end_all(self) -> None:
        for voice in list(self._voices.values()):
            self._end(self._stream(voice))
        wait_for_all([held.evidence for stream in self._holding.values() for held in stream.held], HOLD_SECONDS)
        for stream in list(self._holding.values()):
            self._release(stream)

    def _tell_notes(self) -> None:
        """Tell what waits; what belongs to a stream's next life waits until the one before is closed."""
        for _ in range(len(self._notes)):
            note = self._notes.popleft()
            if note.after is not None and self._voices.get(note.status.stream) is note.after:
                self._notes.append(note)
            else:
                self._tell(note.status, note.at)

    def _stream(self, voice: Voice) -> _Stream:
        """Find the stream of an open voice; one that is new gets its slot and its judge."""
        stream = self._streams.get(voice.name)
        if stream is None:
            totals = self.totals.open(voice.name)
            stream = self._streams[voice.name] = _Stream(voice, self._judge(voice.name), self._scorer.open(), totals)
        return stream

    def _retune(self, manner: Callable[[str], Manner], judge: JudgeMaker) -> None:
        self._judge = judge
        for name, stream in self._streams.items():
            stream.judge.adopt(manner(name))

    def replace_engine(
        self,
        engine: Engine,
        twins: Mapping[str, tuple[int, Judge]],
        manner: Callable[[str], Manner],
        judge: JudgeMaker,
        front_end: SlotFrontEnd | None = None,
    ) -> None:
        """Score with another engine from the next hop on; the one before is closed. For the scoring thread only.

        Args:
            engine: has heard the same sound.
            twins: slot of each stream in it, and the judge that followed it there. Alerts go on.
            manner: how a stream is judged from now on, by its name.
            judge: makes the judge of a new stream.
            front_end: has heard the same sound in the engine's slots; None where the engine's features are ours.
        """
        moves, left = {}, dict(twins)
        for name, stream in self._streams.items():
            slot, other = left.pop(name, (None, None))
            if slot is None or other is None:
                slot = engine.allocate()
                engine.reset(slot)
                if front_end is not None:
                    front_end.reset(slot)
            else:
                stream.judge.succeed(other)
            stream.judge.adopt(manner(name))
            moves[stream.slot] = slot
            stream.slot = slot
        for slot, _ in left.values():
            engine.release(slot)
        before, self.engine, self._judge = self.engine, engine, judge
        self._scorer.replace(engine, moves, front_end)
        self._front_end = engine.info.front_end
        before.close()

    def _score(self, streams: list[_Stream]) -> int:
        before = self.hops
        heard = [(stream, hop) for stream in streams if (hop := self._next_hop(stream)) is not None]
        if heard:
            self._score_heard(heard)
        return self.hops - before

    def _next_hop(self, stream: _Stream) -> Hop | None:
        """Take the next hop that has to be scored, at most one that is lost, and leave out what is too late."""
        voice = stream.voice
        while (late := self._too_late(voice)) or voice.ready:
            hop = voice.take()
            if hop is None:
                return None
            if hop.skipped:
                stream.totals.lost_seconds += voice.seconds(hop.skipped)
                self._restart(stream, hop)
            if not late and hop.lost < len(hop.samples):
                return hop
            self._pass_over(stream, hop, late=late)
            if not late:
                return None
        return None

    def _too_late(self, voice: Voice) -> bool:
        behind = time.monotonic() - voice.waiting_since
        return behind > self._latest_age and voice.waiting > 1 and not voice.patient

    def _pass_over(self, stream: _Stream, hop: Hop, *, late: bool) -> None:
        """Judge a hop that the network does not hear, for want of sound or, where it is ``late``, of time."""
        stream.missing += self._front_end.hop_seconds
        self.skipped += late
        stream.totals.skipped += late
        self._decide(stream, hop, ABSENT, None)

    def _score_heard(self, heard: list[tuple[_Stream, Hop]]) -> None:
        for stream, hop in heard:
            if stream.missing >= self._gap_reset:
                self._restart(stream, hop)
            stream.missing = 0.0
        slots = np.array([stream.slot for stream, _ in heard], np.intp)
        columns = self._scorer.score(slots, np.stack([hop.samples for _, hop in heard]))
        for (stream, hop), (logit, attention), speech, features in zip(
            heard, columns.column.tolist(), columns.speech.tolist(), columns.features, strict=True
        ):
            self._decide(stream, hop, Column(logit, attention, speech, hop.lost / len(hop.samples)), features)

    def _restart(self, stream: _Stream, hop: Hop) -> None:
        """Forget everything from before a long gap: the voice after it may be another."""
        at = stream.voice.seconds(hop.end - len(hop.samples))
        self._tell_alerts(stream, stream.judge.restart(at))
        self._scorer.reset(stream.slot)
        stream.restarted = True

    def _decide(self, stream: _Stream, hop: Hop, column: Column, features: FloatArray | None) -> None:
        at = stream.voice.seconds(hop.end)
        age = time.monotonic() - hop.arrived
        stream.heard_at = time.time() - age
        judgement = stream.judge.update(column, at)
        totals = stream.totals
        self.hops += 1
        totals.hops += 1
        totals.seconds += self._front_end.hop_seconds
        totals.end = at
        totals.lost_seconds += column.lost * self._front_end.hop_seconds
        totals.verdicts[judgement.verdict] += 1
        if judgement.p_fake is not None:
            totals.peak = max(totals.peak or 0.0, judgement.p_fake)
        self._emit(
            Score(
                **self._envelope(stream.voice.name, stream.heard_at, at),
                p_fake=judgement.p_fake,
                windows=judgement.windows,
                speech=judgement.speech,
                lost=judgement.lost,
                verdict=judgement.verdict,
                latency_ms=round(1e3 * (time.monotonic() - hop.arrived), 3),
            )
        )
        judged, made_by = stream.judge.config, self._front_end
        heard = Heard(stream.voice.name, hop, features, column, judgement, judged, made_by, stream.restarted)
        for tap in self._taps:
            tap(heard)
        stream.restarted = False
        self._tell_alerts(stream, judgement.alerts)

    def _tell_alerts(self, stream: _Stream, transitions: Iterable[Transition]) -> None:
        for step in transitions:
            stream.totals.alerts += step.phase == "raised"
            self._tell_ends(stream)  # of the alert before
            if self._keeper is not None and step.phase == "cleared":
                self._hold(self._keeper, stream, step)
                continue
            alert = self._tell_step(stream, step, stream.heard_at)
            if self._keeper is not None:
                self._keeper.follow(alert)

    def _tell_step(
        self, stream: _Stream, step: Transition, timestamp: float, evidence: Evidence | None = None
    ) -> Alert:
        alert = Alert(
            **self._envelope(stream.voice.name, timestamp, step.at),
            id=step.id,
            phase=step.phase,
            reason=step.reason,
            onset=step.onset,
            peak=step.peak,
            duration=step.duration,
            evidence=evidence,
        )
        self._emit(alert)
        return alert

    def _hold(self, keeper: Keeper, stream: _Stream, step: Transition) -> None:
        evidence = keeper.complete(stream.voice.name, step, utc(stream.heard_at))
        stream.held.append(_Held(step, stream.heard_at, evidence, time.monotonic() + HOLD_SECONDS))
        self._holding[stream.voice.name] = stream
        evidence.add_done_callback(lambda _: self.wake())

    def _tell_held(self) -> None:
        """Tell the ends of alerts that have waited long enough; a stream that only waited for that is closed."""
        for stream in self._due():
            self._release(stream)

    def _due(self) -> list[_Stream]:
        now = time.monotonic()
        return [
            stream
            for name, stream in self._holding.items()
            if name in self._wanted or all(held.evidence.done() or now >= held.until for held in stream.held)
        ]

    def _held_for(self) -> float:
        """Seconds until the first of what is held back has waited long enough."""
        ends = [held.until for stream in self._holding.values() for held in stream.held]
        return max(0.0, min(ends, default=float("inf")) - time.monotonic())

    def _release(self, stream: _Stream) -> None:
        self._tell_ends(stream)
        if stream.ending:
            self._close(stream)
            with self._changed:
                self._changed.notify_all()

    def _tell_ends(self, stream: _Stream) -> None:
        """Tell what is held back of a stream, each with its recording where that is complete."""
        for held in stream.held:
            evidence = held.evidence.result() if held.evidence.done() else None
            self._tell_step(stream, held.step, held.time, evidence)
        stream.held.clear()
        self._holding.pop(stream.voice.name, None)

    def _tell(self, note: Status, at: float) -> None:
        voice = self._voices.get(note.stream)
        if note.phase == "failed":
            self.totals.open(note.stream).failed = note.reason
            if voice is None:
                self._let_go(note.stream)
        self._tell_state(note.stream, at, note.phase, note.reason, note.detail)
        stream = self._streams.get(note.stream)
        if stream is not None and note.phase in SILENCED:
            # No sound means no hop that could clear an alert, and what comes back may be another voice.
            self._tell_alerts(stream, stream.judge.restart(stream.voice.seconds(stream.voice.ring.position)))
            stream.missing = self._gap_reset

    def _tell_state(
        self,
        name: str,
        at: float,
        phase: StatePhase,
        reason: str,
        detail: dict[str, float | int | str],
    ) -> None:
        self._emit(State(**self._envelope(name, time.time(), at), phase=phase, reason=reason, detail=detail))

    def _end(self, stream: _Stream) -> None:
        """Clear a stream's alert and close it, once it may be told that the alert is over."""
        if stream.ending:
            return
        stream.ending = True
        self._tell_alerts(stream, stream.judge.end(stream.voice.seconds(stream.voice.length)))
        if not stream.held:
            self._close(stream)

    def _close(self, stream: _Stream) -> None:
        voice, totals = stream.voice, stream.totals
        at = voice.seconds(voice.length)
        totals.summary = stream.judge.summary()
        totals.overrun += voice.ring.overrun
        totals.unscored += voice.waiting
        self._overrun += voice.ring.overrun
        detail: dict[str, float | int | str] = {
            "seconds": round(at, 3),
            "overrun": voice.ring.overrun,
            "skipped_hops": totals.skipped,
            "unscored_hops": totals.unscored,
        }
        self._tell_state(voice.name, at, "ended", voice.ended or "", detail)
        self._scorer.close(stream.slot)
        with self._changed:
            del self._streams[voice.name]
            del self._voices[voice.name]
        self._let_go(voice.name)

    def _let_go(self, name: str) -> None:
        if self._keeper is not None:
            self._keeper.leave(name)
        self._on_close(name)
        self.totals.close(name)

    def _forget(self, name: str) -> None:
        self._sequencer.forget(name)
        self._on_forget(name)

    def _envelope(self, stream: str, timestamp: float, at: float) -> _Envelope:
        return {
            "stream": stream,
            "seq": self._sequencer.next(stream),
            "time": utc(timestamp),
            "media_time": round(at, 3),
            "model": self.engine.info.digest,
        }
