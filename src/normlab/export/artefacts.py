"""A network as files that need no normlab: a torch.export program and an ONNX model."""

from __future__ import annotations

import copy
import importlib.util
import io
import logging
import warnings
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from normlab.config.errors import InputError
from normlab.export.graph import traced
from normlab.export.plain import PlainNorm
from normlab.models.base import Model
from normlab.norms.rms import RMSNorm

OPSET = 23  # the first with RMS norm
OPSET_WITH_MASK = 20  # attention of 23 refuses a mask that broadcasts over queries, in ONNX Runtime 1.32
ONNX_PACKAGES = ("onnx", "onnxscript", "onnxruntime")
Call = Callable[..., Tensor]


@dataclass(frozen=True)
class Signature:
    """What an exported network takes.

    inputs   an example batch of at least two examples
    mask     of the batch, bool [B, T]; None: the network takes none
    longest  of the model's sequences; None: its inputs are no sequences
    """

    inputs: Tensor
    mask: Tensor | None
    longest: int | None

    @property
    def arguments(self) -> tuple[Tensor, ...]:
        """The example's arguments, in order."""
        return (self.inputs,) if self.mask is None else (self.inputs, self.mask)

    @property
    def names(self) -> list[str]:
        """The names of the arguments."""
        return ["inputs", "mask"][: len(self.arguments)]

    def fitted(self, length: int) -> Signature:
        """The same with sequences padded at the end, or cut, to that many steps."""
        return Signature(*padded_to(self.inputs, self.mask, length), self.longest)


def padded_to(inputs: Tensor, mask: Tensor | None, length: int) -> tuple[Tensor, Tensor | None]:
    """Sequences with zeros at their ends up to `length` steps, or cut to them, and their mask."""
    made = inputs.new_zeros(len(inputs), length, *inputs.shape[2:])
    real = min(length, inputs.shape[1])
    made[:, :real] = inputs[:, :real]
    if mask is None:
        return made, None
    wide = mask.new_zeros(len(mask), length)
    wide[:, :real] = mask[:, :real]
    return made, wide


@dataclass(frozen=True)
class Exported:
    """A traced network.

    program  for any number of examples
    length   steps of a sequence: a number, if all sequences must have that many; `any`; `up to N`; None: no sequences
    """

    program: torch.export.ExportedProgram
    length: int | str | None

    @property
    def fixed(self) -> int | None:
        """The number of steps that every sequence must have, if it must."""
        return self.length if isinstance(self.length, int) else None


def exported(model: Model, signature: Signature) -> Exported:
    """Trace a network for any number of examples, and for any length of sequences if it allows that.

    A recurrence is a loop in Python, which tracing unrolls, so its sequences must have one length.

    Raises:
        InputError: torch.export can't take the network with any number of examples.
    """
    longest, model = signature.longest, _for_tracing(model)
    if longest is not None and not model.recurrent:
        for length, said in ((torch.export.Dim("length"), "any"), (_up_to(longest), f"up to {longest}")):
            try:
                return Exported(_program(model, signature, length), said)
            except InputError:
                continue
    if longest is None:
        return Exported(_program(model, signature, None), None)
    return Exported(_program(model, signature.fitted(longest), None), longest)


def _for_tracing(model: Model) -> Model:
    """The same network with each RMS norm as one operation, also where it has a bias."""
    copied = copy.deepcopy(model)
    for path, module in list(copied.named_modules()):
        if type(module) is RMSNorm and not module.channels_first:
            copied.set_submodule(path, PlainNorm.of(module))
    return copied


def _up_to(longest: int) -> Any:
    return torch.export.Dim("length", max=max(3, longest))


def _program(model: Model, signature: Signature, length: Any) -> torch.export.ExportedProgram:
    dims = {0: torch.export.Dim("batch"), **({1: length} if length is not None else {})}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return traced(model, signature.arguments, dynamic_shapes=tuple(dims for _ in signature.arguments))


def write_pt2(made: Exported, path: Path) -> None:
    """Write the program; `torch.export.load(path).module()` is the network again."""
    with path.open("wb") as file:
        torch.export.save(made.program, file)


def read_pt2(path: Path) -> Call:
    """The network of such a file."""
    with path.open("rb") as file:
        call: Call = torch.export.load(file).module()
    return call


def missing_for_onnx() -> list[str]:
    """The packages that ONNX needs and that are not installed."""
    return [name for name in ONNX_PACKAGES if importlib.util.find_spec(name) is None]


def write_onnx(made: Exported, signature: Signature, path: Path) -> None:
    """Write the program as ONNX, with its weights in the same file; the output is called `logits`.

    Raises:
        InputError: it has an operation that ONNX lacks.
    """
    opset = OPSET if signature.mask is None else OPSET_WITH_MASK
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            torch.onnx.export(
                made.program, f=str(path), input_names=signature.names, output_names=["logits"],
                dynamo=True, external_data=False, verbose=False, opset_version=opset,
            )  # fmt: skip
    except Exception as error:
        why = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise InputError(f"torch.onnx can't export this network: {type(error).__name__}: {why[:200]}") from error
    finally:
        logging.disable(level)


def read_onnx(path: Path, names: list[str], threads: int) -> Call:
    """The network of an ONNX file, computed by ONNX Runtime on the CPU."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads, options.log_severity_level = threads, 1, 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def call(*arguments: Tensor) -> Tensor:
        fed = {name: argument.numpy() for name, argument in zip(names, arguments, strict=True)}
        return torch.from_numpy(session.run(None, fed)[0])

    return call
