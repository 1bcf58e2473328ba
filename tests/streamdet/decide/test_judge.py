from __future__ import annotations

import json
from collections.abc import Iterable, Sequence

import jsonschema
import numpy as np
import pytest

from streamdet import events
from streamdet.decide.alarm import AlarmConfig, Transition
from streamdet.decide.calibrate import Platt, log_odds, probability
from streamdet.decide.judge import Judge, JudgeConfig, Judgement
from streamdet.decide.smooth import Cusum
from streamdet.decide.window import Column
from streamdet.errors import ConfigError

HOP = 0.32


def hear(judge: Judge, columns: Iterable[Column], start: int = 0) -> list[Judgement]:
    return [judge.update(column, (start + number) * HOP) for number, column in enumerate(columns, 1)]


def voice(logit: float, hops: int, *, speech: float = 1.0, lost: float = 0.0) -> list[Column]:
    return [Column(logit, 0.0, speech, lost)] * hops


def alerts(judgements: Sequence[Judgement]) -> list[Transition]:
    return [step for judgement in judgements for step in judgement.alerts]


def test_a_conversation_alerts_in_the_synthetic_turn_only() -> None:
    judge = Judge()
    judgements = hear(judge, voice(-4, 40) + voice(4, 30) + voice(-4, 40))
    raised, *_, cleared = alerts(judgements)
    assert (raised.phase, cleared.phase, cleared.reason) == ("raised", "cleared", "evidence")
    assert raised.onset == pytest.approx(40 * HOP)  # the very hop at which the voice changed
    assert 40 * HOP < raised.at < 40 * HOP + 5.0
    assert 70 * HOP < cleared.at < 70 * HOP + 5.0
    assert {j.verdict for j in judgements[6:40]} == {"bona_fide"}
    assert {j.verdict for j in judgements[55:70]} == {"spoof"}
    assert {j.verdict for j in judgements[85:]} == {"bona_fide"}


def test_no_number_before_there_is_enough_speech() -> None:
    judgements = hear(Judge(), voice(4, 6))
    # 0.32 s, 0.64 s, ... 1.28 s of speech are too little; 1.6 s are enough
    assert [j.verdict for j in judgements] == ["undecided"] * 4 + ["spoof"] * 2
    assert [j.p_fake is None for j in judgements] == [True] * 4 + [False] * 2
    assert [set(j.windows.values()) == {None} for j in judgements] == [True] * 4 + [False] * 2


def test_silence_is_no_speech_and_has_no_number() -> None:
    for judgement in hear(Judge(), voice(9, 40, speech=0.0)):
        assert judgement.verdict == "no_speech"
        assert judgement.p_fake is None
        assert judgement.windows == {"3": None, "10": None}
        assert judgement.alerts == ()


def test_too_much_lost_is_undecided_in_the_short_window_first() -> None:
    judge = Judge()
    hear(judge, voice(-4, 40))
    late = hear(judge, voice(-4, 5, speech=0.7, lost=0.9), start=40)[-1]
    assert late.lost == pytest.approx(5 * 0.9 / 9)
    assert late.verdict == "undecided"
    assert late.windows["3"] is None
    assert late.windows["10"] == pytest.approx(probability(-4))


def test_windows_are_pooled_calibrated_and_named_by_their_seconds() -> None:
    rng = np.random.default_rng(5)
    columns = [Column(float(logit), 0.0, 1.0) for logit in rng.normal(0, 2, 50)]
    platt = Platt(0.7, -0.3)
    judgement = hear(Judge(JudgeConfig(windows=(10.0, 3.0, 4.5)), platt), columns)[-1]
    assert list(judgement.windows) == ["3", "4.5", "10"]
    for name, hops in (("3", 9), ("4.5", 14), ("10", 31)):
        raw = sum(c.logit for c in columns[-hops:]) / hops
        assert judgement.windows[name] == pytest.approx(probability(0.7 * raw - 0.3), abs=1e-12)


def test_p_fake_is_the_smoothed_short_window_and_does_not_move_in_silence() -> None:
    config = JudgeConfig(smooth_seconds=0.0)
    judge = Judge(config)
    spoken = hear(judge, voice(1.5, 20))[-1]
    assert spoken.p_fake == spoken.windows["3"] == pytest.approx(probability(1.5))
    paused = hear(judge, voice(-9, 4, speech=0.0), start=20)
    assert [j.p_fake for j in paused] == [spoken.p_fake] * 4


def test_the_sign_is_one_for_synthetic() -> None:
    assert hear(Judge(), voice(6, 20))[-1].p_fake == pytest.approx(probability(6))
    assert hear(Judge(), voice(-6, 20))[-1].p_fake == pytest.approx(probability(-6))


def test_the_end_of_the_stream_clears_an_active_alert() -> None:
    judge = Judge()
    hear(judge, voice(4, 20))
    assert judge.alerting
    (cleared,) = judge.end(20 * HOP)
    assert (cleared.phase, cleared.reason, cleared.onset) == ("cleared", "ended", 0.0)
    assert not judge.alerting
    assert judge.end(20 * HOP) == ()


def test_a_restart_forgets_the_voice_before_the_gap() -> None:
    judge = Judge()
    hear(judge, voice(4, 40))
    (cleared,) = judge.restart(50 * HOP)
    assert (cleared.phase, cleared.reason) == ("cleared", "gap")
    after = hear(judge, voice(-4, 20), start=50)
    fresh = hear(Judge(), voice(-4, 20))
    assert [j.p_fake for j in after] == [j.p_fake for j in fresh]
    assert [j.windows for j in after] == [j.windows for j in fresh]
    assert alerts(after) == []


def test_silence_long_enough_ends_an_alert() -> None:
    judge = Judge(JudgeConfig(alarm=AlarmConfig(silence_seconds=6.0)))
    hear(judge, voice(4, 20))
    (cleared,) = [s for s in alerts(hear(judge, voice(4, 40, speech=0.0), start=20)) if s.phase == "cleared"]
    assert cleared.reason == "silence"


def test_the_alert_after_a_time_limit_begins_after_the_one_before() -> None:
    judge = Judge(JudgeConfig(alarm=AlarmConfig(max_seconds=6.0, cooldown_seconds=1.0)))
    steps = alerts(hear(judge, voice(4, 40)))
    (limit,) = [step for step in steps if step.reason == "limit"]
    second = [step for step in steps if step.phase == "raised"][1]
    assert second.onset == pytest.approx(limit.at)


def test_a_window_that_comes_to_be_trusted_in_a_pause_has_a_number_at_once() -> None:
    judge = Judge(JudgeConfig(smooth_seconds=5.0))
    patchy = hear(judge, voice(4, 6, lost=0.4))
    paused = hear(judge, voice(-9, 3, speech=0.0), start=6)
    assert {j.p_fake for j in patchy} == {None}
    assert paused[-1].verdict == "spoof"
    assert paused[-1].p_fake == pytest.approx(probability(4))


def test_accumulated_evidence_can_drive_the_alarm() -> None:
    config = JudgeConfig(alarm=AlarmConfig(raise_at=4.0, clear_at=0.5, min_seconds=0.0))
    human = hear(Judge(config, evidence=Cusum()), voice(-2, 100))
    assert alerts(human) == []
    weak = hear(Judge(config, evidence=Cusum()), voice(-2, 40) + voice(1, 60))  # p 0.73: never above 0.9
    assert [step.phase for step in alerts(weak)][:1] == ["raised"]
    assert alerts(hear(Judge(), voice(-2, 40) + voice(1, 60))) == []


def test_the_summary_weighs_all_speech_and_is_empty_only_without_any() -> None:
    judge = Judge(platt=Platt(0.5, 0.25))
    hear(judge, voice(3, 10) + voice(-99, 10, speech=0.0) + voice(1, 10, speech=0.5))
    summary = judge.summary()
    assert summary.p_fake == pytest.approx(probability(0.5 * (3 * 10 + 1 * 5) / 15 + 0.25))
    assert summary.seconds == pytest.approx(30 * HOP)
    assert summary.speech_seconds == pytest.approx(15 * HOP)
    assert summary.verdict == "spoof"
    assert Judge().summary().p_fake is None
    assert Judge().summary().verdict == "no_speech"


def test_the_summary_of_a_short_clip_has_a_number_but_no_verdict() -> None:
    judge = Judge()
    hear(judge, voice(4, 3))
    assert judge.summary().verdict == "undecided"
    assert judge.summary().p_fake == pytest.approx(probability(4))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"windows": ()}, "at least one window"),
        ({"windows": (2.9, 10.0)}, "window of 2.9 s: lengths from 3 to 10 s"),
        ({"windows": (3.0, 10.1)}, "window of 10.1 s"),
        ({"hop_seconds": 0.0}, "hop of 0 s"),
        ({"smooth_seconds": -1.0}, "smoothing over -1 s"),
        ({"smooth_seconds": float("nan")}, "smoothing over nan s"),
    ],
)
def test_settings_that_make_no_sense_are_refused(change: dict[str, float], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        JudgeConfig(**change)  # type: ignore[arg-type]


def test_a_coarser_hop_gives_the_same_story() -> None:
    def story(hop: float) -> list[tuple[str, float]]:
        judge = Judge(JudgeConfig(hop_seconds=hop))
        hops = round(12.8 / hop)
        logits = [-4.0] * hops + [4.0] * hops + [-4.0] * hops
        judged = [judge.update(Column(logit, 0.0, 1.0), (i + 1) * hop) for i, logit in enumerate(logits)]
        return [(step.phase, step.at) for step in alerts(judged) if step.phase != "updated"]

    fine, coarse = story(0.16), story(0.64)
    assert [phase for phase, _ in fine] == [phase for phase, _ in coarse] == ["raised", "cleared"]
    for (_, early), (_, late) in zip(fine, coarse, strict=True):
        assert abs(early - late) <= 2 * 0.64


def test_every_judgement_of_a_noisy_stream_makes_events_that_fit_the_schema() -> None:
    validator = jsonschema.Draft202012Validator(events.schema())
    rng = np.random.default_rng(11)
    judge = Judge(JudgeConfig(alarm=AlarmConfig(raise_at=log_odds(0.7), clear_at=log_odds(0.5), cooldown_seconds=0.0)))
    sequencer, kinds = events.Sequencer(), set()
    for number in range(1, 400):
        speech = float(rng.choice([0.0, 0.3, 1.0], p=[0.2, 0.1, 0.7]))
        column = Column(float(rng.normal(2 if number // 60 % 2 else -2, 3)), float(rng.normal()), speech)
        judgement = judge.update(column, number * HOP)
        for event in as_events(judgement, sequencer):
            validator.validate(json.loads(events.to_json(event)))
            kinds.add((event.type, getattr(event, "phase", getattr(event, "verdict", None))))
    assert kinds >= {
        *(("score", verdict) for verdict in ("spoof", "bona_fide", "undecided")),
        *(("alert", phase) for phase in ("raised", "updated", "cleared")),
    }


def as_events(judgement: Judgement, sequencer: events.Sequencer) -> Iterable[events.Event]:
    at = judgement.media_time
    shared = {"stream": "hall", "time": events.utc(1e9 + at), "media_time": at, "model": "ab" * 32}
    yield events.Score(
        **shared,  # type: ignore[arg-type]
        seq=sequencer.next("hall"),
        p_fake=judgement.p_fake,
        windows=judgement.windows,
        speech=judgement.speech,
        lost=judgement.lost,
        verdict=judgement.verdict,
        latency_ms=1.0,
    )
    for step in judgement.alerts:
        yield events.Alert(
            **shared,  # type: ignore[arg-type]
            seq=sequencer.next("hall"),
            id=step.id,
            phase=step.phase,
            reason=step.reason,
            onset=step.onset,
            peak=step.peak,
            duration=step.duration,
        )
