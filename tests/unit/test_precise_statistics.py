"""The callback that evaluates batch norm with the population's statistics."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from normlab.config.schema import OptimConfig, Sizes
from normlab.data.batch import Batch
from normlab.data.loader import loader
from normlab.data.splits import Examples
from normlab.norms.batch import BatchNorm
from normlab.probes.precise_statistics import PreciseStatistics
from normlab.tasks.classification import Classification

EXAMPLES = Examples(
    (255 * torch.rand(40, 1, 2, 2, generator=torch.Generator().manual_seed(0))).to(torch.uint8),
    torch.arange(40) % 2,
    mean=torch.full((1, 1, 1), 100.0),
    std=torch.full((1, 1, 1), 50.0),
)


class Net(nn.Module):
    """Dropout makes the training depend on the random numbers drawn."""

    def __init__(self, norm) -> None:
        super().__init__()
        self.linear, self.norm, self.head = nn.Linear(4, 8), norm(8, "BC"), nn.Linear(8, 2)

    def forward(self, inputs: Tensor, mask: Tensor | None = None) -> Tensor:
        hidden = self.norm(self.linear(inputs.flatten(1)), mask)
        return self.head(nn.functional.dropout(hidden, 0.3, self.training))


def fit(folder: Path, evaluation: str, *callbacks: pl.Callback) -> Classification:
    torch.manual_seed(0)
    optim = OptimConfig(name="sgd", lr=0.1, weight_decay=0.0)
    model = Net(partial(BatchNorm, evaluation=evaluation))
    task = Classification(model, Sizes("images", (1, 2, 2), 2), optim, {})
    trainer = pl.Trainer(
        default_root_dir=folder,
        accelerator="cpu",
        max_epochs=2,
        logger=False,
        callbacks=list(callbacks),
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        val_check_interval=0.5,
    )
    trainer.fit(task, loader(EXAMPLES, 10, seed=0), loader(EXAMPLES, 20))
    return task


class Seen(pl.Callback):
    """The first norm's running mean as each validation begins, and the population's."""

    def __init__(self) -> None:
        self.pairs: list[tuple[Tensor, Tensor, Tensor, Tensor]] = []

    def on_validation_batch_start(self, trainer, task, batch: Batch, *_: int) -> None:
        if not task.model.training:
            everything = EXAMPLES.gather(EXAMPLES.in_order()).inputs
            z = task.model.linear(everything.flatten(1))
            norm = task.model.norm
            self.pairs.append((norm.running_mean.clone(), z.mean(0), norm.running_var.clone(), z.var(0)))


def test_each_validation_has_the_statistics_of_the_training_split(tmp_path: Path) -> None:
    seen = Seen()
    fit(tmp_path, "precise", PreciseStatistics(), seen)
    assert len(seen.pairs) == 8  # 2 epochs, 2 validations each, 2 batches
    for mean, expected_mean, var, expected_var in seen.pairs:
        torch.testing.assert_close(mean, expected_mean, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(var, expected_var, rtol=1e-5, atol=1e-6)


def test_training_is_the_same_with_and_without(tmp_path: Path) -> None:
    with_it = dict(fit(tmp_path, "precise", PreciseStatistics()).named_parameters())
    for name, parameter in fit(tmp_path, "precise").named_parameters():
        assert torch.equal(parameter, with_it[name])


def test_other_norms_are_left_alone(tmp_path: Path) -> None:
    one = fit(tmp_path, "running", PreciseStatistics()).state_dict()
    for name, value in fit(tmp_path, "running").state_dict().items():
        assert torch.equal(value, one[name])
