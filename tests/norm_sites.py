"""Sites to try norms at, and every norm found by its YAML.

`NORMLAB_NORM=FILE` chooses one YAML alone, which may lie anywhere: a norm of one's own, its module on the path.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra.utils import get_class, instantiate
from omegaconf import OmegaConf
from torch import Tensor

from normlab.norms.base import Norm

CONF = Path(__file__).parents[1] / "conf" / "norm"
OURS = {path.stem: path for path in sorted(CONF.glob("*.yaml")) if path.stem != "own"}  # which is no norm
CHOSEN = os.environ.get("NORMLAB_NORM")
FILES = {Path(CHOSEN).stem: Path(CHOSEN)} if CHOSEN else OURS
NORMS = list(FILES)
# whose training reads other examples
BATCH = {"batch", "batch_renorm", "evo_b", "frozen_batch", "regularized_batch", "switchable"}
# whose gradient is on purpose not that of the formula: parts of it are constants in the backward pass
DETACHED = {"ada", "batch_renorm", "detached_layer"}
# tested at every site by `make test`; of the others, `make test` tries one site, and `make test-all` all
THOROUGH = {"batch", "detached_layer", "dyt", "group", "instance", "layer", "layer_channel", "none", "rms"}


@dataclass(frozen=True)
class Site:
    """A layout with the shape of an input; `steps` is where the time axis lies, if there is one."""

    name: str
    layout: str
    shape: tuple[int, ...]
    positions: int | None = None

    @property
    def channels_first(self) -> bool:
        return self.layout in ("BCL", "BCHW", "BCDHW")

    @property
    def channels(self) -> int:
        return self.shape[1] if self.channels_first else self.shape[-1]

    @property
    def places(self) -> tuple[int, ...]:
        """The shape of a mask."""
        return self.shape[:1] + self.shape[2:] if self.channels_first else self.shape[:-1]

    def along_channels(self, mask: Tensor) -> Tensor:
        return mask.unsqueeze(1 if self.channels_first else -1)

    def input(self, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        return 0.5 + 2 * torch.randn(self.shape, generator=generator, dtype=dtype)

    def mask(self, seed: int = 0) -> Tensor:
        """About two thirds real, at least two in each pool of any norm."""
        generator = torch.Generator().manual_seed(seed)
        mask = torch.rand(self.places, generator=generator) < 0.6
        mask[:2] = True
        return mask


SITES = [
    Site("BC", "BC", (6, 16)),
    Site("BCHW", "BCHW", (4, 16, 3, 2)),
    Site("BTC", "BTC", (4, 5, 16), positions=5),
    Site("recurrent", "BC", (4, 5, 16), positions=5),
    Site("recurrent_step", "BC", (6, 16), positions=5),
]
SIGNAL, VOLUME = Site("BCL", "BCL", (4, 16, 5)), Site("BCDHW", "BCDHW", (3, 16, 2, 3, 2))


def config(name: str) -> Any:
    return OmegaConf.load((OURS | FILES)[name])


def legal(name: str, site: Site) -> bool:
    return site.layout in get_class(config(name)._target_).layouts


def build(name: str, site: Site, *, parts: int = 1, bias: bool = True, gain_init: float | None = None, **options: Any):
    """The norm at the site in float64, from its YAML with some options changed; parameters are not trivial."""
    factory = instantiate(config(name), **options)
    norm = factory(
        site.channels, site.layout, parts=parts, positions=site.positions, bias=bias, gain_init=gain_init
    ).double()
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for name, parameter in norm.named_parameters():
            if name != "alpha":
                parameter.copy_(0.5 + torch.rand(parameter.shape, generator=generator, dtype=parameter.dtype))
        for name, buffer in norm.named_buffers():
            if name in ("running_mean", "running_var"):
                buffer.copy_(0.5 + torch.rand(buffer.shape, generator=generator, dtype=buffer.dtype))
    return norm


def home(name: str) -> Site:
    """A site where the norm is valid: `BTC` if possible."""
    return next(site for site in (SITES[2], SITES[1], SITES[0]) if legal(name, site))


def tried(cases: list[tuple[str, Site]], newer: bool = True) -> list[Any]:
    """Cases; those of signals and volumes, treated as images are, and most of those of the newer norms, marked slow.

    Without `newer`, all of those are.
    """
    return [
        pytest.param(*case, id=f"{case[0]}-{case[1].name}", marks=() if _quick(*case, newer) else pytest.mark.slow)
        for case in cases
    ]


def _quick(name: str, site: Site, newer: bool) -> bool:
    known = name in THOROUGH or CHOSEN or (newer and site == home(name))
    return bool(known) and site not in (SIGNAL, VOLUME)


def some_norms(names: list[str]) -> list[Any]:
    """Names of norms, the newer ones marked slow."""
    return [n if n in THOROUGH or CHOSEN else pytest.param(n, marks=pytest.mark.slow) for n in names]


def step_of(site: Site) -> int | None:
    return 3 if site.name == "recurrent_step" else None


def apply(norm: Norm, site: Site, x: Tensor, mask: Tensor | None = None) -> Tensor:
    return norm(x, mask, step_of(site))


CASES = [(name, site) for name in NORMS for site in SITES if legal(name, site)]
SPATIAL = [(name, site) for name in NORMS for site in (SIGNAL, VOLUME) if legal(name, site)]
