"""A log-mel spectrogram → the same with some bands and some moments blanked out (SpecAugment, Park et al. 2019).

A network that has heard a sentence ten times knows it by heart from any corner of the picture. Cover another corner each time,
and it has to listen to all of it. Nothing is warped in time here: the voices already speak at many speeds.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from course_lib.encoder.base import real_frames


@dataclass(frozen=True)
class SpecAugment:
    """How many masks, and how wide: up to `band_width` of the bins, and up to `time_share` of each clip's frames."""

    bands: int = 2
    band_width: int = 10
    moments: int = 1
    time_share: float = 0.04

    def __call__(
        self, log_mel: Float[Tensor, "batch frames bins"], counts: Int[Tensor, "batch"]
    ) -> Float[Tensor, "batch frames bins"]:
        """Blank other stretches of every clip, with 0, the mean that `ctc_log_mel` gives each clip.

        The random numbers are PyTorch's, so a resumed training covers what the broken one would have covered.
        """
        batch, frames, bins = log_mel.shape
        widest = torch.full((batch,), float(min(self.band_width, bins)), device=log_mel.device)
        for _ in range(self.bands):
            log_mel = log_mel.masked_fill(random_stretch(widest, torch.full_like(counts, bins), bins)[:, None, :], 0.0)
        for _ in range(self.moments):
            log_mel = log_mel.masked_fill(random_stretch(self.time_share * counts, counts, frames)[:, :, None], 0.0)
        return log_mel


def random_stretch(widest: Float[Tensor, "batch"], lengths: Int[Tensor, "batch"], size: int) -> Bool[Tensor, "batch size"]:
    """True on one stretch of each row: its width drawn from 0 to `widest`, its place anywhere within `lengths`."""
    widths = (torch.rand_like(widest) * (widest.floor() + 1)).floor().clamp(max=lengths)
    starts = (torch.rand_like(widest) * (lengths - widths + 1)).floor()
    return real_frames(starts + widths, size) & ~real_frames(starts, size)
