"""How many numbers at each station, worked out before anything is computed: the shape table of every notebook."""

from collections.abc import Mapping

from jaxtyping import Int
from torch import Tensor

from course_lib.sound.audio import SAMPLE_RATE
from course_lib.sound.mel import HOP_LENGTH


def mel_frames(samples: int) -> int:
    """Mel frames of so many samples: one for every full hop of 160.

    >>> mel_frames(80_000), mel_frames(159)
    (500, 0)
    """
    return samples // HOP_LENGTH


def frames_after(frames: int | Int[Tensor, "batch"], reduction: int) -> int | Int[Tensor, "batch"]:
    """Frames that are left when an encoder makes one of `reduction`; a last one that is not full counts.

    2 for Whisper, 4 or 8 for Stage B's encoder, which halves them two or three times: that comes to the same.

    >>> frames_after(100, 2), frames_after(100, 4), frames_after(100, 8)
    (50, 25, 13)
    """
    return -(-frames // reduction)


def audio_tokens_of(features: int | Int[Tensor, "batch"], k: int) -> int | Int[Tensor, "batch"]:
    """Audio tokens that a projector makes of so many features; a tail of fewer than `k` (under k × 20 ms) gives none.

    >>> audio_tokens_of(250, 5), audio_tokens_of(254, 5)
    (50, 50)
    """
    return features // k


def shape_table(
    seconds: int | float, bins: int = 80, feature_dim: int = 512, k: int = 5, llm_dim: int = 256
) -> dict[str, tuple[int, ...]]:
    """Shapes of a clip on its way through SLAM-ASR.

    >>> for station, shape in shape_table(5.0, llm_dim=2048).items():
    ...     print(f"{station:13}{shape}")
    waveform     (80000,)
    log-mel      (500, 80)
    features     (250, 512)
    audio tokens (50, 2048)
    """
    samples = round(seconds * SAMPLE_RATE)
    frames = mel_frames(samples)
    features = frames_after(frames, 2)
    return {
        "waveform": (samples,),
        "log-mel": (frames, bins),
        "features": (features, feature_dim),
        "audio tokens": (audio_tokens_of(features, k), llm_dim),
    }


def format_shape_table(shapes: Mapping[str, tuple[int, ...]], seconds: int | float) -> str:
    """The shape table as lines for people, with how many rows each station makes of a second."""
    lines = [f"{'station':14}{'shape':>14}{'rows a second':>16}"]
    lines += [f"{station:14}{shape!s:>14}{shape[0] / seconds:>16,.1f}" for station, shape in shapes.items()]
    return "\n".join(lines)


def check_shape_table(shapes: Mapping[str, tuple[int, ...]], found: Mapping[str, tuple[int, ...]]) -> str:
    """Compare what came out with what was predicted; raises ValueError that lists every station that differs."""
    wrong = [
        f"  {station}: predicted {shape}, found {tuple(found[station]) if station in found else 'nothing'}"
        for station, shape in shapes.items()
        if station not in found or tuple(found[station]) != shape
    ]
    if wrong:
        raise ValueError("\n".join(["the shape table does not hold:", *wrong]))
    return f"all {len(shapes)} shapes are as predicted"
