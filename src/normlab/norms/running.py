"""Batch norm in tensor code, without the kernel that `batch.py` adds: all that reads its statistics needs no more."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from normlab.config.schema import InputError
from normlab.norms.base import Epsilon, Norm, axes_of, pooled_at
from normlab.norms.moments import Moments, at_least_float32, merge, moments
from normlab.norms.processes import distributed, merge_processes


class RunningNorm(Norm):
    """A norm by the statistics of a batch, and in evaluation by running ones: batch norm and the base of its variants.

    Sets of fewer than two real entries, and steps beyond `positions` (with the last step's set), use the running
    statistics and update nothing.

    Running statistics are updated with `momentum` once per forward pass in training. As in PyTorch, the running
    variance is unbiased. With chunks it is the pooled variance within them, so its horizon does not depend on `nbs`.

    Args:
        site, named: the site, see `Norm`; `parts` has no effect.
        eps: added to the variance.
        momentum: weight of the newest statistics in the running ones; None averages all of them equally.
        evaluation: statistics in eval mode: `running`; `precise`, the running buffers after
            `refresh_statistics`; `batch`, those of the evaluated batch.
        nbs: normalisation batch size, examples; a batch is cut into consecutive chunks of that many, the last
            may be smaller. None: the batch.
        pool: at `BTC` sites, what one set of statistics pools.
        sync: in training, pool over all processes of a distributed run. Recurrences must then take the
            same number of steps everywhere.
        recurrent_gain: initial gain inside a recurrence.

    Raises:
        InputError: options that exclude each other, or no `positions` to keep a set for each.
    """

    causal = True  # valid in eval mode; pooled over tokens, it does leak later positions in training

    gain: Tensor
    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor  # where momentum is None

    def __init__(
        self,
        *site: Any,
        eps: Epsilon = 1e-5,
        momentum: Annotated[float, Field(gt=0, le=1)] | None = 0.1,
        evaluation: Literal["running", "precise", "batch"] = "running",
        nbs: Annotated[int, Field(gt=0)] | None = None,
        pool: Literal["tokens", "positions"] = "tokens",
        sync: bool = False,
        recurrent_gain: float = 0.1,
        **named: Any,
    ) -> None:
        super().__init__(*site, **named)
        layout, positions = self.layout, self.positions
        recurrent = layout == "BC" and positions is not None
        if recurrent and self.gain_init is None:
            nn.init.constant_(self.gain, recurrent_gain)
        self.per_position = recurrent or (layout == "BTC" and pool == "positions")
        if self.per_position and positions is None:
            raise InputError("norm.pool=positions needs a site that knows its longest sequence; use norm.pool=tokens")
        if nbs == 1 and (layout == "BC" or self.per_position):
            raise InputError("norm.nbs=1 leaves one value per channel at this site; use at least 2")
        if sync and nbs is not None:
            raise InputError("norm.sync=true pools all processes, but norm.nbs splits a batch: use only one of them")
        # of x in chunks, [K, B/K, ...], for one set of statistics a channel, even if a subclass pools channels as well
        pooled = pooled_at(layout, self.axes).replace("C", "")
        self.set_axes = (1,) if self.per_position else axes_of(pooled, layout)
        self.eps = eps
        self.momentum = momentum
        self.evaluation = evaluation
        self.nbs = nbs
        self.pool = pool
        self.sync = sync
        self.collected: Moments | None = None  # see `collect`
        rows = (positions,) if self.per_position and positions is not None else ()
        self.register_buffer("running_mean", torch.zeros(*rows, self.num_features))
        self.register_buffer("running_var", torch.ones(*rows, self.num_features))
        tracked = torch.zeros(*rows, 1, dtype=torch.long) if momentum is None else None
        self.register_buffer("num_batches_tracked", tracked)
        self.kernel = self.kernel_here()

    def kernel_here(self) -> str | None:
        """The `kernel` at this site."""
        return None

    @property
    def pooled(self) -> str:
        """The examples of a chunk and, in images and sequences, their positions, unless each has its own set."""
        return "B" if self.per_position else super().pooled

    @property
    def couples_examples(self) -> bool:
        """Examples of a chunk share statistics."""
        return self.nbs != 1

    def values_per_statistic(self, lengths: Mapping[str, int]) -> int | None:
        """The number of values in the smallest chunk."""
        examples = lengths.get("B", 1)
        size = min(self.nbs or examples, examples)
        return super().values_per_statistic({**lengths, "B": examples % size or size})

    def eval_affine(self, step: int | None = None) -> tuple[Tensor, Tensor] | None:
        """The running statistics' map; None if eval mode uses the batch's, or a set per step without `step`."""
        if self.evaluation == "batch" or (self.per_position and step is None):
            return None
        scale, shift = self.running_affine(step or 0, 1)
        return scale[0], shift[0]

    @property
    def of_batch(self) -> bool:
        """Whether the mode asks for the batch's own statistics."""
        return self.training or self.evaluation == "batch"

    def normalise(self, x: Tensor, mask: Tensor | None, step: int | None) -> Tensor:
        """Normalise with the batch's statistics if the mode requires them, otherwise with the running ones."""
        if step is None or not self.per_position:
            return self._normalise(x, mask, None)
        mask = None if mask is None else mask.unsqueeze(1)
        return self._normalise(x.unsqueeze(1), mask, step).squeeze(1)

    def _normalise(self, x: Tensor, mask: Tensor | None, step: int | None) -> Tensor:
        """Statistics per position; x is [B, length, C]: the one step that `step` gives, or all of them."""
        length = x.shape[1] if self.per_position else 1
        if not (self.of_batch or self.collected is not None):
            return self._with_running(x, step or 0, length)
        if mask is None and self._fusable(x, step or 0, length):
            return self._fused(x, step or 0, length)
        return self._pooled(x, mask, step, length)

    # Running statistics are rows, [rows, C]: one per position, or a single one.

    def _rows(self, buffer: Tensor) -> Tensor:
        return buffer.view(-1, buffer.shape[-1])

    def running(self, start: int, length: int) -> tuple[Tensor, Tensor]:
        """Mean and variance of `length` steps from `start`, [length, C]; steps beyond the last row use it."""
        mean, var = self._rows(self.running_mean), self._rows(self.running_var)
        if start + length <= len(mean):
            return mean[start : start + length], var[start : start + length]
        steps = torch.arange(start, start + length, device=mean.device).clamp(max=len(mean) - 1)
        return mean[steps], var[steps]

    def running_affine(self, start: int, length: int) -> tuple[Tensor, Tensor]:
        """Scale and shift by the running statistics of `length` steps from `start`, [length, C]."""
        mean, var = self.running(start, length)
        scale = self.gain * torch.rsqrt(at_least_float32(var) + self.eps)
        return scale, -mean * scale if self.bias is None else torch.addcmul(self.bias, mean, scale, value=-1)

    def _with_running(self, x: Tensor, start: int, length: int) -> Tensor:
        if not self.per_position:
            return self._by_kernel(x, training=False)
        scale, shift = self.running_affine(start, length)
        return torch.addcmul(shift, at_least_float32(x), scale)

    def _syncs(self) -> bool:
        return self.sync and self.training and distributed()

    def _fusable(self, x: Tensor, start: int, length: int) -> bool:
        """Does PyTorch's kernel compute exactly what is needed?"""
        batch = x.shape[0]
        size = min(self.nbs or batch, batch)
        return (
            self.collected is None
            and self.momentum is not None
            and batch % size == 0
            and size * (x.numel() // batch) >= 2 * length * self.num_features
            and (not self.per_position or start + length <= len(self._rows(self.running_mean)))
            and not self._syncs()
        )

    def _fused(self, x: Tensor, start: int, length: int) -> Tensor:
        """Normalise by PyTorch's kernel."""
        chunks = max(1, len(x) // (self.nbs or len(x)))
        if chunks == 1 and not self.per_position:
            return self._by_kernel(x, training=True)
        return self._many_sets(x, start, length, chunks)

    def _by_kernel(self, x: Tensor, training: bool) -> Tensor:
        if training:
            return self._one_set(x.flatten(0, -2)).view_as(x) if self.layout == "BTC" else self._one_set(x)
        flat = x.flatten(0, -2) if self.layout == "BTC" else x
        mean, var = self.running_mean, self.running_var
        return functional.batch_norm(flat, mean, var, self.gain, self.bias, training=False, eps=self.eps).view_as(x)

    def _one_set(self, x: Tensor) -> Tensor:
        """Let the kernel update the buffers in place, because copying them costs as much as the statistics."""
        mean, var = (self.running_mean, self.running_var) if self.training else (None, None)
        return functional.batch_norm(
            x, mean, var, self.gain, self.bias, training=True, momentum=self.momentum or 0.0, eps=self.eps
        )

    def _many_sets(self, x: Tensor, start: int, length: int, chunks: int) -> Tensor:
        """Turn every set of statistics, of a chunk or a position, into a channel for the kernel."""
        beside = 1 if self.channels_first else -2  # the axis of chunks next to the channels
        wide = x if chunks == 1 else x.unflatten(0, (chunks, -1)).movedim(0, beside).flatten(beside, beside + 1)
        flat = wide.flatten(1) if self.per_position else wide.flatten(0, -2) if self.layout == "BTC" else wide
        gain, bias = (p if p is None else p.repeat(length * chunks) for p in (self.gain, self.bias))
        # The kernel gets copies, because its writes into views of buffers stacked by vmap would be lost.
        running = self.running(start, length)
        mean, var = (rows.repeat(1, chunks).flatten() for rows in running)
        y = functional.batch_norm(
            flat, mean, var, gain, bias, training=True, momentum=self.momentum or 0.0, eps=self.eps
        )
        if self.training:
            for rows, new in zip(running, (mean, var), strict=True):
                rows.copy_(new.view(rows.shape) if chunks == 1 else new.view(length, chunks, -1).mean(1))
        y = y.view_as(wide)
        if chunks == 1:
            return y
        return y.unflatten(self._channel_axis, (chunks, -1)).movedim(beside, 0).flatten(0, 1)

    def _pooled(self, x: Tensor, mask: Tensor | None, step: int | None, length: int) -> Tensor:
        """Normalise by the formula, which includes padding, chunks and other processes' sets."""
        chunks, real = self._chunks(at_least_float32(x), mask)
        sets = moments(chunks, self.set_axes, real)
        rows = Moments(*(t.reshape(len(t), length, self.num_features) for t in sets))  # [K, length, C]
        start, own = step or 0, len(self._rows(self.running_mean))
        if self.collected is not None:
            self.collected = self._pool(self.collected, rows, start)
        if self._syncs():  # whole sequences may be longer in another process: exchange every row
            rows = merge_processes(_fit(rows, own if step is None else length))
        mean, var = self._or_running(_fit(rows, length), start)
        offset, slope = self.standardisation(mean, var, start)
        if self.training:
            self.update(rows, start)
        if start + length > own:  # later steps use the updated last row
            late = torch.arange(start, start + length, device=x.device)[:, None] >= own
            last_mean, last_var = self.running(start, length)
            offset = torch.where(late, last_mean, offset)
            slope = torch.where(late, torch.rsqrt(last_var + self.eps), slope)
        y = self.output(chunks, real, offset.view_as(sets.mean), slope.view_as(sets.mean))
        return y.flatten(0, 1)[: x.shape[0]]

    def standardisation(self, mean: Tensor, var: Tensor, start: int) -> tuple[Tensor, Tensor]:
        """Offset and slope of x̂ = (x - offset) · slope, given sets [K, length, C] of the steps from `start`."""
        del start
        return mean, torch.rsqrt(var + self.eps)

    def output(self, x: Tensor, real: Tensor | None, offset: Tensor, slope: Tensor) -> Tensor:
        """y of chunks [K, B/K, ...], given what `standardisation` says of their channels; `real` is their mask."""
        del real
        y = (x - offset) * (slope * self._along_channels(self.gain))
        return y if self.bias is None else y + self._along_channels(self.bias)

    def _or_running(self, rows: Moments, start: int) -> tuple[Tensor, Tensor]:
        """Mean and variance of rows [K, length, C]; sets of fewer than two entries get the running ones."""
        mean, var = self.running(start, rows.n.shape[1])
        enough = rows.n >= 2
        return torch.where(enough, rows.mean, mean), torch.where(enough, rows.variance, var)

    def _chunks(self, x: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """x as chunks [K, B/K, ...], the last filled up with padding, and a mask that broadcasts to them."""
        size = min(self.nbs or len(x), len(x))
        short = -len(x) % size
        if short:
            if mask is None:
                mask = torch.ones_like(x.select(self._channel_axis, 0), dtype=torch.bool)
            x = functional.pad(x, (0, 0) * (x.ndim - 1) + (0, short))
            mask = functional.pad(mask, (0, 0) * (mask.ndim - 1) + (0, short))
        if mask is not None:
            mask = mask.unsqueeze(self._channel_axis).unflatten(0, (-1, size))
        return x.unflatten(0, (-1, size)), mask

    @torch.no_grad()
    def update(self, rows: Moments, start: int) -> None:
        """Update the running statistics with those of rows [K, length, C], once for all K chunks."""
        own = self._rows(self.running_mean)
        live = slice(min(start, len(own)), min(start + rows.n.shape[1], len(own)))
        rows = _fit(rows, live.stop - live.start)
        enough = rows.n >= 2
        n = rows.n * enough
        total = n.sum(0)
        mean = (n * rows.mean).sum(0) / total.clamp(min=1)
        var = (rows.m2 * enough).sum(0) / (n - 1).clamp(min=0).sum(0).clamp(min=1)
        weight = self._weight((total > 0).to(total.dtype), live)
        for buffer, new in ((self.running_mean, mean), (self.running_var, var)):
            old = self._rows(buffer)[live]
            old.copy_(old + weight * (new - old))

    @torch.no_grad()
    def update_full(self, mean: Tensor, var: Tensor, n: int) -> None:
        """A faster `update` from the first row, for sets [K, length, C] of n ≥ 2 entries each."""
        live = slice(mean.shape[1])
        weight = self.momentum if self.momentum is not None else self._weight(torch.ones_like(mean[0]), live)
        for buffer, new in ((self.running_mean, mean), (self.running_var, var * (n / (n - 1)))):
            self._rows(buffer)[live].lerp_(new.mean(0), weight)

    def _weight(self, updated: Tensor, live: slice) -> Tensor:
        """Weight of the newest statistics; the argument is 1 where there are any and 0 elsewhere."""
        if self.momentum is not None:
            return self.momentum * updated
        tracked = self._rows(self.num_batches_tracked)[live]
        tracked.add_(updated[:, :1].long())
        return updated / tracked.clamp(min=1)

    def collect(self) -> None:
        """Start to normalise with the batch's statistics, also in eval mode, and to pool their exact moments."""
        zeros = torch.zeros_like(self._rows(self.running_mean), dtype=torch.float64)
        self.collected = Moments(zeros, zeros, zeros)

    @torch.no_grad()
    def _pool(self, kept: Moments, rows: Moments, start: int) -> Moments:
        """Rows [rows, C] and the new ones, [K, length, C], of the steps from `start`."""
        if start >= len(kept.n):
            return kept
        own = _fit(rows, len(kept.n) - start)
        placed = (functional.pad(new.double(), (0, 0, start, 0)) for new in own)
        return merge(Moments(*(torch.cat((old[None], new)) for old, new in zip(kept, placed, strict=True))), 0)

    @torch.no_grad()
    def adopt_collected(self) -> None:
        """Set running statistics to the moments collected in all processes, if these have at least two values."""
        if self.collected is None:
            return
        pooled = merge_processes(self.collected) if distributed() else self.collected
        unbiased = pooled.m2 / (pooled.n - 1).clamp(min=1)
        for buffer, new in ((self.running_mean, pooled.mean), (self.running_var, unbiased)):
            old = self._rows(buffer)
            old.copy_(torch.where(pooled.n >= 2, new, old))


def _fit(rows: Moments, length: int) -> Moments:
    """Rows [K, length, C]: later ones are cut off, or are empty sets."""
    more = length - rows.n.shape[1]
    return Moments(*(functional.pad(t, (0, 0, 0, more)) for t in rows)) if more else rows
