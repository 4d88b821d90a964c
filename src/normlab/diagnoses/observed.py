"""What a monitor has seen of a training, as plain numbers; the diagnoses read nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from statistics import median


@dataclass(frozen=True)
class SiteLook:
    """One norm in one training step; where it is called several times, in its first call.

    training   its mode
    dtype      of its input, as in "float16"
    examples   length of its input's first axis
    values     per statistic
    variance   median over its statistics; of RMS norm the mean square
    absolute   mean over the gains' absolute values; NaN without gains, and in looks that are not whole
    bias       mean over its biases; likewise
    finite     whether all of its input is, and all of its output
    constant   whether large float16 inputs come out as its bias alone
    padded     share of positions that are constant up to an end of their sequence
    shift      (batch mean - running mean) / batch deviation, of up to 32 channels; empty without running statistics
    log_ratio  log of running variance / batch variance, of the same channels
    chance     mean |shift| that independent values alone would give
    varied     share of its output's mean square that is variance over examples and positions; NaN as `absolute`
    dead       share of channels that are nowhere positive, and whose gradient is 0 everywhere; NaN if not known
    repeated   whether a second call had exactly the same input
    updates    of the running statistics after the forward pass was over, as checkpointing makes
    """

    path: str
    training: bool
    dtype: str
    examples: int
    values: int
    variance: float
    absolute: float = float("nan")
    bias: float = float("nan")
    finite: tuple[bool, bool] = (True, True)
    constant: bool = False
    padded: float = 0.0
    shift: tuple[float, ...] = ()
    log_ratio: tuple[float, ...] = ()
    chance: float = 0.0
    varied: float = float("nan")
    dead: float = float("nan")
    repeated: bool = False
    updates: int = 0


@dataclass(frozen=True)
class Place:
    """A layer or norm in the order of the forward pass: RMS of its output, and the L2 norm of that one's gradient."""

    path: str
    activation: float
    gradient: float


@dataclass(frozen=True)
class Look:
    """One training step.

    inputs  mean and variance over the batch of up to 64 features of the network's input, and the batch's size
    rate    highest learning rate of the optimisers; NaN where they are not known
    """

    step: int
    sites: tuple[SiteLook, ...]
    places: tuple[Place, ...] = ()
    inputs: tuple[tuple[float, ...], tuple[float, ...], int] | None = None
    training: bool = True
    rate: float = float("nan")


@dataclass
class Site:
    """What doesn't change during a training.

    cancels   path of the layer whose bias this norm subtracts again
    crosses   in words, the axes over which it normalises although its channels are elsewhere
    last      whether its output is the network's
    decay     weight decay of its gains in the optimiser
    frozen    whether it has parameters, none of which is trained
    tracked   whether it has running statistics
    synchronised  whether its batch statistics are those of all processes
    """

    path: str
    called: str
    norm: str
    eps: float = 0.0
    momentum: float | None = None
    channels: int = 0
    cancels: str = ""
    crosses: str = ""
    last: bool = False
    decay: float = 0.0
    frozen: bool = False
    tracked: bool = False
    synchronised: bool = False


@dataclass
class Observed:
    """A training so far.

    processes    that train together
    evaluations  forward passes for evaluation
    evaluated    norm → what it read in some of them
    unset        norm with running statistics → how many of them it saw in training mode
    leaked       norms whose running statistics an evaluation changed
    """

    sites: dict[str, Site] = field(default_factory=dict)
    looks: list[Look] = field(default_factory=list)
    steps: int = 0
    processes: int = 1
    evaluations: int = 0
    evaluated: dict[str, list[SiteLook]] = field(default_factory=dict)
    unset: dict[str, int] = field(default_factory=dict)
    leaked: dict[str, int] = field(default_factory=dict)
    _of: dict[str, list[tuple[int, SiteLook]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for look in self.looks:
            self._file(look)

    def add(self, look: Look) -> None:
        """Another look, later than all before."""
        self.looks.append(look)
        self._file(look)

    def _file(self, look: Look) -> None:
        for site in look.sites:
            self._of.setdefault(site.path, []).append((look.step, site))

    def of(self, path: str) -> list[SiteLook]:
        """One site in all looks."""
        return [site for _, site in self._of.get(path, [])]

    def late(self, path: str) -> list[SiteLook]:
        """One site in the last 8 looks, where they are in the second half of the training so far."""
        return [site for step, site in self._of.get(path, [])[-8:] if step >= self.steps / 2]

    def named(self, *norms: str) -> Iterator[Site]:
        """The sites that hold one of these norms."""
        return (site for site in self.sites.values() if site.norm in norms)


def typical(values: list[float]) -> float:
    """Median of those that are numbers; NaN if none is."""
    numbers = [value for value in values if value == value]
    return median(numbers) if numbers else float("nan")
