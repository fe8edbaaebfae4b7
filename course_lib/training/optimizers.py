"""Gradients → updates: AdamW, or Muon for the matrices and AdamW for the rest."""

from collections.abc import Iterable
from typing import Any, Literal

import torch
from torch import nn

OptimizerName = Literal["adamw", "muon"]


def make_optimizer(
    name: OptimizerName, parameters: Iterable[nn.Parameter], lr: float, weight_decay: float
) -> torch.optim.Optimizer:
    """The optimiser of that name over the parameters; both are PyTorch's own.

    `fused` updates a tensor in one pass over its memory instead of a dozen: the same sums, sooner.
    """
    parameters = list(parameters)
    if name == "adamw":
        return torch.optim.AdamW(parameters, lr=lr, weight_decay=weight_decay, fused=True)
    return MuonAndAdamW(parameters, lr, weight_decay)


class MuonAndAdamW(torch.optim.Optimizer):
    """Muon (Jordan et al. 2024) for every matrix, AdamW for biases, norms and convolutions, under one learning rate.

    Muon turns the momentum of a matrix into the nearest matrix that stretches all directions alike, so that rare directions
    are learnt as fast as common ones. An update costs more than AdamW's and takes a network that starts from nothing further.
    Its step is scaled to the size of AdamW's (Liu et al. 2025), so that one rate serves both.
    """

    def __init__(self, parameters: list[nn.Parameter], lr: float, weight_decay: float):
        settings = {"lr": lr, "weight_decay": weight_decay}
        matrices, others = ([p for p in parameters if (p.ndim == 2) == wanted] for wanted in (True, False))
        self.parts: list[torch.optim.Optimizer] = []
        if matrices:
            # One step of its iteration fewer than PyTorch's five: the iteration is most of what an update costs.
            self.parts.append(torch.optim.Muon(matrices, **settings, ns_steps=4, adjust_lr_fn="match_rms_adamw"))
        if others:
            self.parts.append(torch.optim.AdamW(others, **settings, fused=True))
        super().__init__(parameters, settings)
        # The parts' own groups, so that a schedule that sets the rate here sets it there.
        self.param_groups = [group for part in self.parts for group in part.param_groups]

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        """Update all parameters."""
        for part in self.parts:
            part.step()

    def state_dict(self) -> dict[str, Any]:
        """The states of both, to resume from."""
        return {"parts": [part.state_dict() for part in self.parts]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from what `state_dict` gave."""
        for part, state in zip(self.parts, state_dict["parts"], strict=True):
            part.load_state_dict(state)
        self.param_groups = [group for part in self.parts for group in part.param_groups]
