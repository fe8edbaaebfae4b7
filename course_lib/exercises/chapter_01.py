"""Exercises of notebook 01: aliasing, the power of one frame, counting frames, a triangle, Whisper's scaling."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from course_lib.exercises.base import Exercise, NotYet, attempt


def _as_numbers(answer: Any, shape: tuple[int, ...], what: str) -> Tensor:
    """The learner's tensor, array or list as float64; NotYet when it is something else or has another shape."""
    try:
        numbers = torch.as_tensor(answer).to(torch.float64)
    except (TypeError, ValueError, RuntimeError):
        raise NotYet(f"{what} should be a tensor of numbers; you returned a {type(answer).__name__}.") from None
    if tuple(numbers.shape) != shape:
        raise NotYet(f"{what} should have the shape {shape}; yours is {tuple(numbers.shape)}.")
    return numbers


def _as_number(answer: Any, what: str) -> float:
    try:
        return float(answer)
    except (TypeError, ValueError):
        raise NotYet(f"{what} should be one number; you returned a {type(answer).__name__}.") from None


def _near(left: Tensor, right: Tensor) -> bool:
    return torch.allclose(left, right.to(left.dtype), atol=1e-4, rtol=1e-4)


def heard_frequency(frequency: int | float, rate: int | float) -> int | float:
    """The frequency below rate / 2 that has the same samples."""
    return abs(frequency - rate * round(frequency / rate))


# A tone above the rate first: the wrong answers that it lets pass are told apart by the next two.
ALIAS_CASES = ((21_000, 16_000), (10_000, 16_000), (3000, 16_000), (15_500, 16_000), (5000, 8000), (44_100, 16_000))


def _why_alias(frequency: int | float, rate: int | float, guess: float) -> str:
    half = rate / 2
    if guess == min(frequency, half):
        return "The tone does not stop at half the rate, and it does not vanish: it comes back down"
    if guess == frequency % rate:
        return "Taking away whole sampling rates is right, but what is left above half the rate folds back"
    if guess == frequency:
        return "That is the tone itself. Can its samples tell it from a lower one"
    if guess == rate - frequency < 0:
        return "There is no pitch below 0. What is left when you take away the whole rate first"
    if guess == abs(rate - frequency):
        return "That is right for a tone within half a rate of the rate. What of the others"
    return "Which whole multiple of the rate lies nearest, and how far away is it"


def examine_alias(answer: Callable) -> None:
    for frequency, rate in ALIAS_CASES:
        guess = _as_number(attempt(answer, frequency, rate), "the frequency")
        expected = heard_frequency(frequency, rate)
        if not math.isclose(guess, expected, abs_tol=1e-6):
            why = _why_alias(frequency, rate, guess)
            raise NotYet(
                f"{frequency:,} Hz sampled at {rate:,} Hz sounds like {expected:,} Hz, yours says {guess:,.0f}. {why}?"
            )


def frame_power(frame: Tensor) -> Tensor:
    """The power of each frequency in one frame, from the sums themselves."""
    n = torch.arange(len(frame), dtype=torch.float64)
    turns = torch.arange(len(frame) // 2 + 1, dtype=torch.float64)[:, None] * n / len(frame)
    frame = frame.to(torch.float64)
    return (torch.cos(2 * math.pi * turns) @ frame) ** 2 + (torch.sin(2 * math.pi * turns) @ frame) ** 2


def examine_frame_power(answer: Callable) -> None:
    generator = torch.Generator().manual_seed(101)
    for length in (8, 12, 50):
        frame = torch.randn(length, generator=generator)
        expected = frame_power(frame)
        result = attempt(answer, frame)
        if tuple(getattr(result, "shape", ())) == (length,):
            raise NotYet(
                f"{length} samples have {length // 2 + 1} frequencies; yours has {length}: the upper ones are mirror images."
            )
        guess = _as_numbers(result, (length // 2 + 1,), f"the power of a frame of {length} samples")
        if not _near(guess, expected):
            raise NotYet(_why_power(guess, expected, frame))


def _why_power(guess: Tensor, expected: Tensor, frame: Tensor) -> str:
    n = torch.arange(len(frame)) / len(frame)
    turns = torch.arange(len(expected))[:, None] * n
    only_cosine = (torch.cos(2 * math.pi * turns).double() @ frame.double()) ** 2
    if _near(guess, expected.sqrt()):
        return "these are amplitudes. Power is their square, |X|²."
    if _near(guess, only_cosine) or _near(guess, expected - only_cosine):
        return "half of it is missing: a tone that starts elsewhere in its cycle is caught by the other of cosine and sine."
    if _near(guess * len(frame), expected) or _near(guess * len(frame) ** 2, expected):
        return "right up to a factor: nothing is divided by the number of samples here (torch.stft does not either)."
    return f"for {len(frame)} random samples the power at 0 cycles should be {expected[0]:.3f}, yours is {guess[0]:.3f}."


def examine_count_frames(answer: Callable) -> None:
    generator = torch.Generator().manual_seed(102)
    drawn = torch.randint(4000, 400_000, (6,), generator=generator).tolist()
    for samples in (80_000, 80_159, 80_160, *drawn):
        guess, expected = _as_number(attempt(answer, samples), "the number of frames"), samples // 160
        if guess != expected:
            raise NotYet(
                f"{samples:,} samples make {expected:,} frames, yours says {guess:,.4g}. {_why_frames(samples, guess)}"
            )


def _why_frames(samples: int, guess: float) -> str:
    if guess in (samples / 160, math.ceil(samples / 160), round(samples / 160)):
        return "There are no parts of a frame, and a begun hop does not count: round down."
    if guess == samples // 160 + 1:
        return "torch.stft makes that many; Whisper drops the last one."
    if guess == (samples - 400) // 160 + 1:
        return "So many windows fit without padding, but 200 samples are added at each end first."
    if guess == 3000:
        return "That is with padding to 30 s; here the clip keeps its length."
    return "How many hops of 160 samples fit?"


def triangle_of(frequencies: Tensor, left: float, centre: float, right: float) -> Tensor:
    """0 up to `left`, rising to 1 at `centre`, falling to 0 at `right`."""
    rising, falling = (frequencies - left) / (centre - left), (right - frequencies) / (right - centre)
    return torch.minimum(rising, falling).clamp(min=0)


def examine_triangle(answer: Callable) -> None:
    frequencies = torch.arange(0, 1001, 40, dtype=torch.float64)
    for left, centre, right in ((100.0, 200.0, 400.0), (0.0, 360.0, 480.0), (520.0, 560.0, 900.0)):
        expected = triangle_of(frequencies, left, centre, right)
        result = attempt(answer, frequencies, left, centre, right)
        guess = _as_numbers(result, tuple(frequencies.shape), "the triangle over 26 frequencies")
        if not _near(guess, expected):
            raise NotYet(
                f"for corners at {left:g}, {centre:g} and {right:g} Hz: {_why_triangle(guess, expected, right - left)}"
            )


def _why_triangle(guess: Tensor, expected: Tensor, width: float) -> str:
    if guess.isnan().any():
        return "there is a nan in it; do you divide by zero somewhere?"
    if (guess < -1e-9).any():
        return "some weights are negative. Outside the triangle the weight is 0: clamp."
    if _near(guess, expected * 2 / width):
        return "right in shape, but 2 / width high. The area is normalised later; here the tip is 1."
    if (guess > 1 + 1e-9).any():
        return "some weights are above 1. Which of the two slopes counts at a frequency: the larger or the smaller?"
    if ((guess > 1e-9) & (expected < 1e-9)).any():
        return "a weight outside the triangle is not 0."
    return "the weights between the corners are not on straight lines from 0 to 1 and back to 0."


def whisper_scaled(mel: Tensor) -> Tensor:
    """Floor, log₁₀, at most 8 powers of ten below the loudest, (x + 4) / 4."""
    log_mel = mel.clamp(min=1e-10).log10()
    return (log_mel.clamp(min=log_mel.max() - 8) + 4) / 4


def examine_scaling(answer: Callable) -> None:
    generator = torch.Generator().manual_seed(103)
    quiet = 10 ** (torch.rand(6, 5, generator=generator) * 7 - 5)
    wide = 10 ** (torch.rand(6, 5, generator=generator) * 14 - 13)
    wide[0] = 0.0
    wide[3] *= 100
    for mel in (quiet, wide):
        expected = whisper_scaled(mel).double()
        guess = _as_numbers(attempt(answer, mel), (6, 5), "the scaled log-mel of 6 frames and 5 bins")
        if not _near(guess, expected):
            raise NotYet(_why_scaling(guess, expected, mel))


def _why_scaling(guess: Tensor, expected: Tensor, mel: Tensor) -> str:
    log_mel = mel.double().clamp(min=1e-10).log10()
    floored = log_mel.clamp(min=log_mel.max() - 8)
    by_frame = log_mel.clamp(min=log_mel.amax(dim=1, keepdim=True) - 8)
    if not guess.isfinite().all():
        return "some values are not finite. The logarithm of 0 is −∞: lift to 1e-10 before it."
    if _near(guess, floored):
        return "the logarithm and its floor are right; now (x + 4) / 4."
    if _near(guess, (log_mel + 4) / 4):
        return "what lies more than 8 powers of ten below the loudest is not lifted to there yet."
    if _near(guess, (by_frame + 4) / 4):
        return "the floor hangs below the loudest value of the whole clip, not of each frame."
    natural = mel.double().clamp(min=1e-10).log()
    if any(_near(guess, (x.clamp(min=x.max() - 8) + 4) / 4) for x in (natural, 10 * log_mel)):
        return "wrong logarithm: Whisper counts in powers of ten, log₁₀, neither natural nor in decibels."
    return f"the loudest value should become {expected.max():.3f}, yours is {guess.max():.3f}."


EXERCISES: dict[str, Exercise] = {
    "01.1": Exercise(
        examine_alias,
        (
            "The picture of the two tones: 10,000 Hz and 6,000 Hz lie the same distance from 8,000 Hz, half the rate.",
            "Adding or taking away a whole rate changes no sample, and neither does a minus sign: cos(−x) = cos(x).",
            "So find the whole multiple of the rate that is nearest, and return how far away the tone is from it.",
            "abs(frequency - rate * round(frequency / rate))",
        ),
    ),
    "01.2": Exercise(
        examine_frame_power,
        (
            "For k = 0, 1, … half the length: multiply the frame by a cosine of k cycles and add up; the same with a sine.",
            "A table of angles does all k at once: angles[k, n] = 2π · k · n / length, of shape [length // 2 + 1, length].",
            "Power is the square of the cosine's sum plus the square of the sine's sum.",
            "(torch.cos(angles) @ frame) ** 2 + (torch.sin(angles) @ frame) ** 2",
        ),
    ),
    "01.3": Exercise(
        examine_count_frames,
        (
            "Frame t is centred on sample 160·t. Which t have their centre inside the clip?",
            "Centres 0, 160, 320, … up to and including `samples` make samples // 160 + 1. Whisper drops the last.",
            "samples // 160",
        ),
    ),
    "01.4": Exercise(
        examine_triangle,
        (
            "Two straight lines: one that is 0 at `left` and 1 at `centre`, one that is 1 at `centre` and 0 at `right`.",
            "rising = (frequencies - left) / (centre - left). At each frequency the smaller of the two lines counts.",
            "torch.minimum(rising, falling), and what is below 0 becomes 0: .clamp(min=0).",
        ),
    ),
    "01.5": Exercise(
        examine_scaling,
        (
            "Four steps in this order: lift to 1e-10, log10, lift to 8 below the loudest, (x + 4) / 4.",
            "`.clamp(min=…)` lifts. The loudest is one number for the whole clip: `.max()` without a dimension.",
            "x = mel.clamp(min=1e-10).log10(); then x = x.clamp(min=x.max() - 8)",
        ),
    ),
}
