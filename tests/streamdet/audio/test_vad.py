"""Voice activity: carries state between hops, and hears what is there."""

import numpy as np

from streamdet.audio.vad import VoiceActivity, speech_share


def test_hops_equal_one_long_call_and_batches_equal_singles() -> None:
    vad = VoiceActivity()
    samples = (0.05 * np.random.default_rng(1).standard_normal((3, 5_120 * 4))).astype(np.float32)
    whole, _ = vad(samples, vad.start(3))
    state, parts = vad.start(3), []
    for hop in np.split(samples, 4, axis=1):
        probabilities, state = vad(hop, state)
        parts.append(probabilities)
    np.testing.assert_allclose(np.concatenate(parts, axis=1), whole, atol=1e-5)
    single, _ = vad(samples[1:2], vad.start(1))
    np.testing.assert_array_equal(single[0], whole[1])


def test_silence_and_noise_are_no_speech() -> None:
    vad = VoiceActivity()
    noise = 0.01 * np.random.default_rng(2).standard_normal((1, 5_120 * 6))
    for samples in (np.zeros((1, 5_120 * 6), np.float32), noise.astype(np.float32)):
        probabilities, _ = vad(samples, vad.start(1))
        assert speech_share(probabilities)[0] == 0.0
