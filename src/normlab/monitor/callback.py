"""NormMonitor: for Lightning's trainer, and for loops written by hand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from time import perf_counter
from typing import Any, Self

import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from normlab.config.errors import InputError
from normlab.diagnoses.diagnose import diagnose
from normlab.diagnoses.diagnosis import Severity
from normlab.monitor.recorder import Loop, Recorder
from normlab.monitor.report import Report, logged
from normlab.monitor.schedule import Schedule


class NormMonitor(pl.Callback):
    """Looks at the norms of a running training, and names what is wrong with them.

    As a callback, `Trainer(callbacks=[NormMonitor()])`, it prints what it found at the end, at once where it is severe,
    and logs each norm's numbers to the trainer's loggers as `norms/<site>/<quantity>`. In a loop written by hand,
    `monitor.watch(net)` before it and `print(monitor.report())` after it do the same without logging.

    Training is bit-identical with and without it: it runs no forward pass of its own, draws no random numbers, and
    changes no mode, buffer or gradient. An error inside it is printed once, and ends the monitoring only.

    Args:
        every: steps between the looks that are taken beside the fixed ones (1, 2, 3, …, each at least 25 % later than
            the one before), at least.
        budget: share of the training's time that looks may take before only the fixed ones are left.
        say: prints a message.
        quiet: prints no diagnosis and logs nothing; what was found is in `report()`.

    Raises:
        InputError: `every` is not positive, or `budget` not from 0 to 1.
    """

    def __init__(
        self, every: int = 10, budget: float = 0.015, say: Callable[[str], None] = print, quiet: bool = False
    ) -> None:
        if not isinstance(every, int) or every < 1:
            raise InputError(f"NormMonitor(every={every!r}): every is a number of steps, at least 1")
        if not isinstance(budget, int | float) or not 0 <= budget <= 1:
            raise InputError(f"NormMonitor(budget={budget!r}): budget is a share of the training's time, from 0 to 1")
        self.every, self.budget, self._print, self.quiet = every, budget, say, quiet
        self.recorder: Recorder | None = None
        self.loop: Loop | None = None
        self.failed = ""  # by which error
        self.said: set[str] = set()
        self._diagnosed = 0  # step
        self._statistics: dict[str, Tensor] = {}
        self._handles: list[Any] = []

    def watch(
        self, net: nn.Module, optimizer: torch.optim.Optimizer | Sequence[torch.optim.Optimizer] | None = None
    ) -> Self:
        """Follow a loop written by hand, from now on.

        Args:
            net: is called once per step, `net(inputs)`.
            optimizer: one or several, to see weight decay.
        """
        if not isinstance(net, nn.Module):
            raise InputError(f"monitor.watch() takes a torch.nn.Module, and this is a {type(net).__name__}")
        optimisers = list(optimizer) if isinstance(optimizer, Sequence) else [] if optimizer is None else [optimizer]
        for other in optimisers:
            if not isinstance(other, torch.optim.Optimizer):
                raise InputError(f"monitor.watch() takes an optimizer after the network, not a {type(other).__name__}")
        self.close()
        recorder = self.recorder = Recorder(net, Schedule(self.every, self.budget), self._once)
        recorder.decays(optimisers)
        self.loop = Loop(recorder, net, self._safely, self._alarm)
        return self

    def report(self) -> Report:
        """What has been found so far, the most harmful first; prints as a table."""
        if self.loop is not None:
            self._safely(self.loop.finish)()
        if self.recorder is None:
            raise InputError("the monitor has watched nothing: monitor.watch(net), or Trainer(callbacks=[monitor])")
        if not self.recorder.seen.steps:
            self._once("the monitor has seen no training step: the loop must call the watched network itself")
        return Report(self.recorder.seen, tuple(diagnose(self.recorder.seen)))

    def close(self) -> None:
        """Remove all hooks; the report stays."""
        if self.loop is not None:
            self._safely(self.loop.close)()
        self.loop = None

    def _once(self, message: str) -> None:
        if message not in self.said:
            self.said.add(message)
            self._print(f"NormMonitor: {message}")

    def _safely(self, function: Callable[..., Any]) -> Callable[..., None]:
        """The function, whose errors end the monitoring and nothing else."""

        def called(*arguments: Any) -> None:
            if not self.failed:
                try:
                    function(*arguments)
                except Exception as error:
                    self.failed = f"{type(error).__name__}: {error}"
                    self._once(f"stopped by an error of its own, training continues: {self.failed}")
                    self._drop()

        return called

    def _drop(self) -> None:
        looks = (self.recorder.look, self.recorder.evaluation) if self.recorder is not None else ()
        for handle in (*self._handles, *(handle for look in looks if look for handle in look.handles)):
            handle.remove()
        self._handles = []

    def _alarm(self) -> None:
        """Print each severe cause once, soon after it is seen: the looks in between are not diagnosed."""
        assert self.recorder is not None
        if self.quiet or self.recorder.seen.steps < 2 * self._diagnosed:
            return
        self._diagnosed = self.recorder.seen.steps
        began = perf_counter()
        for diagnosis in diagnose(self.recorder.seen):
            if diagnosis.severity is Severity.SEVERE and diagnosis.cause not in self.said:
                self.said.add(diagnosis.cause)
                self._print(f"NormMonitor, step {self.recorder.seen.steps}: {diagnosis}")
        self.recorder.schedule.spent += perf_counter() - began

    def on_fit_start(self, trainer: pl.Trainer, task: pl.LightningModule) -> None:
        """Find the norms."""
        self._safely(self._begin)(task)

    def _begin(self, task: nn.Module) -> None:
        self.close()
        self.recorder = Recorder(task, Schedule(self.every, self.budget), self._once)

    def on_train_start(self, trainer: pl.Trainer, task: pl.LightningModule) -> None:
        """Read the optimisers' weight decay."""
        if self.recorder is not None:
            self._safely(self.recorder.decays)(trainer.optimizers)

    def on_train_batch_start(self, trainer: pl.Trainer, task: pl.LightningModule, batch: Any, batch_idx: int) -> None:
        """Look at this step, if it is due."""
        self._safely(self._step)(batch)

    def _step(self, batch: Any) -> None:
        if (recorder := self.recorder) is None:
            return
        recorder.begin(batch)
        if (look := recorder.look) is not None:
            output = self._safely(lambda _, __, y: look.output(y))
            look.handles += [part.register_forward_hook(output) for part in recorder.parts()]

    def on_before_backward(self, trainer: pl.Trainer, task: pl.LightningModule, loss: Tensor) -> None:
        """The forward pass is over."""
        if self.recorder is not None and self.recorder.look is not None:
            self._safely(self.recorder.look.detach)()

    def on_train_batch_end(self, trainer: pl.Trainer, task: pl.LightningModule, *_: Any) -> None:
        """Log what a look saw."""
        self._safely(self._stepped)(trainer)

    def _stepped(self, trainer: pl.Trainer) -> None:
        if self.recorder is not None and self.recorder.end():
            if trainer.is_global_zero:
                self._alarm()
            for logger in () if self.quiet else trainer.loggers:
                logger.log_metrics(logged(self.recorder.seen.looks[-1]), step=trainer.global_step)

    def on_validation_start(self, trainer: pl.Trainer, task: pl.LightningModule) -> None:
        """Keep the running statistics, to see whether evaluation changes them."""
        self._safely(self._evaluation)(task)

    def _evaluation(self, task: nn.Module) -> None:
        if self.recorder is None:  # a test without a training
            self._begin(task)
        assert self.recorder is not None
        self._statistics = self.recorder.statistics()

    def on_validation_batch_start(
        self, trainer: pl.Trainer, task: pl.LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """In the first batch, see the modes in which the norms are called."""
        if batch_idx == 0 and self.recorder is not None:
            self._safely(self._first_evaluated)()
        if self.recorder is not None and not trainer.sanity_checking:
            self._safely(self.recorder.evaluates)()

    def _first_evaluated(self) -> None:
        assert self.recorder is not None
        first = next((norm.module for norm in self.recorder.norms if norm.kind.name == "batch"), None)
        if first is not None:
            modes = self._safely(self.recorder.modes)
            self._handles.append(first.register_forward_pre_hook(lambda *_: modes()))

    def on_validation_batch_end(self, *_: Any, **__: Any) -> None:
        """Stop seeing them."""
        if self.recorder is not None:
            self._safely(self.recorder.evaluated)()
        for handle in self._handles:
            handle.remove()
        self._handles = []

    def on_validation_end(self, trainer: pl.Trainer, task: pl.LightningModule) -> None:
        """Which running statistics the evaluation has changed."""
        if self.recorder is not None:
            self._safely(self.recorder.leaked)(self._statistics)

    # Lightning's own names of the arguments differ
    on_test_start, on_test_end = on_validation_start, on_validation_end  # type: ignore[assignment]
    on_test_batch_start, on_test_batch_end = on_validation_batch_start, on_validation_batch_end  # type: ignore[assignment]

    def on_exception(self, trainer: pl.Trainer, task: pl.LightningModule, exception: BaseException) -> None:
        """Remove the hooks of a step that was not finished."""
        self._drop()

    def on_fit_end(self, trainer: pl.Trainer, task: pl.LightningModule) -> None:
        """Print what was found, warnings and worse."""
        self._safely(self._close)(trainer)

    def _close(self, trainer: pl.Trainer) -> None:
        if trainer.is_global_zero and not self.quiet and (lines := self.report().lines()):
            self._print("\n".join(["NormMonitor found:", *lines]))
