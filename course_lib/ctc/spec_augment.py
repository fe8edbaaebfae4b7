"""A log-mel spectrogram → the same with frequency masks and time masks: SpecAugment (Park et al. 2019).

A frequency mask blanks some neighbouring bins in all frames, a time mask some neighbouring frames in all bins, elsewhere in
every clip and every epoch, so that no corner of the picture can be learnt by heart. The paper's third part, time warping, is
left out: the voices already speak at many speeds.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from course_lib.encoder.base import real_frames


@dataclass(frozen=True)
class SpecAugment:
    """How many masks, and how wide: up to `frequency_width` bins, and up to `time_share` of each clip's frames."""

    frequency_masks: int = 2
    frequency_width: int = 10
    time_masks: int = 1
    time_share: float = 0.04

    def __call__(
        self, log_mel: Float[Tensor, "batch frames bins"], counts: Int[Tensor, "batch"]
    ) -> Float[Tensor, "batch frames bins"]:
        """Mask a padded batch, each clip elsewhere, with 0: the mean that `ctc_log_mel` gives every clip.

        The random numbers are PyTorch's, so a resumed training masks what the broken one would have masked.
        """
        batch, frames, bins = log_mel.shape
        widest = torch.full((batch,), float(min(self.frequency_width, bins)), device=log_mel.device)
        for _ in range(self.frequency_masks):
            mask = random_mask(widest, torch.full_like(counts, bins), bins)
            log_mel = log_mel.masked_fill(mask[:, None, :], 0.0)
        for _ in range(self.time_masks):
            mask = random_mask(self.time_share * counts, counts, frames)
            log_mel = log_mel.masked_fill(mask[:, :, None], 0.0)
        return log_mel


def random_mask(widest: Float[Tensor, "batch"], lengths: Int[Tensor, "batch"], size: int) -> Bool[Tensor, "batch size"]:
    """True on one stretch of each row: its width drawn from 0 to `widest`, its place anywhere within `lengths`."""
    widths = (torch.rand_like(widest) * (widest.floor() + 1)).floor().clamp(max=lengths)
    starts = (torch.rand_like(widest) * (lengths - widths + 1)).floor()
    return real_frames(starts + widths, size) & ~real_frames(starts, size)
