"""What `Inside` sees, and that training knows nothing of it."""

from __future__ import annotations

import itertools
import math
from functools import partial
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torch import Tensor, nn
from torch.nn import functional as F

from norm_sites import OURS, THOROUGH
from normlab.config.schema import InputError, OptimConfig, Sizes
from normlab.data.batch import Batch
from normlab.data.loader import loader
from normlab.data.splits import Examples, Windows
from normlab.models.base import Model
from normlab.models.cnn import CNN
from normlab.models.lstm import LSTM
from normlab.models.mlp import MLP
from normlab.models.transformer import Transformer
from normlab.norms.batch import BatchNorm
from normlab.norms.dyt import DynamicTanh
from normlab.norms.layer import LayerNorm
from normlab.norms.none import NoNorm
from normlab.probes.inside import Inside, look, sites, summarised
from normlab.probes.mode_gap import mode_gap
from normlab.probes.precise_statistics import PreciseStatistics
from normlab.tasks.classification import Classification
from normlab.tasks.language_modelling import LanguageModelling
from normlab.tasks.task import Task

CONF = Path(__file__).parents[2] / "conf" / "norm"
NORMS = sorted(OURS)
OPTIM = OptimConfig(name="sgd", lr=0.05, weight_decay=0.0)
IMAGES = Sizes("images", (1, 8, 8), 3)
WORDS = Sizes("tokens", (6,), 3, vocabulary=9, positions=6)
TEXT = Sizes("tokens", (6,), 9, vocabulary=9, positions=6, causal=True)


def images(count: int = 48) -> Examples:
    pixels = 255 * torch.rand(count, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    targets = torch.arange(count) % 3
    pixels[:, 0, 0] += 40 * targets[:, None]
    mean, std = (torch.full((1, 1, 1), value) for value in (100.0, 50.0))
    return Examples(pixels.clamp(max=255).to(torch.uint8), targets, mean=mean, std=std)


def words(count: int = 48) -> Examples:
    lengths = torch.arange(count) % 5 + 2
    tokens = torch.randint(1, 9, (count, 6), generator=torch.Generator().manual_seed(0))
    return Examples(tokens * (torch.arange(6) < lengths[:, None]), torch.arange(count) % 3, lengths)


def text() -> Windows:
    return Windows(torch.randint(0, 9, (200,), generator=torch.Generator().manual_seed(0)), 6)


MODELS = {
    "cnn": (partial(CNN, width=8, stages=2), IMAGES, images),
    "mlp": (partial(MLP, width=8, depth=3), IMAGES, images),
    "lstm": (partial(LSTM, width=8, bidirectional=True, dropout=0.2, state_noise=0.1), WORDS, words),
    "transformer": (partial(Transformer, width=8, layers=1, heads=2, activation="relu", dropout=0.2), WORDS, words),
    "language": (partial(Transformer, width=8, layers=1, heads=2, norm_position="sandwich"), TEXT, text),
}


def made(kind: str, norm) -> Task:
    torch.manual_seed(0)
    model, sizes, _ = MODELS[kind]
    if sizes.causal:
        rates = {"train": 1.0, "validation": 1.0}
        return LanguageModelling(model(norm, sizes), sizes, OPTIM, {}, tokens_per_character=rates)
    return Classification(model(norm, sizes), sizes, OPTIM, {})


def batches(kind: str, seed: int | None = 0):
    return loader(MODELS[kind][2](), 12, seed=seed)


class Noise(pl.Callback):
    """As in a run: a generator that a look would disturb goes on where it was."""

    def on_train_start(self, *_) -> None:
        torch.manual_seed(5)


class Losses(pl.Callback):
    """Every training loss, every logged validation loss."""

    def __init__(self) -> None:
        self.kept: list[float] = []

    def on_train_batch_end(self, trainer, task, outputs, *_) -> None:
        self.kept.append(float(outputs["loss"]))

    def on_validation_end(self, trainer, task) -> None:
        self.kept.append(float(trainer.callback_metrics["validation/loss"]))


def fit(folder: Path, kind: str, norm, *callbacks: pl.Callback, inside: bool = True):
    """The task, what `Inside` found, and the losses."""
    task, losses = made(kind, norm), Losses()
    look_in = [Inside(task.model, batches(kind, seed=7), 3)] if inside else []
    trainer = pl.Trainer(
        default_root_dir=folder,
        accelerator="cpu",
        max_epochs=2,
        logger=False,
        callbacks=[Noise(), *callbacks, losses, *look_in],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        val_check_interval=0.5,
    )
    trainer.fit(task, batches(kind), batches(kind, seed=None))
    return task, look_in[0] if inside else None, losses.kept, trainer


def chosen(name: str):
    options = {"groups": 2} if name == "group" else {}
    return instantiate(OmegaConf.load(CONF / f"{name}.yaml"), **options)


CASES = [(kind, name) for kind, name in itertools.product(MODELS, NORMS)]


def buildable(kind: str, name: str) -> bool:
    try:
        made(kind, chosen(name))
    except InputError:
        return False
    return True


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        case if case[1] in THOROUGH else pytest.param(*case, marks=pytest.mark.slow)
        for case in CASES
        if buildable(*case)
    ],
)
def test_every_site_of_every_model_and_norm_is_seen(kind: str, name: str) -> None:
    task = made(kind, chosen(name))
    initial = {path: norm.gain.detach().clone() for path, norm in sites(task.model).items() if norm.gain is not None}
    batch = next(iter(batches(kind)))
    found = look(task, batch, initial, 0)
    places = set(sites(task.model))
    for quantity in ("gradient", "activation", "stable_rank", "cosine"):
        assert set(found[quantity]) == places
        assert all(math.isfinite(value) for value in found[quantity].values()), quantity
    assert all(value > 0 for value in found["activation"].values())
    assert set(found.get("gain_drift", {})) == set(initial)
    assert all(value == 0 for value in found.get("gain_drift", {}).values())
    coupled = {path for path, norm in sites(task.model).items() if isinstance(norm, BatchNorm)}
    assert set(found.get("tid_mean", {})) == coupled
    assert ("dead" in found) == (kind in ("cnn", "mlp", "transformer"))
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in task.model.modules())


@pytest.mark.parametrize(
    ("kind", "norm"),
    [
        ("cnn", BatchNorm),
        ("cnn", partial(BatchNorm, evaluation="precise")),
        ("lstm", BatchNorm),
        ("lstm", partial(BatchNorm, momentum=None)),
        ("transformer", BatchNorm),
        ("language", LayerNorm),
    ],
)
def test_training_is_the_same_with_and_without(kind: str, norm, tmp_path: Path) -> None:
    """Weights, running statistics, every loss and the random numbers after it, bit by bit."""
    results = []
    for inside in (True, False):
        task, _, losses, trainer = fit(tmp_path, kind, norm, PreciseStatistics(), inside=inside)
        if inside:
            before = {name: value.clone() for name, value in task.state_dict().items()}
            mode_gap(trainer, task, batches(kind))
            assert all(torch.equal(value, before[name]) for name, value in task.state_dict().items())
        results.append((task.state_dict(), losses, torch.rand(3)))
    (state, losses, drawn), (other, other_losses, other_drawn) = results
    assert losses == other_losses
    assert all(torch.equal(value, other[name]) for name, value in state.items())
    assert torch.equal(drawn, other_drawn)


def test_a_look_leaves_modes_kernels_and_gradients_alone() -> None:
    task = made("lstm", LayerNorm)
    task.model.eval()
    task.model.layers[0].train()
    modes = [module.training for module in task.model.modules()]
    kernel = task.model.kernel
    look(task, next(iter(batches("lstm"))), {}, 0)
    assert [module.training for module in task.model.modules()] == modes
    assert task.model.kernel == kernel
    assert all(parameter.grad is None for parameter in task.model.parameters())


class Chain(Model):
    """One hidden layer, with a norm before and behind its relu."""

    def __init__(self, norm) -> None:
        super().__init__()
        self.linear, self.first = nn.Linear(64, 5), norm(5, "BC")
        self.act, self.second, self.head = nn.ReLU(), norm(5, "BC"), nn.Linear(5, 3)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        return self.head(self.second(self.act(self.first(self.linear(x.flatten(1))))))


def test_quantities_by_their_definitions() -> None:
    torch.manual_seed(0)
    task = Classification(Chain(BatchNorm), IMAGES, OPTIM, {}).double()
    model = task.model
    batch = next(iter(batches("cnn")))
    batch = Batch(batch.inputs.double(), batch.targets, None, batch.total)
    initial = {path: norm.gain.detach().clone() for path, norm in sites(model).items()}
    with torch.no_grad():
        model.first.gain.copy_(torch.tensor([1.0, 1.0, 1.5, 0.5, -20.0]))
        model.first.bias[4] = -100.0  # a unit that is never active
    found = look(task, batch, initial, 0)
    z = model.linear(batch.inputs.flatten(1))
    y = F.batch_norm(z, None, None, model.first.gain, model.first.bias, training=True)
    second = F.batch_norm(y.relu(), None, None, model.second.gain, model.second.bias, training=True)
    loss = F.cross_entropy(model.head(second), batch.targets)
    gradient, later = torch.autograd.grad(loss, [y, second])
    exact = {"rel": 1e-9}  # but the loss is computed in float32
    assert found["gradient"]["first"] == pytest.approx(float(gradient.square().mean().sqrt()), rel=1e-6)
    assert found["gradient"]["second"] == pytest.approx(float(later.square().mean().sqrt()), rel=1e-6)
    assert found["activation"]["first"] == pytest.approx(float(y.square().mean().sqrt()), **exact)
    assert found["gain_drift"]["first"] == pytest.approx(math.sqrt((0.25 + 0.25 + 441) / 5), rel=1e-6)
    assert found["gain_drift"]["second"] == 0
    pairs = [F.cosine_similarity(y[i], y[j], dim=0) for i, j in itertools.permutations(range(12), 2)]
    assert found["cosine"]["first"] == pytest.approx(float(torch.stack(pairs).mean()), **exact)
    values = torch.linalg.svdvals(y - y.mean(0))
    assert found["stable_rank"]["first"] == pytest.approx(float(values.square().sum() / values[0] ** 2), **exact)
    assert found["dead"] == {"act": 0.2}
    sigma = (z.var(0, correction=0) + 1e-5).sqrt()
    assert found["tid_mean"]["first"] == pytest.approx(float((z.mean(0).abs() / sigma).mean()), rel=1e-6)
    scale = math.sqrt(1 + 1e-5)  # running statistics are still 0 and 1
    assert found["tid_var"]["first"] == pytest.approx(float((scale / sigma - 1).abs().mean()), rel=1e-6)


def test_padding_counts_nowhere() -> None:
    """Longer padding of the same sequences changes nothing."""
    task = made("transformer", BatchNorm)
    task.model.dropout.p = task.model.blocks[0].dropout.p = 0.0
    batch = next(iter(batches("transformer")))
    longer = Batch(F.pad(batch.inputs, (0, 3)), batch.targets, F.pad(batch.mask, (0, 3)), batch.total)
    first, second = (look(task, one, {}, 0) for one in (batch, longer))
    for quantity, values in first.items():
        for site, value in values.items():
            assert second[quantity][site] == pytest.approx(value, rel=1e-4, abs=1e-7), (quantity, site)


def test_a_step_of_a_recurrence_is_a_row_of_its_site() -> None:
    """The sites of an LSTM see all steps, whatever kernel trains it; the sum over steps is that of the whole site."""
    found = {}
    for kernel in ("auto", "plain"):
        torch.manual_seed(0)
        task = Classification(LSTM(BatchNorm, WORDS, width=8, kernel=kernel), WORDS, OPTIM, {})
        found[kernel] = look(task, next(iter(batches("lstm"))), {}, 0)
    assert found["auto"] == found["plain"]
    assert set(found["plain"]["gradient"]) == {f"layers.0.forwards.norm_{name}" for name in "xhc"}


def test_the_gradient_of_no_norm_is_that_of_its_own_branch() -> None:
    """x + f(N(x)) with N(x) = x: the shortcut's gradient is not the site's."""
    task = made("language", NoNorm)
    model, batch = task.model, next(iter(batches("language")))
    found = look(task, batch, {}, 0)["gradient"]
    block = model.blocks[0]
    x = model.embedding(batch.inputs) * math.sqrt(8)
    from normlab.models.transformer import rotary_angles

    branch = x.detach().requires_grad_()
    middle = x + block.attention(branch, None, rotary_angles(x, 4))
    logits = model.head(middle + block.feed_forward(middle))
    loss = F.cross_entropy(logits.flatten(0, 1), batch.targets.flatten())
    (gradient,) = torch.autograd.grad(loss, branch)
    assert found["blocks.0.before.0"] == pytest.approx(float(gradient.square().mean().sqrt()), rel=1e-5)


def test_sites_together() -> None:
    flat = summarised({"gradient": {"a": 1.0, "b": 100.0}, "cosine": {"a": 0.2, "b": 0.4}, "dead": {"act": 0.5}})
    assert flat == {
        "inside/gradient": pytest.approx(10),
        "inside/gradient/a": 1.0,
        "inside/gradient/b": 100.0,
        "inside/cosine": pytest.approx(0.3),
        "inside/cosine/a": 0.2,
        "inside/cosine/b": 0.4,
        "inside/dead": 0.5,
        "inside/dead/act": 0.5,
    }
    assert summarised({"gradient": {"a": 0.0, "b": 1.0}})["inside/gradient"] == 0
    assert math.isnan(summarised({"cosine": {"a": math.nan, "b": 1.0}})["inside/cosine"])


@pytest.mark.parametrize("norm", [LayerNorm, NoNorm, DynamicTanh, partial(BatchNorm, evaluation="batch")])
@pytest.mark.parametrize("kind", MODELS)
def test_norms_that_do_the_same_in_both_modes_have_no_gap(kind: str, norm, tmp_path: Path) -> None:
    task, _, _, trainer = fit(tmp_path, kind, norm)
    gap = mode_gap(trainer, task, batches(kind))
    name = task.metric
    assert gap[f"gap/{name}"] == gap["gap/loss"] == 0.0
    assert gap[f"gap/train_{name}"] == gap[f"gap/eval_{name}"]


def test_the_gap_by_hand(tmp_path: Path) -> None:
    task, _, _, trainer = fit(tmp_path, "mlp", BatchNorm)
    found = mode_gap(trainer, task, batches("mlp"))
    losses, right = {}, {}
    for mode in ("train", "eval"):
        model = made("mlp", BatchNorm).model
        model.load_state_dict(task.model.state_dict())
        model.train(mode == "train")
        pairs = [(model(batch.inputs).detach(), batch.targets) for batch in batches("mlp")]
        logits, targets = (torch.cat(parts) for parts in zip(*pairs, strict=True))
        losses[mode] = float(F.cross_entropy(logits, targets))
        right[mode] = float((logits.argmax(1) == targets).double().mean())
    assert found["gap/train_loss"] == pytest.approx(losses["train"], rel=1e-5)
    assert found["gap/eval_loss"] == pytest.approx(losses["eval"], rel=1e-5)
    assert found["gap/loss"] == pytest.approx(losses["train"] - losses["eval"], rel=1e-4)
    assert found["gap/accuracy"] == pytest.approx(right["train"] - right["eval"], abs=1e-6)
    assert found["gap/loss"] != 0
