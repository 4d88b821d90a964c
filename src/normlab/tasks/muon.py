"""Muon for matrices and AdamW for everything else, as one optimiser."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

from normlab.config.schema import InputError, OptimConfig


class MuonAndAdamW(Optimizer):
    """PyTorch's Muon and AdamW over parameters that they share out, with one state and one list of groups.

    Muon's steps are scaled to the root mean square of AdamW's (Liu et al. 2025, arXiv:2502.16982), so one learning
    rate and one weight decay fit both. Source: Jordan et al. 2024, kellerjordan.github.io/posts/muon.

    Args:
        matrices: groups for Muon, of parameters with two dimensions.
        others: groups for AdamW.
        config: lr, momentum (Muon) and betas (AdamW); groups bring their weight decay.

    Raises:
        InputError: this torch has no Muon.
    """

    def __init__(self, matrices: list[dict[str, Any]], others: list[dict[str, Any]], config: OptimConfig) -> None:
        if not hasattr(torch.optim, "Muon"):
            raise InputError(f"optim=muon needs torch 2.9 or newer, and this is {torch.__version__}; use optim=adamw")
        assert config.lr is not None  # see `build_optimiser`
        self.parts: list[Optimizer] = []
        if matrices:
            self.parts.append(
                torch.optim.Muon(matrices, lr=config.lr, momentum=config.momentum, adjust_lr_fn="match_rms_adamw")
            )
        if others:
            self.parts.append(AdamW(others, lr=config.lr, betas=config.betas))
        super().__init__([{"params": group["params"]} for group in (*matrices, *others)], {})
        self.param_groups = [group for part in self.parts for group in part.param_groups]
        self._share()

    def _share(self) -> None:
        """Give each part its groups and the common state; loading a state dict replaces both."""
        start = 0
        for part in self.parts:
            count = len(part.param_groups)
            part.param_groups = self.param_groups[start : start + count]
            part.state = self.state
            start += count

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load what `state_dict` gave."""
        super().load_state_dict(state_dict)
        self._share()

    @torch.no_grad()
    def step(self, closure: Callable[[], Tensor] | None = None) -> Tensor | None:  # type: ignore[override]
        """One step of both."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for part in self.parts:
            part.step()
        return loss


def embeddings(model: nn.Module) -> set[int]:
    """The ids of token vectors, of which a step changes only some rows: Muon is not for them, nor for a tied output."""
    return {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}
