"""Exercises of notebook 01: aliasing, the power of one frame, counting frames, a triangle, Whisper's scaling, a level meter."""

import math

import torch
from torch import Tensor

from course_lib.exercises.base import Exercise, Mistake
from course_lib.exercises.reading import Number, Numbers


def heard_frequency(frequency: int | float, rate: int | float) -> int | float:
    """The frequency from 0 to rate / 2 that has the same samples."""
    return abs(frequency - rate * round(frequency / rate))


def alias_cases() -> list[tuple[int | float, int | float]]:
    """Tones below half a rate, above it, above one, two and five rates, and on the borders, at several rates."""
    turns = (0.625, 1.3125, 0.1875, 0.96875, 1.75, 2.25, 2.875, 5.4375, 0.5, 1.0, 0.0, 2.0, 3.5)
    return [(turn * rate, rate) for rate in (16_000, 8000, 44_100) for turn in turns] + [(440, 1000), (44_100, 16_000)]


def frame_power(frame: Tensor) -> Tensor:
    """The power of each frequency in one frame, from the sums themselves."""
    cosines, sines = _sums(frame)
    return cosines**2 + sines**2


def _sums(frame: Tensor, at: int | None = None) -> tuple[Tensor, Tensor]:
    n = torch.arange(len(frame), dtype=torch.float64)
    count = len(frame) // 2 + 1 if at is None else at
    angles = 2 * math.pi * torch.arange(count, dtype=torch.float64)[:, None] * n / len(frame)
    frame = frame.to(torch.float64)
    return torch.cos(angles) @ frame, torch.sin(angles) @ frame


def power_cases() -> list[tuple[Tensor]]:
    """Noise of even and odd lengths, a tone that starts at its zero, a constant, silence, and a frame of one sample."""
    generator = torch.Generator().manual_seed(101)
    noise = [torch.randn(length, generator=generator) for length in (8, 12, 9, 50, 25, 2, 3)]
    tone = torch.sin(2 * math.pi * 3 * torch.arange(16) / 16)
    return [(frame,) for frame in (*noise, tone, torch.full((10,), 0.5), torch.zeros(6), torch.tensor([0.7]))]


def count_frames(samples: int, window: int, hop: int, centred: bool) -> int:
    """Windows that fit, after half a window was added at both ends if they are centred."""
    length = samples + 2 * (window // 2) if centred else samples
    return 0 if length < window else (length - window) // hop + 1


def frame_cases() -> list[tuple[int, int, int, bool]]:
    """Whisper's window and others, long clips and some that are shorter than a window, by both conventions."""
    sizes = ((400, 160), (512, 128), (25, 10), (9, 4), (64, 64))
    lengths = (80_000, 80_159, 80_160, 4321, 400, 399, 160, 159, 65, 10, 1)
    return [(samples, *size, centred) for centred in (True, False) for size in sizes for samples in lengths]


def triangle_of(frequencies: Tensor, left: float, centre: float, right: float) -> Tensor:
    """0 up to `left`, rising to 1 at `centre`, falling to 0 at `right`."""
    rising, falling = (frequencies - left) / (centre - left), (right - frequencies) / (right - centre)
    return torch.minimum(rising, falling).clamp(min=0)


def triangle_cases() -> list[tuple[Tensor, float, float, float]]:
    """Corners on and between the frequencies, unequal slopes, one frequency, and none that is inside."""
    grid = torch.arange(0, 1001, 40, dtype=torch.float64)
    uneven = torch.tensor([3.0, 150.0, 151.5, 199.0, 200.0, 201.0, 390.0, 400.0, 7000.0], dtype=torch.float64)
    corners = ((100.0, 200.0, 400.0), (0.0, 360.0, 480.0), (520.0, 560.0, 900.0), (130.0, 150.0, 171.0))
    return [
        *((grid, *three) for three in corners),
        (uneven, 100.0, 200.0, 400.0),
        (torch.tensor([250.0]), 100.0, 200.0, 400.0),
        (grid[:3], 2000.0, 2100.0, 2300.0),
    ]


def whisper_scaled(mel: Tensor) -> Tensor:
    """Floor, log₁₀, at most 8 powers of ten below the loudest, (x + 4) / 4."""
    return _scaled(mel)


def _scaled(
    mel: Tensor, logarithm=torch.log10, floor: float = 1e-10, span: float | None = 8.0, by_frame: bool = False
) -> Tensor:
    log_mel = logarithm(mel.clamp(min=floor) if floor else mel)
    if span is not None:
        loudest = log_mel.amax(dim=1, keepdim=True) if by_frame else log_mel.max()
        log_mel = log_mel.clamp(min=loudest - span)
    return (log_mel + 4) / 4


def scaling_cases() -> list[tuple[Tensor]]:
    """A loud clip, one that reaches from silence to noise, a very quiet one, silence, one frame, one bin."""
    generator = torch.Generator().manual_seed(103)
    quiet = 10 ** (torch.rand(6, 5, generator=generator) * 7 - 5)
    wide = 10 ** (torch.rand(6, 5, generator=generator) * 14 - 13)
    wide[0] = 0.0
    wide[3] *= 100
    faint = 10 ** (torch.rand(4, 3, generator=generator) * 3 - 11)
    return [(mel,) for mel in (quiet, wide, faint, torch.zeros(3, 4), wide[2:3].clone(), wide[:, :1].clone())]


def level(samples: Tensor) -> float:
    """10 · log₁₀ of the mean square, and never below −100 dB."""
    return 10 * math.log10(max(float(samples.double().square().mean()), 1e-10))


def level_of_the_mean(samples: Tensor) -> float:
    """The broken one: the mean of a sound is close to 0, however loud it is."""
    return 10 * math.log10(max(float(samples.double().mean() ** 2), 1e-10))


def level_cases() -> list[tuple[Tensor]]:
    """Tones of several strengths, noise, an offset, silence, and one sample."""
    time = torch.arange(1600) / 16_000
    noise = torch.randn(500, generator=torch.Generator().manual_seed(106)) * 0.1
    tones = [loud * torch.sin(2 * math.pi * pitch * time) for loud, pitch in ((0.5, 440.0), (0.01, 100.0), (1.0, 3000.0))]
    return [(sound,) for sound in (*tones, noise, noise + 0.3, torch.zeros(100), torch.tensor([-0.25]))]


def _least(frequency: float, rate: float) -> float:
    return min(frequency, rate / 2)


EXERCISES: dict[str, Exercise] = {
    "01.1": Exercise(
        title="what you hear",
        level=1,
        minutes=8,
        purpose="to know which tones a sampling rate can hold, and what becomes of the others",
        solve=heard_frequency,
        cases=alias_cases,
        reader=Number(rtol=1e-6),
        mistakes=(
            Mistake(_least, "The tone does not stop at half the rate, and it does not vanish: it comes back down."),
            Mistake(lambda f, r: f % r, "Taking away whole rates is right; what is left above half the rate folds back."),
            Mistake(lambda f, r: f, "That is the tone itself. Can its samples tell it from a lower one?"),
            Mistake(lambda f, r: r - f, "There is no pitch below 0. What is left when whole rates are taken away first?"),
            Mistake(lambda f, r: abs(r - f), "That is right for a tone within half a rate of the rate. What of the others?"),
            Mistake(lambda f, r: f if f <= r / 2 else abs(r - f), "A tone above one and a half rates folds more than once."),
            Mistake(lambda f, r: f % (r / 2), "Half a rate changes the samples, a whole one does not: 10,000 Hz is not 2,000."),
        ),
        otherwise="Which whole multiple of the rate lies nearest, and how far away is it?",
        hints=(
            "The picture of the two tones: 10,000 Hz and 6,000 Hz lie the same distance from 8,000 Hz, half the rate.",
            "Adding or taking away a whole rate changes no sample, and neither does a minus sign: cos(−x) = cos(x).",
            "So find the whole multiple of the rate that is nearest, and return how far away the tone is from it.",
        ),
    ),
    "01.2": Exercise(
        title="the power of one frame",
        level=3,
        minutes=15,
        purpose="to see that a spectrum is nothing but sums, one pair for each frequency",
        solve=frame_power,
        cases=power_cases,
        reader=Numbers(atol=1e-4),
        mistakes=(
            Mistake(lambda x: frame_power(x).sqrt(), "These are amplitudes. Power is their square."),
            Mistake(
                lambda x: _sums(x)[0] ** 2, "The sines are missing: a tone that starts at its zero is caught by them alone."
            ),
            Mistake(
                lambda x: _sums(x)[1] ** 2, "The cosines are missing: a tone that starts at its peak is caught by them alone."
            ),
            Mistake(lambda x: sum(_sums(x)) ** 2, "Square the two sums first and add then: (a + b)² is another number."),
            Mistake(
                lambda x: frame_power(x) / len(x), "Nothing is divided by the number of samples here; Whisper does not, either."
            ),
            Mistake(lambda x: frame_power(x) / len(x) ** 2, "Nothing is divided by the square of the number of samples here."),
            Mistake(
                lambda x: sum(part**2 for part in _sums(x, len(x))),
                "That is one for each sample, but the upper frequencies are mirror images.",
            ),
            Mistake(
                lambda x: frame_power(x)[:-1], "The last frequency is missing: the count goes up to half the length itself."
            ),
            Mistake(lambda x: 2 * frame_power(x), "Twice too much."),
        ),
        otherwise="Take a frame of two samples, a and b: at 0 cycles the power is (a + b)², at 1 it is (a − b)².",
        forbidden=("fft", "rfft", "hfft", "fftn", "rfftn", "fft2", "stft", "dft_matrix"),
        hints=(
            "For k = 0, 1, … half the length: multiply the frame by a cosine of k cycles and add up; the same with a sine.",
            "A table of angles does all k at once: angles[k, n] = 2π · k · n / length, of shape [length // 2 + 1, length].",
            "Power is the square of the cosine's sum plus the square of the sine's sum.",
        ),
    ),
    "01.3": Exercise(
        title="two ways to count",
        level=2,
        minutes=10,
        purpose="to know by how many frames, and by how many milliseconds, two libraries differ",
        solve=count_frames,
        cases=frame_cases,
        reader=Number(whole=True),
        mistakes=(
            Mistake(lambda n, w, h, c: n // h if c else count_frames(n, w, h, c), "Frame 0 counts, too: one more than hops."),
            Mistake(lambda n, w, h, c: n // h + 1, "That is the centred count. Without padding the last windows do not fit."),
            Mistake(lambda n, w, h, c: count_frames(n, w, h, False), "Centred frames have half a window more at each end."),
            Mistake(
                lambda n, w, h, c: count_frames(n, w, h, c) if c or n >= w else (n - w) // h + 1,
                "A clip shorter than the window has no frame, and not a negative number of them.",
            ),
            Mistake(
                lambda n, w, h, c: max(0, (n + c * (w // 2) - w) // h + 1), "Half a window is added at both ends, not at one."
            ),
            Mistake(lambda n, w, h, c: max(0, -(-(n + 2 * c * (w // 2) - w) // h) + 1), "A begun hop is no frame: round down."),
            Mistake(
                lambda n, w, h, c: max(0, (n + 2 * c * (w // 2) - w) // h),
                "Places are counted like fence posts: one more than there are steps.",
            ),
        ),
        otherwise="How long is the row of samples, with what is added? Where can a window begin, if it must end inside?",
        hints=(
            "First without padding: a window of 400 in 400 samples fits once, in 559 still once, in 560 twice.",
            "With `centred` the same count, over a row that is longer by window // 2 at each end.",
            "Whatever is shorter than the window makes 0 frames.",
        ),
    ),
    "01.4": Exercise(
        title="one triangle",
        level=2,
        minutes=10,
        purpose="to build the filter that gathers neighbouring frequencies into one mel bin",
        solve=triangle_of,
        cases=triangle_cases,
        reader=Numbers(),
        mistakes=(
            Mistake(
                lambda f, a, b, c: torch.minimum((f - a) / (b - a), (c - f) / (c - b)),
                "Some weights are negative. Outside the triangle the weight is 0.",
            ),
            Mistake(
                lambda f, a, b, c: torch.minimum((f - a) / (b - a), (c - f) / (c - b)).abs(),
                "The weights outside are turned upwards. They should be 0 there, not positive.",
            ),
            Mistake(
                lambda f, a, b, c: torch.maximum((f - a) / (b - a), (c - f) / (c - b)).clamp(min=0),
                "A valley, and not a hill. Which of the two slopes counts at a frequency: the larger or the smaller?",
            ),
            Mistake(lambda f, a, b, c: triangle_of(f, a, b, c) * 2 / (c - a), "Right in shape; but here the tip is 1 high."),
            Mistake(
                lambda f, a, b, c: triangle_of(f, a, (a + c) / 2, c), "The tip is at `centre`, which need not be the middle."
            ),
            Mistake(
                lambda f, a, b, c: ((f > a) & (f < c)).double(), "That is a box. Inside, the weight rises to 1 and falls again."
            ),
            Mistake(
                lambda f, a, b, c: ((f - a) / (b - a)).clamp(0, 1) * (f <= c),
                "The second slope is missing: from the centre on it goes down again.",
            ),
        ),
        otherwise="The weights lie on straight lines from 0 at `left` to 1 at `centre` and back to 0 at `right`.",
        hints=(
            "Two straight lines: one that is 0 at `left` and 1 at `centre`, one that is 1 at `centre` and 0 at `right`.",
            "rising = (frequencies - left) / (centre - left). At each frequency the smaller of the two lines counts.",
            "And what would be below 0 becomes 0.",
        ),
    ),
    "01.5": Exercise(
        title="Whisper's scaling",
        level=2,
        minutes=10,
        purpose="to make the numbers that the encoder was trained on, and no others",
        solve=whisper_scaled,
        cases=scaling_cases,
        reader=Numbers(),
        mistakes=(
            Mistake(lambda mel: _scaled(mel, floor=0.0, span=None), "The logarithm of 0 is −∞: lift to 1e-10 before it."),
            Mistake(lambda mel: _scaled(mel, floor=0.0), "Silence has no logarithm: lift to 1e-10 before it."),
            Mistake(lambda mel: _scaled(mel) * 4 - 4, "The logarithm and its floor are right; now shift and shrink."),
            Mistake(lambda mel: _scaled(mel) * 4 / 4 - 0.75, "First + 4, then / 4: both halves are divided."),
            Mistake(
                lambda mel: _scaled(mel, span=None),
                "What lies far below the loudest is not lifted: 80 dB are 8 powers of ten, and not 80.",
            ),
            Mistake(
                lambda mel: _scaled(mel, by_frame=True),
                "The floor hangs below the loudest of the whole clip, not of each frame.",
            ),
            Mistake(lambda mel: _scaled(mel, torch.log), "That is the natural logarithm; Whisper counts in powers of ten."),
            Mistake(lambda mel: _scaled(mel, lambda x: 10 * x.log10()), "Those are decibels; Whisper counts in powers of ten."),
            Mistake(lambda mel: _scaled(mel, floor=1e-8), "The first floor is 1e-10."),
            Mistake(
                lambda mel: (mel.clamp(min=1e-10).log10().clamp(min=-8) + 4) / 4,
                "The second floor is no fixed number: it hangs 8 below the loudest value of this clip.",
            ),
        ),
        otherwise="Which of the four steps comes first, and what does silence become after each?",
        hints=(
            "Nothing may be 0 when the logarithm is taken.",
            "`.clamp(min=…)` lifts. The loudest is one number for the whole clip: `.max()` without a dimension.",
            "The loudest is looked for after the logarithm, and the shift by 4 comes last.",
        ),
    ),
    "01.6": Exercise(
        title="repair: a level meter that shows nothing",
        level=1,
        minutes=8,
        purpose="to read somebody's four lines with a symptom in hand",
        solve=level,
        cases=level_cases,
        reader=Number(),
        broken=level_of_the_mean,
        symptom="A tone at half of full scale is shown as silence, a constant offset as loud. What is a sound's mean?",
        mistakes=(
            Mistake(
                lambda x: 20 * math.log10(max(float(x.double().abs().mean()), 1e-5)),
                "That is the mean of the absolute values; power is a mean of squares.",
            ),
            Mistake(lambda x: 2 * level(x) if level(x) > -100 else -100.0, "10 · log₁₀ of a power; 20 is for amplitudes."),
            Mistake(
                lambda x: 10 * math.log10(max(float(x.double().square().sum()), 1e-10)),
                "A sum grows with the length of the clip. The mean does not.",
            ),
            Mistake(lambda x: 10 * math.log10(float(x.double().square().mean())), "Silence must stay at −100 dB."),
            Mistake(
                lambda x: 20 * math.log10(max(float(x.double().abs().max()), 1e-5)),
                "That is the peak; the mean power is wanted.",
            ),
        ),
        otherwise="For the samples 0.5 and −0.5 the mean power is 0.25, which is −6 dB.",
        hints=(
            "A sound goes as far below 0 as above. What is the mean of a whole cycle?",
            "A negative number's square is positive: in which order do square and mean come?",
        ),
    ),
}
