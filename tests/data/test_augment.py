"""Every augmentation does to the sound what its name says, measured on tones and clicks."""

import random

import numpy as np
import pytest

from course_lib.data import augment as module
from course_lib.data.augment import add_noise, add_room, add_silence, augment, change_speed, equalise, set_level
from course_lib.sound.audio import SAMPLE_RATE


def tone(frequency, seconds=1.0, peak=0.5):
    time = np.arange(int(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    return (peak * np.sin(2 * np.pi * frequency * time)).astype(np.float32)


def click(seconds=0.5):
    waveform = np.zeros(int(seconds * SAMPLE_RATE), np.float32)
    waveform[0] = 1.0
    return waveform


def loudest_frequency(waveform):
    return np.argmax(np.abs(np.fft.rfft(waveform))) * SAMPLE_RATE / len(waveform)


def decibels(power_ratio):
    return 10 * np.log10(power_ratio)


@pytest.mark.parametrize("factor", [0.88, 1.0, 1.14])
def test_speed_changes_length_and_pitch_by_the_factor(factor):
    faster = change_speed(tone(1_000), factor)
    assert len(faster) == pytest.approx(SAMPLE_RATE / factor, abs=2)
    assert loudest_frequency(faster) == pytest.approx(1_000 * factor, abs=3)
    assert faster.dtype == np.float32


def test_silence_adds_exactly_its_samples_on_both_sides():
    speech = tone(300, 0.25)
    padded = add_silence(speech, before=0.5, after=0.125)
    assert len(padded) == len(speech) + 8_000 + 2_000
    assert np.array_equal(padded[8_000:-2_000], speech)
    assert not padded[:8_000].any()
    assert not padded[-2_000:].any()
    assert padded.dtype == np.float32


def test_a_room_keeps_the_direct_sound_first_and_adds_a_tail_that_decays_by_60_db():
    reverberation_time, wetness = 0.4, 0.5
    response = add_room(click(), reverberation_time, wetness, np.random.default_rng(0))
    tail = response[1:6_400].astype(np.float64)
    assert response.dtype == np.float32
    assert len(response) == len(click())
    assert response[0] == pytest.approx(1.0, abs=1e-5)
    assert np.abs(tail).max() < 0.2
    assert np.linalg.norm(tail) == pytest.approx(wetness, rel=0.05)
    seconds = np.arange(1, 6_400) / SAMPLE_RATE
    decay_per_second = np.polyfit(seconds, decibels(tail**2 + 1e-20), 1)[0]
    assert decay_per_second * reverberation_time == pytest.approx(-60, abs=4)
    assert np.abs(response[6_400:]).max() < 1e-5


def test_a_larger_and_a_wetter_room_echo_more():
    def tail(reverberation_time, wetness):
        return np.linalg.norm(add_room(click(), reverberation_time, wetness, np.random.default_rng(0))[800:])

    assert tail(0.5, 0.4) > 2 * tail(0.1, 0.4)
    assert tail(0.3, 0.8) == pytest.approx(2 * tail(0.3, 0.4), rel=0.01)


@pytest.mark.parametrize(("band", "gain_db"), [(0, 9.0), (3, -9.0), (7, 6.0)])
def test_the_equaliser_changes_a_tone_by_the_decibels_of_its_band(band, gain_db):
    frequency = round(60 * (8_000 / 60) ** (band / 7)) if band < 7 else 7_990
    gains = [0.0] * 8
    gains[band] = gain_db
    before = tone(frequency)
    inside = slice(4_000, 12_000)
    after = equalise(before, gains)
    assert decibels(np.mean(after[inside] ** 2) / np.mean(before[inside] ** 2)) == pytest.approx(gain_db, abs=0.3)
    assert loudest_frequency(after) == pytest.approx(frequency, abs=1)
    assert after.dtype == np.float32


def test_the_equaliser_leaves_other_bands_and_the_length_alone():
    before = tone(120, seconds=1.00013)
    after = equalise(before, [0.0] * 5 + [9.0, 9.0, 9.0])
    assert len(after) == len(before)
    assert np.abs(after - before)[4_000:12_000].max() < 1e-3
    np.testing.assert_allclose(equalise(before, [0.0] * 8), before, atol=1e-6)


@pytest.mark.parametrize("snr_db", [0.0, 10.0, 30.0])
@pytest.mark.parametrize("slope", [0.0, 1.0, 2.0])
def test_noise_lies_as_far_below_the_speech_as_asked(snr_db, slope):
    speech = add_silence(np.random.default_rng(1).normal(0, 0.1, SAMPLE_RATE).astype(np.float32), 0.5, 0.5)
    noisy = add_noise(speech, snr_db, slope, np.random.default_rng(0))
    noise = noisy - speech
    measured = decibels(np.mean(speech[8_000:-8_000] ** 2) / np.mean(noise**2))
    assert measured == pytest.approx(snr_db, abs=1.0)
    assert noisy.dtype == np.float32


@pytest.mark.parametrize("slope", [0.0, 1.0, 2.0])
def test_noise_falls_by_three_decibels_an_octave_for_each_unit_of_slope(slope):
    noise = add_noise(tone(500, 4.0), 10.0, slope, np.random.default_rng(0)) - tone(500, 4.0)
    power, frequencies = np.abs(np.fft.rfft(noise)) ** 2, np.fft.rfftfreq(len(noise), 1 / SAMPLE_RATE)
    low, high = (np.mean(power[(frequencies > f) & (frequencies < 1.2 * f)]) for f in (200, 3_200))
    assert decibels(low / high) == pytest.approx(4 * 10 * np.log10(2) * slope, abs=1.5)


def test_noise_over_pure_silence_is_faint_and_finite():
    noisy = add_noise(np.zeros(SAMPLE_RATE, np.float32), 20.0, 1.0, np.random.default_rng(0))
    assert np.isfinite(noisy).all()
    assert 0 < np.abs(noisy).max() < 1e-3


@pytest.mark.parametrize("peak_db", [-24.0, -6.0, 0.0])
def test_the_level_is_that_of_the_loudest_sample(peak_db):
    levelled = set_level(tone(440, peak=0.123), peak_db)
    assert 20 * np.log10(np.abs(levelled).max()) == pytest.approx(peak_db, abs=0.01)
    assert levelled.dtype == np.float32
    assert not set_level(np.zeros(100, np.float32), peak_db).any()


def test_the_same_seed_gives_the_same_chain_and_another_seed_another():
    speech = tone(200, 0.7)
    first, second, other = (augment(speech, seed) for seed in ("a", "a", "b"))
    assert np.array_equal(first, second)
    assert len(first) != len(other) or not np.array_equal(first, other)


def test_an_augmented_voice_is_float32_finite_and_not_clipped():
    speech = tone(200, 0.7)
    peaks = []
    for seed in range(40):
        heard = augment(speech, str(seed))
        assert heard.dtype == np.float32
        assert np.isfinite(heard).all()
        assert 0.7 / 1.14 + 0.05 <= len(heard) / SAMPLE_RATE <= 0.7 / 0.88 + 1.6
        peaks.append(20 * np.log10(np.abs(heard).max()))
    assert -24.01 < min(peaks) < -18
    assert -6 < max(peaks) < -0.99


def test_each_step_of_the_chain_is_taken_about_as_often_as_it_says():
    chances = [chance for chance, _ in module._steps(random.Random(0), np.random.default_rng(0))]
    assert chances == [0.5, 0.6, 0.8, 0.4]


def test_the_steps_stand_in_the_order_in_which_sound_travels(monkeypatch):
    taken = []
    for name in ("add_room", "add_noise", "equalise"):
        monkeypatch.setattr(module, name, lambda waveform, *_, name=name: taken.append(name) or waveform)
    for _, step in module._steps(random.Random(0), np.random.default_rng(0)):
        step(tone(100, 0.1))
    assert taken == ["add_room", "add_noise", "equalise", "add_noise"]
