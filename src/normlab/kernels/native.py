"""The interface to the C++: the structures of cpu/problem.h, and calls that fill in the tensors."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from normlab.kernels.arguments import ARGUMENTS
from normlab.kernels.build import load

NORMS = ("none", "rms", "layer", "batch")  # their numbers in C++
BUFFERS = ("mask", "y", "c_last", "saved", "running", "statistics")
SIZES = ("examples", "steps", "inputs", "units", "parts", "chunk", "threads")
CHOICES = ("norm_x", "norm_h", "norm_c", "per_step", "keep_x")

Tensors = Mapping[str, Tensor | None]


class LoopOptions(ctypes.Structure):
    """Sizes and options of one call: the structure Problem of cpu/problem.h."""

    _fields_ = [*((name, ctypes.c_int64) for name in (*SIZES, *CHOICES)), ("eps", ctypes.c_double)]


class _Inputs(ctypes.Structure):
    _fields_ = [(name, ctypes.c_void_p) for name in (*ARGUMENTS, *BUFFERS)]


class _Gradients(ctypes.Structure):
    _fields_ = [(name, ctypes.c_void_p) for name in ("dy", "dc_last", *ARGUMENTS)]


def saved_size(options: LoopOptions, dtype: torch.dtype) -> int:
    """How many numbers the backward pass needs from the forward pass."""
    return _size("saved_size", dtype, ctypes.byref(options))


def statistics_size(options: LoopOptions, dtype: torch.dtype) -> int:
    """How many numbers the per-step statistics have; 0 if no site pools over examples."""
    return _size("statistics_size", dtype, ctypes.byref(options))


def lanes(dtype: torch.dtype) -> int:
    """Numbers per vector register; rows are padded to multiples of it."""
    return _size("lanes", dtype)


def forward(options: LoopOptions, tensors: Tensors, dtype: torch.dtype) -> None:
    """Fill `y` and `c_last` and, if there are any, `saved` and `statistics`."""
    _function("forward", dtype)(ctypes.byref(options), ctypes.byref(_Inputs(**_pointers(tensors))))


def backward(options: LoopOptions, tensors: Tensors, gradients: Tensors, dtype: torch.dtype) -> None:
    """Fill the gradients of the arguments from `dy` and `dc_last`."""
    inputs, outputs = _Inputs(**_pointers(tensors)), _Gradients(**_pointers(gradients))
    _function("backward", dtype)(ctypes.byref(options), ctypes.byref(inputs), ctypes.byref(outputs))


def _size(name: str, dtype: torch.dtype, *arguments: Any) -> int:
    function = _function(name, dtype)
    function.restype = ctypes.c_int64
    return int(function(*arguments))


def _function(name: str, dtype: torch.dtype) -> ctypes._NamedFuncPointer:
    function: ctypes._NamedFuncPointer = getattr(load(), f"{name}_{str(dtype).removeprefix('torch.float')}")
    return function


def _pointers(tensors: Tensors) -> dict[str, int]:
    return {name: tensor.data_ptr() for name, tensor in tensors.items() if tensor is not None}
