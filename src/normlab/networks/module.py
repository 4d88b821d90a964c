"""Any network as a model of the pipeline."""

from __future__ import annotations

import inspect
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn.parameter import is_lazy

from normlab.config.components import NUMBERS
from normlab.config.errors import InputError
from normlab.config.schema import Sizes
from normlab.models.base import Model
from normlab.networks.replaced import Named, facts_of_swap, replaced
from normlab.networks.target import built, said
from normlab.norms.base import Norm
from normlab.sites.forward import restored


class Module(Model):
    """A network that knows nothing of normlab, with its norms replaced.

    The network is built once, so that for a seed its initial values are the same with each norm: gains and biases are
    those it starts with, and norms draw nothing. Its output is logits, or has them as `logits`.

    Args:
        norm: with its options bound, which hold at all sites.
        sizes: of the data.
        target: `package.module:name` or `file.py:name`, of a class or a function.
        arguments: of the target; see `built`.
        only: patterns of the paths of the norms to replace.
        mask: name of the argument of the network's `forward` for the mask, bool [B, T].

    Raises:
        InputError: there is no such network, it doesn't fit the data, it has no norms, or the norm isn't valid at one.
    """

    kinds = ("images", "features", "tokens", "table")
    dense = True
    obstacle = "it is a norm of a network of the user's, and what feeds it is not known"

    def __init__(
        self,
        norm: partial[Norm],
        sizes: Sizes,
        *,
        target: str,
        arguments: dict[str, Any],
        only: str | list[str],
        mask: str | None,
    ) -> None:
        super().__init__()
        self.target, self.mask, self.kind = target, mask, sizes.kind
        self.net = built(target, arguments, sizes).train()
        example = _example(sizes)
        self._check_output(example, sizes)
        self.report = replaced(
            self.net, norm, self._batch(example), only, Named(f"model.target={target}", "model.only")
        )
        self._check_norms(sizes)

    def forward(self, inputs: Tensor, mask: Tensor | None = None) -> Tensor:
        """See `Model`."""
        return _logits(self.net(inputs, **self._named(inputs, mask)))

    def facts(self) -> dict[str, Any]:
        """How many of the network's norms were replaced, and which were not, if any."""
        return facts_of_swap(self.report)

    def _named(self, inputs: Tensor, mask: Tensor | None) -> dict[str, Tensor]:
        if self.mask is None or self.kind in ("images", "table"):
            return {}
        every = torch.ones(inputs.shape[:2], dtype=torch.bool, device=inputs.device)
        return {self.mask: every if mask is None else mask}

    def _batch(self, example: Tensor) -> Any:
        """The example as `norm_sites` takes it."""
        first = next(iter(inspect.signature(self.net.forward).parameters))
        named = self._named(example, None)
        return {first: example, **named} if named else (example,)

    def _check_output(self, example: Tensor, sizes: Sizes) -> None:
        """Does the network give logits of the right shape, for data like these?"""
        if any(is_lazy(value) for value in (*self.net.parameters(), *self.net.buffers())):
            with torch.no_grad():
                self.net.eval()(example, **self._named(example, None))
            self.net.train()
        expected = [len(example), *([sizes.shape[0]] if sizes.causal else []), sizes.outputs]
        expected += sizes.shape[1:] if sizes.dense else []
        output = self._output(example, sizes)
        if not isinstance(output, Tensor):
            raise InputError(
                f"model.target={self.target} returns a {type(output).__name__}: it must return a tensor of logits, "
                "or something that has one as .logits"
            )
        if list(output.shape) != expected or not output.is_floating_point():
            raise InputError(
                f"model.target={self.target} gives {_shown(output)} for an input {_shown(example)}, and this task "
                f"needs logits {expected}: model.arguments.NAME=data:outputs passes the last of these numbers"
            )
        if sizes.causal:
            self._check_causal(example, output, sizes)

    def _check_norms(self, sizes: Sizes) -> None:
        late = [m for m in self.net.modules() if isinstance(m, Norm) and m.couples_positions and not m.causal]
        if sizes.causal and late:
            raise InputError(
                f"norm={late[0].name} takes its statistics over time, so a language model would see the text it should "
                f"predict: use norm={late[0].nearest}"
            )

    def _output(self, example: Tensor, sizes: Sizes) -> Any:
        try:
            with restored(self.net):
                return _logits(self.net.eval()(example.clone(), **self._named(example, None)))
        except Exception as error:
            known = ", ".join(f"data:{name}" for name in NUMBERS[sizes.kind])
            raise InputError(
                f"model.target={self.target} does not accept {sizes.kind} {_shown(example)}: {said(error)}; "
                f"model.arguments can be {known}"
            ) from error

    def _check_causal(self, example: Tensor, output: Tensor, sizes: Sizes) -> None:
        """Another last token must change no output before it."""
        changed = example.clone()
        changed[:, -1] = (changed[:, -1] + 1) % (sizes.vocabulary or 1)
        others = self._output(changed, sizes)
        if not torch.allclose(output[:, :-1], others[:, :-1], rtol=1e-3, atol=1e-5):
            raise InputError(
                f"model.target={self.target} sees the tokens that it should predict: its outputs depend on later ones, "
                "so it needs a causal mask in language modelling"
            )


def _logits(output: Any) -> Any:
    """The logits of what a network returns."""
    if isinstance(output, dict):
        return output.get("logits", output.get("out", output))  # out: of torchvision's networks for segmentation
    return getattr(output, "logits", output)


def _example(sizes: Sizes) -> Tensor:
    """A batch like those of the data; it draws nothing from torch's global generator."""
    generator = torch.Generator().manual_seed(0)
    shape = (3 if sizes.shape[0] == 2 else 2, *sizes.shape)  # the batch is not as long as the sequences
    if sizes.kind == "tokens":
        return torch.randint(1, sizes.vocabulary or 2, shape, generator=generator)
    return torch.randn(shape, generator=generator)


def _shown(value: Tensor) -> str:
    return f"{str(value.dtype).removeprefix('torch.')} {list(value.shape)}"
