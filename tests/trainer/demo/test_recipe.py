"""Reading recipes, and speaking one turn with each engine that is installed."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile

import trainer.demo
from trainer.demo.join import RATE, speech_level
from trainer.demo.packages import Packages
from trainer.demo.recipe import Clip, Turn, load
from trainer.demo.speak import recording, sound

SHIPPED = Path(trainer.demo.__file__).parent / "turns.toml"


def synthetic(engine: str, voice: str) -> Turn:
    text = "This is a test of a synthetic voice."
    return Turn(name="t", label="synthetic", engine=engine, voice=voice, text=text, provenance="p", licence="l")


def test_shipped_recipe_is_a_conversation_of_both_kinds() -> None:
    recipe = load(SHIPPED)
    labels = [turn.label for turn in recipe.turns]
    assert labels[0] == labels[-1] == "human"
    assert labels.count("synthetic") >= 2
    assert all(turn.licence and turn.provenance for turn in recipe.turns)
    assert all(turn.clips for turn in recipe.turns if turn.engine == "recording")


def test_only_chooses_and_orders_turns() -> None:
    recipe = load(SHIPPED, only=("austen", "sonnet-opening"))
    assert [turn.name for turn in recipe.turns] == ["austen", "sonnet-opening"]
    assert recipe.turns[1].clips[0].parts == ((2.6, 14.6),)
    assert recipe.speech_level == -26.0


def test_unknown_turn_is_named() -> None:
    with pytest.raises(ValueError, match="no turn named nobody"):
        load(SHIPPED, only=("nobody",))


def test_label_must_be_one_of_two(tmp_path: Path) -> None:
    path = tmp_path / "turns.toml"
    turn = 'name = "a"\nlabel = "robot"\nengine = "flite"\nprovenance = "p"\nlicence = "l"\n'
    path.write_text(f'conversation = ["a"]\n[[turn]]\n{turn}')
    with pytest.raises(ValueError, match="turn a is labelled robot"):
        load(path)


@pytest.mark.parametrize(("engine", "voice"), [("espeak-ng", "en-gb"), ("flite", "slt"), ("festival", "kal_diphone")])
def test_engine_speaks(engine: str, voice: str, tmp_path: Path) -> None:
    program = {"festival": "text2wave"}.get(engine, engine)
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not installed")
    samples = sound(synthetic(engine, voice), Packages(tmp_path))
    assert samples.dtype.name == "float32"
    assert 1.5 < len(samples) / RATE < 5
    assert speech_level(samples) > -40


def test_unknown_engine_and_missing_vocoder_are_errors(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="unknown engine, parrot"):
        sound(synthetic("parrot", ""), Packages(tmp_path))
    with pytest.raises(ValueError, match="needs --fargan"):
        sound(synthetic("fargan", ""), Packages(tmp_path))


def test_excerpts_of_a_recording_are_joined_with_pauses(tmp_path: Path) -> None:
    home = tmp_path / "deb" / "talk"
    home.mkdir(parents=True)
    rng = np.random.default_rng(0)
    soundfile.write(home / "talk.wav", (0.1 * rng.standard_normal(5 * 8000)).astype(np.float32), 8000)
    clip = Clip(package="deb:talk", path="talk.wav", parts=((0.0, 1.0), (3.0, 5.0)))
    turn = Turn(name="t", label="human", engine="recording", provenance="p", licence="l", clips=(clip,))
    assert len(recording(turn, Packages(tmp_path))) / RATE == pytest.approx(3.4, abs=0.1)
    with pytest.raises(FileNotFoundError, match="deb:talk has no file"):
        Packages(tmp_path).path("deb:talk", "other.wav")
