"""The contract of a model: what the rest of the package requires of a network."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor, nn

from normlab.config.schema import InputError
from normlab.norms.base import Norm


@dataclass(frozen=True)
class Site:
    """A site of a norm in a model.

    norm      path of the norm's module
    fed_by    path of the linear layer or convolution whose output only this norm reads; None: there is none
    obstacle  why there is none, in words
    """

    norm: str
    fed_by: str | None
    obstacle: str = ""


class Model(nn.Module, ABC):
    """A network with a norm at each of its sites, independent of any data set.

    A subclass needs a constructor and `forward`; everything else has a default that is valid for any network:

        class MyModel(Model):
            def __init__(self, norm: NormFactory, sizes: Sizes, *, width: int = 64) -> None: ...
            def forward(self, inputs: Tensor, mask: Tensor | None = None) -> Tensor: ...

    `norm` builds the norm of one site (see `NormFactory`), `sizes` says what the data look like. Options are
    keyword-only parameters with plain annotations; `conf/model/x.yaml` lists them with their defaults. Initial values
    come from torch's global generator. The model is built once for each run and in training mode.

    The constants below are plain literals: a config is checked against them from the source, without importing torch.
    """

    kinds: ClassVar[tuple[str, ...]] = ("images", "features", "tokens")  # kinds of input that it accepts, see `Sizes`
    dense: ClassVar[bool] = False  # can it give logits for each pixel, if `sizes.dense`?
    layouts: ClassVar[tuple[str, ...]] = ()  # layouts of its sites; empty: known only once the model is built
    depth: ClassVar[tuple[str, ...]] = ()  # options whose product is the number of its `hidden_layers`
    roles: ClassVar[tuple[str, ...]] = ()  # what `norm_at` may name besides layer1, layer2, …, see `Places`
    normless: ClassVar[dict[str, tuple[str, ...]]] = {}  # option → its values that are for networks without norms
    # option → another name of a value → the name that a run's config has
    aliases: ClassVar[dict[str, dict[str, str]]] = {}
    # options added after the first runs → the value at which the model is what it was: there a run's id leaves them out
    neutral: ClassVar[dict[str, Any]] = {}
    recurrent: ClassVar[bool] = False  # its norms are inside a loop over time, and its depth is time
    # in eval mode its examples depend on each other only through its norms, and this many at a time are fastest on a
    # CPU, see `in_parts`; None: a batch is evaluated whole
    part: ClassVar[int | None] = None
    obstacle: ClassVar[str] = "the model does not say which layer feeds it"  # why its norms can't be folded

    @abstractmethod
    def forward(self, inputs: Tensor, mask: Tensor | None = None) -> Tensor:
        """Logits [B, outputs], [B, T, outputs] in language modelling, or [B, outputs, H, W] if `sizes.dense`.

        Args:
            inputs: float [B, C, H, W], [B, T, F] or [B, F], or int64 [B, T], as `sizes.kind` says.
            mask: bool [B, T], true where real, a sequence's real steps first; None: all real.
        """

    def sites(self) -> list[Site]:
        """All norms of the model, in the order of the data flow."""
        return [Site(path, None, self.obstacle) for path, module in self.named_modules() if isinstance(module, Norm)]

    def hidden_layers(self) -> list[nn.Module]:
        """The modules whose outputs are the hidden layers x_1 … x_L, in order; empty: not declared.

        A shortcut around a layer is part of the layer. In a recurrent model these are the layers, not the time steps.
        """
        return []

    def token_vectors(self) -> nn.Module:
        """The module that turns token ids [B, T] into vectors [B, T, F].

        Raises:
            InputError: there is none, so the model accepts no tokens.
        """
        embedding = next((module for module in self.modules() if isinstance(module, nn.Embedding)), None)
        if embedding is None:
            raise InputError(
                f"{type(self).__name__} has no nn.Embedding: override token_vectors() "
                "to return the module that it uses instead"
            )
        return embedding

    def facts(self) -> dict[str, Any]:
        """Facts about this model for a run's summary that the config doesn't have, such as the chosen kernel."""
        return {}

    def unfused(self) -> AbstractContextManager[None]:
        """Within the context, every norm is called as a module, so that hooks see its inputs and outputs."""
        return nullcontext()


def facts_of(model: Model) -> dict[str, Any]:
    """The model's facts, the kernel of its norms if it is ours, and which norms stand where if they differ."""
    norms = {path: module for path, module in model.named_modules() if isinstance(module, Norm)}
    kernels = {norm.kernel for norm in norms.values() if norm.kernel}
    found = {"norm_kernel": " and ".join(sorted(kernels))} if kernels else {}
    if len({norm.name for norm in norms.values()}) > 1:
        found["norms"] = ", ".join(f"{path} {norm.name}" for path, norm in norms.items())
    return {**found, **model.facts()}


@contextmanager
def outputs_of(modules: list[nn.Module]) -> Iterator[list[Tensor]]:
    """The outputs of these modules within the context, in the order of their calls, as parts of the graph."""
    kept: list[Tensor] = []

    def keep(_module: nn.Module, _arguments: tuple[Any, ...], output: Tensor) -> None:
        kept.append(output)

    handles = [module.register_forward_hook(keep) for module in modules]
    try:
        yield kept
    finally:
        for handle in handles:
            handle.remove()
