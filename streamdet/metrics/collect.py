"""Turns the figures into metric families of Prometheus; the names follow its conventions (base units, ``_total``)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from streamdet.delivery.courier import Delivers
from streamdet.metrics.figures import LATENCY_BOUNDS, Figures, Latency
from streamdet.parts import Inside
from streamdet.version import running_version

ENDED = "(ended)"


def counter(name: str, text: str, value: float) -> Metric:
    """Make a counter of one value."""
    return CounterMetricFamily(f"streamdet_{name}", text, value=value)


def gauge(name: str, text: str, value: float) -> Metric:
    """Make a gauge of one value."""
    return GaugeMetricFamily(f"streamdet_{name}", text, value=value)


def labelled(
    kind: type[CounterMetricFamily | GaugeMetricFamily],
    name: str,
    text: str,
    labels: tuple[str, ...],
    rows: Iterable[tuple[tuple[str, ...], float]],
) -> Metric:
    """Make a family with one sample for each row."""
    family = kind(f"streamdet_{name}", text, labels=labels)
    for values, number in rows:
        family.add_metric(values, number)
    return family


class Inventory(Collector):
    """Collects everything anew at each scrape."""

    def __init__(self, figures: Figures, inside: Inside) -> None:
        self._figures = figures
        self._inside = inside

    def collect(self) -> Iterator[Metric]:
        """Yield all metric families."""
        yield from self._daemon()
        with self._figures.lock:
            families = [*self._events(), *self._streams()]
        yield from families
        yield from self._queues()
        yield from self._couriers()
        yield from self._store()
        yield from self._evidence()
        yield self._sources()

    def _daemon(self) -> Iterator[Metric]:
        health, model = self._inside.health(), self._inside.model
        about = GaugeMetricFamily("streamdet_build_info", "What runs", labels=("version", "engine", "model", "name"))
        about.add_metric((running_version(), health.engine, model.digest, model.name), 1)
        yield about
        yield gauge("uptime_seconds", "Seconds since the model was loaded", health.uptime)
        yield counter("hops", "Hops scored", health.hops)
        yield counter("hops_skipped", "Hops left out under overload", health.skipped)
        yield counter("samples_overrun", "Samples overwritten before they were scored", health.overrun)
        yield gauge("lag_seconds", "Age of the oldest hop that waits to be scored", health.lag_ms / 1000.0)
        yield gauge("streams", "Streams open now", health.streams)
        yield gauge("alerts_active", "Alerts raised and not cleared", health.alerts)
        yield gauge("overloaded", "1 while more sound comes than can be scored", float(health.overloaded))
        yield gauge("workers", "Scoring threads", health.workers)

    def _events(self) -> Iterator[Metric]:
        figures = self._figures
        text = "From the arrival of a hop's last sample to its score event"
        yield HistogramMetricFamily(
            "streamdet_event_latency_seconds", text, buckets=buckets(figures.latency), sum_value=figures.latency.total
        )
        alerts = list(figures.alerts.items())
        text = "Steps in the life of alerts"
        yield labelled(CounterMetricFamily, "alerts", text, ("phase", "reason"), alerts)
        verdicts = [((verdict,), float(count)) for verdict, count in figures.verdicts.items()]
        yield labelled(CounterMetricFamily, "verdicts", "Score events by verdict", ("verdict",), verdicts)
        states = [((phase,), float(count)) for phase, count in figures.states.items()]
        yield labelled(CounterMetricFamily, "states", "State events by phase", ("phase",), states)
        yield counter("hops_untold", "Hops and events of streams too many to be told apart", figures.untold)

    def _streams(self) -> Iterator[Metric]:
        streams, ended = list(self._figures.streams.items()), self._figures.ended
        for name, text, values in (
            ("audio_seconds", "Seconds of audio judged", [(n, s.audio) for n, s in streams] + [(ENDED, ended.audio)]),
            (
                "lost_seconds",
                "Seconds of it that never arrived",
                [(n, s.lost) for n, s in streams] + [(ENDED, ended.lost)],
            ),
            ("speech_seconds", "Seconds of speech", [(n, s.speech) for n, s in streams] + [(ENDED, ended.speech)]),
        ):
            said = f"{text}; `(ended)` stands for the streams that are over"
            yield labelled(CounterMetricFamily, name, said, ("stream",), [((n,), v) for n, v in values])
        means = [((n,), s.log_odds) for n, s in streams if s.log_odds is not None]
        text = "Running mean (5 min) of the smoothed log-odds of spoof; a slow change is drift of line or model"
        yield labelled(GaugeMetricFamily, "log_odds", text, ("stream",), means)
        phases = [((n, s.phase), 1.0) for n, s in streams]
        yield labelled(GaugeMetricFamily, "stream_state", "1 for the present phase", ("stream", "phase"), phases)
        alerting = [((n,), float(s.alerting)) for n, s in streams]
        yield labelled(GaugeMetricFamily, "alerting", "1 while an alert is active", ("stream",), alerting)

    def _queues(self) -> Iterator[Metric]:
        queues, labels = self._inside.queues, ("sink",)
        waiting = [((q.name,), float(q.waiting)) for q in queues]
        yield labelled(GaugeMetricFamily, "sink_waiting", "Events that wait for a sink", labels, waiting)
        capacity = [((q.name,), float(q.capacity)) for q in queues]
        yield labelled(GaugeMetricFamily, "sink_capacity", "Most events that may wait", labels, capacity)
        dropped = [((q.name,), float(q.dropped)) for q in queues]
        yield labelled(CounterMetricFamily, "sink_dropped", "Events dropped for want of room", labels, dropped)
        failed = [((q.name,), float(q.failed)) for q in queues]
        yield labelled(CounterMetricFamily, "sink_failed", "Events that a sink refused", labels, failed)

    def _couriers(self) -> Iterator[Metric]:
        found = [(q.name, q.sink.courier) for q in self._inside.queues if isinstance(q.sink, Delivers)]
        labels = ("sink",)
        waiting = [((name,), float(c.outbox.waiting)) for name, c in found]
        yield labelled(GaugeMetricFamily, "delivery_waiting", "Parcels not yet delivered", labels, waiting)
        broken = [((name,), float(c.broken)) for name, c in found]
        yield labelled(GaugeMetricFamily, "delivery_broken", "1 while the service refuses", labels, broken)
        delivered = [((name,), float(c.outbox.delivered)) for name, c in found]
        yield labelled(CounterMetricFamily, "delivered", "Parcels delivered", labels, delivered)
        failed = [((name,), float(c.failed)) for name, c in found]
        yield labelled(CounterMetricFamily, "delivery_failed", "Tries that failed", labels, failed)
        dead = [((name,), float(c.outbox.dead)) for name, c in found]
        yield labelled(CounterMetricFamily, "delivery_dead", "Parcels given up, in the dead letters", labels, dead)
        degraded = [((name,), float(c.outbox.degraded)) for name, c in found]
        text = "1 while the outbox cannot be written and what comes waits in memory"
        yield labelled(GaugeMetricFamily, "delivery_outbox_degraded", text, labels, degraded)
        errors = [((name,), float(c.outbox.errors)) for name, c in found]
        yield labelled(CounterMetricFamily, "delivery_outbox_errors", "Errors of the outbox's disk", labels, errors)
        lost = [((name,), float(c.outbox.lost)) for name, c in found]
        text = "Events for which neither the outbox nor memory had room"
        yield labelled(CounterMetricFamily, "delivery_lost", text, labels, lost)

    def _store(self) -> Iterator[Metric]:
        store = self._inside.store
        if store is None:
            return
        yield counter("store_events", "Events stored", store.stored)
        yield counter("store_dropped", "Events published and not stored", store.dropped)
        yield gauge("store_waiting", "Events that wait to be stored", store.waiting)
        yield gauge("store_bypassed", "1 while the store fails and events go past it", float(store.bypassed))

    def _evidence(self) -> Iterator[Metric]:
        if self._inside.evidence is None:
            return
        found = self._inside.evidence.figures()
        yield counter("evidence_recorded", "Alerts in the chain of recordings", found.recorded)
        yield counter("evidence_failed", "Writes of recordings that the disk refused", found.failed)
        yield counter("evidence_late", "Recordings complete only after the end of their alert was told", found.late)
        yield gauge("evidence_waiting", "Hops that wait to be written", found.waiting)
        yield gauge("evidence_broken", "1 while alerts cannot be recorded", float(found.broken))

    def _sources(self) -> Metric:
        rows = [
            ((source, stream, name), float(value))
            for source, streams in self._inside.sources().items()
            for stream, counters in streams.items()
            for name, value in counters.items()
        ]
        text = "What a source counts of its streams, such as packets lost, concealed or late, jitter, clock drift"
        return labelled(GaugeMetricFamily, "source", text, ("source", "stream", "counter"), rows)


def buckets(latency: Latency) -> list[tuple[str, float]]:
    """Cumulative counts, as Prometheus wants them."""
    total, rows = 0, []
    for bound, count in zip([*map(str, LATENCY_BOUNDS), "+Inf"], latency.counts, strict=True):
        total += count
        rows.append((bound, float(total)))
    return rows
