"""Every exercise of notebook 01: the solution passes, the stub is recognised, wrong answers hear their own reason."""

import math

import pytest
import torch

from course_lib.exercises.chapter_01 import EXERCISES


def alias(frequency, rate):
    return abs(frequency - rate * round(frequency / rate))


def power(frame):
    n = torch.arange(len(frame))
    angles = 2 * math.pi * torch.arange(len(frame) // 2 + 1)[:, None] * n / len(frame)
    return (torch.cos(angles) @ frame) ** 2 + (torch.sin(angles) @ frame) ** 2


def count_frames(samples):
    return samples // 160


def triangle(frequencies, left, centre, right):
    rising, falling = (frequencies - left) / (centre - left), (right - frequencies) / (right - centre)
    return torch.minimum(rising, falling).clamp(min=0)


def scale(mel):
    x = mel.clamp(min=1e-10).log10()
    return (x.clamp(min=x.max() - 8) + 4) / 4


RIGHT = {"01.1": alias, "01.2": power, "01.3": count_frames, "01.4": triangle, "01.5": scale}


def rectified(frequencies, left, centre, right):
    rising, falling = (frequencies - left) / (centre - left), (right - frequencies) / (right - centre)
    return torch.maximum(rising, falling).clamp(min=0)


def unclamped(frequencies, left, centre, right):
    return torch.minimum((frequencies - left) / (centre - left), (right - frequencies) / (right - centre))


def floored_by_frame(mel):
    x = mel.clamp(min=1e-10).log10()
    return (x.clamp(min=x.amax(dim=1, keepdim=True) - 8) + 4) / 4


def with_logarithm(logarithm):
    def scaled(mel):
        x = logarithm(mel.clamp(min=1e-10))
        return (x.clamp(min=x.max() - 8) + 4) / 4

    return scaled


WRONG = {
    "01.1": [
        (lambda f, r: min(f, r / 2), "it comes back down"),
        (lambda f, r: f % r, "folds back"),
        (lambda f, r: r - f, "There is no pitch below 0"),
        (lambda f, r: abs(r - f), "within half a rate"),
        (lambda f, r: f, "That is the tone itself"),
        (lambda f, r: f / 2, "Which whole multiple"),
        (lambda f, r: "6000 Hz", "should be one number; you returned a str"),
    ],
    "01.2": [
        (lambda x: power(x).sqrt(), "these are amplitudes"),
        (lambda x: torch.fft.rfft(x).real ** 2, "half of it is missing"),
        (lambda x: torch.fft.rfft(x).imag ** 2, "half of it is missing"),
        (lambda x: power(x) / len(x), "right up to a factor"),
        (lambda x: torch.fft.fft(x).abs() ** 2, "mirror images"),
        (lambda x: power(x)[:-1], "should have the shape (5,); yours is (4,)"),
        (lambda x: power(x * torch.hann_window(len(x))), "the power at 0 cycles should be"),
    ],
    "01.3": [
        (lambda samples: samples // 160 + 1, "Whisper drops the last one"),
        (lambda samples: (samples - 400) // 160 + 1, "So many windows fit without padding"),
        (lambda samples: 3000, "with padding to 30 s"),
        (lambda samples: samples / 160, "round down"),
        (lambda samples: math.ceil(samples / 160), "round down"),
        (lambda samples: samples // 400, "How many hops"),
    ],
    "01.4": [
        (unclamped, "some weights are negative"),
        (rectified, "some weights are above 1"),
        (lambda f, a, b, c: triangle(f, a, b, c) * 2 / (c - a), "2 / width high"),
        (lambda f, a, b, c: ((f > a) & (f < c)).double(), "not on straight lines"),
        (lambda f, a, b, c: torch.exp(-(((f - b) / (c - a)) ** 2)), "outside the triangle is not 0"),
        (lambda f, a, b, c: triangle(f, a, b, c)[:5], "should have the shape (26,); yours is (5,)"),
        (lambda f, a, b, c: torch.full_like(f, math.nan), "nan"),
    ],
    "01.5": [
        (lambda mel: (mel.log10() + 4) / 4, "not finite"),
        (lambda mel: scale(mel) * 4 - 4, "now (x + 4) / 4"),
        (lambda mel: (mel.clamp(min=1e-10).log10() + 4) / 4, "not lifted to there yet"),
        (floored_by_frame, "not of each frame"),
        (with_logarithm(torch.log), "wrong logarithm"),
        (with_logarithm(lambda x: 10 * x.log10()), "wrong logarithm"),
        (lambda mel: scale(mel) + 1, "the loudest value should become"),
        (lambda mel: scale(mel).T, "should have the shape (6, 5); yours is (5, 6)"),
    ],
}


@pytest.mark.parametrize("key", EXERCISES)
def test_the_solution_is_right(verdict, key):
    assert verdict(key, RIGHT[key]) == f"{key}  right\n"


def stub(*inputs): ...


@pytest.mark.parametrize("untouched", [stub, None])
@pytest.mark.parametrize("key", EXERCISES)
def test_the_stub_is_recognised(verdict, key, untouched):
    assert verdict(key, untouched).startswith(f"{key}  not attempted yet")


@pytest.mark.parametrize(("key", "wrong", "reason"), [(key, *case) for key, cases in WRONG.items() for case in cases])
def test_a_wrong_answer_hears_its_own_reason(verdict, key, wrong, reason):
    said = verdict(key, wrong)
    assert said.startswith(f"{key}  not yet: ")
    assert reason in said


@pytest.mark.parametrize("key", EXERCISES)
def test_at_least_three_different_reasons(verdict, key):
    assert len({verdict(key, wrong).split(": ", 1)[1] for wrong, _ in WRONG[key]}) >= 3


@pytest.mark.parametrize("key", EXERCISES)
def test_a_missing_return_is_said(verdict, key):
    def forgets(*inputs):
        print(end="")

    assert "Did you forget the return?" in verdict(key, forgets)


def test_lists_and_arrays_are_fine_too(verdict):
    assert "right" in verdict("01.4", lambda f, a, b, c: triangle(f, a, b, c).tolist())
    assert "right" in verdict("01.2", lambda frame: power(frame).numpy())
