"""What the timing measures time: equal networks and batches, whole steps, exact folding, PyTorch's own batch norm."""

import os
import time
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from torch.nn import functional as F

from normlab.checks.config import checked
from normlab.config.schema import InputError, RunConfig, Sizes
from normlab.data.batch import Batch
from normlab.folder.place import Place
from normlab.host.cores import usable_cores
from normlab.measures import inference_time, site_time, step_time
from normlab.models.mlp import MLP
from normlab.norms.base import Norm
from normlab.norms.batch import BatchNorm
from normlab.norms.layer import LayerNorm
from normlab.runs import identity
from normlab.runs.code import code_hash
from normlab.runs.identity import run_id, science
from normlab.session.session import Session
from normlab.tasks.classification import Classification
from normlab.tasks.language_modelling import LanguageModelling
from normlab.tasks.task import Task
from normlab.timing import fresh
from normlab.timing.bench import Bench
from normlab.timing.fresh import measure_fresh

CONF = Path(__file__).parents[2] / "conf"
FEW = ("measure.blocks=3", "measure.steps=2", "logger=none")
SMALL_MLP = ("model=mlp", "model.width=16", "model.depth=2", *FEW)
SMALL_CNN = ("model=cnn", "model.width=8", *FEW)


@pytest.fixture(autouse=True)
def untouched():
    """A measure sets the whole process up."""
    threads = torch.get_num_threads()
    yield
    torch.use_deterministic_algorithms(False)
    torch.set_num_threads(threads)


@pytest.fixture
def config(cache):
    """`config("norm=layer", …)`: a checked config."""

    def made(*overrides: str) -> RunConfig:
        GlobalHydra.instance().clear()
        with initialize_config_dir(str(CONF), version_base="1.3"):
            return checked(compose("train", overrides=[*overrides, f"cache={cache}"]))

    return made


@pytest.fixture
def session(config, tmp_path):
    """`session("norm=layer", …)`: one of a checked config."""
    return lambda *overrides: Session(config(*overrides), Place(tmp_path, "a", 1))


# ---- a training step


@pytest.mark.parametrize("precision", ["32-true", "64-true", "bf16-mixed"])
def test_step_time_of_two_norms(session, precision):
    chosen = session("measure=step_time", "norm=layer", *SMALL_MLP, f"trainer.precision={precision}")
    summary, rows = step_time.find(chosen)
    assert summary["against"] == "batch"
    assert summary["parameters"] == summary["parameters_against"] == 784 * 16 + 16 * 16 + 2 * 3 * 16 + 17 * 10
    assert summary["steps"] == (2 + 3) * 2
    assert summary["threads"] == 1
    assert summary["diverged"] is False
    assert len(rows) == 3
    parts = ("forward_ms", "backward_ms", "optimiser_ms")
    assert all(summary[f"{part}{suffix}"] > 0 for part in parts for suffix in ("", "_against"))
    assert summary["step_ms_min"] == min(row["block/step_ms"] for row in rows)


def test_a_norm_alone(session):
    summary, rows = step_time.find(session("measure=step_time", "measure.against=null", *SMALL_MLP))
    assert not [name for name in (*summary, *rows[0]) if name.endswith("against")]


def test_both_networks_begin_alike_and_read_what_training_would_read(session):
    bench = Bench(session("measure=step_time", *SMALL_MLP, "seed=3"))
    one, other = bench.models().values()
    assert (type(one.norms[0]), type(other.norms[0])) == (LayerNorm, BatchNorm)
    for name, parameter in one.named_parameters():
        torch.testing.assert_close(parameter, other.get_parameter(name), rtol=0, atol=0)
    first, second = bench.batches(8, 2)
    assert first.inputs.shape == (8, 1, 28, 28)
    assert not torch.equal(first.inputs, second.inputs)


def test_a_step_changes_a_model_as_training_does(session):
    """Two steps by hand: loss, gradients, clipping, SGD (AdamW divides gradients that are rounding by themselves)."""
    bench = Bench(session("measure=step_time", "norm=batch", *SMALL_MLP, "optim=sgd", "optim.clip=0.5"))
    batches = bench.batches(8, 2)
    (model, _), (expected, _) = ([*bench.models().values()] for _ in range(2))
    step = step_time.Step(bench, model.train(), batches)
    step.saved_bytes()
    weights, rest = ([p for p in expected.parameters() if (p.ndim > 1) is there] for there in (True, False))
    groups = [{"params": weights, "weight_decay": 1e-4}, {"params": rest, "weight_decay": 0.0}]
    optimiser = torch.optim.SGD(groups, lr=0.1, momentum=0.9)
    expected.train()
    for i, batch in enumerate(batches):
        for part in step.parts():
            part(i)
        optimiser.zero_grad()
        F.cross_entropy(expected(batch.inputs), batch.targets).backward()
        torch.nn.utils.clip_grad_norm_(expected.parameters(), 0.5)
        optimiser.step()
    for name, value in expected.state_dict().items():
        torch.testing.assert_close(model.state_dict()[name], value, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("goal", ["classification", "language_modelling"])
def test_the_loss_is_that_of_the_task(goal):
    generator = torch.Generator().manual_seed(0)
    shape = (3,) if goal == "classification" else (3, 5)
    logits, targets = torch.randn(*shape, 7, generator=generator), torch.randint(7, shape, generator=generator)
    batch = Batch(torch.zeros(3), targets, None, targets.numel())
    task: type[Task] = Classification if goal == "classification" else LanguageModelling
    expected = task.losses(None, logits, batch) / batch.total
    torch.testing.assert_close(step_time.loss_of(logits, batch), expected, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("norm", "statistics"),
    # floats a hidden layer: mean and deviation of each example or each channel
    [("none", 0), ("layer", 2 * 4), ("batch", 2 * 16)],
)
def test_saved_bytes_are_those_of_a_hand_count(session, norm, statistics):
    width, size, depth, outputs = 16, 4, 2, 10
    chosen = session("measure=step_time", f"norm={norm}", *SMALL_MLP, f"measure.batch_size={size}")
    summary, _ = step_time.find(chosen)
    linear = 0 if norm == "none" else size * width  # what the norm reads
    activation = size * width
    loss = size * outputs + 1  # log-probabilities, and the summed weight of the targets
    assert summary["saved_bytes"] == 4 * (depth * (linear + statistics + activation) + loss)


def test_counting_bytes_leaves_running_statistics_alone(session):
    bench = Bench(session("measure=step_time", "norm=batch", *SMALL_MLP))
    model = bench.models()[""].train()
    step_time.Step(bench, model, bench.batches(8, 1)).saved_bytes()
    assert torch.equal(model.norms[0].running_mean, torch.zeros(16))
    assert all(p.grad is None for p in model.parameters())


@pytest.mark.parametrize(
    "choice", [("model=lstm", "model.width=8"), ("model=transformer", "model.width=8", "model.heads=2")]
)
def test_step_time_of_sequences(session, choice):
    summary, _ = step_time.find(session("measure=step_time", *choice, *FEW))
    assert summary["step_ratio"] > 0
    assert summary["saved_bytes_against"] > 0
    assert ("kernel" in summary) == ("model=lstm" in choice)


def test_single_examples_of_images_have_statistics(session):
    summary, _ = step_time.find(session("measure=step_time", "norm=batch", "measure.batch_size=1", *SMALL_CNN))
    assert summary["diverged"] is False


# ---- inference


@pytest.mark.slow
def test_batch_norm_is_folded_and_layer_norm_is_not(session):
    summary, rows = inference_time.find(session("measure=inference_time", "norm=batch", *SMALL_CNN))
    assert (summary["folded"], summary["folded_against"]) == (True, True)
    summary, rows = inference_time.find(session("measure=inference_time", "norm=layer", *SMALL_CNN))
    assert (summary["folded"], summary["folded_against"]) == (False, True)
    assert "fold_error" not in summary
    assert 0 < summary["fold_error_against"] < 1e-5
    assert len(rows) == 3


@pytest.mark.slow
def test_the_folded_network_is_the_one_that_is_timed(session, monkeypatch):
    served = []
    monkeypatch.setattr(inference_time, "_pass", lambda bench, model, batches: served.append(model) or (lambda i: None))
    for options in ([], ["measure.fold=false"], ["model.placement=pre_activation"]):
        inference_time.find(session("measure=inference_time", *SMALL_CNN, *options))
    norms = [sum(isinstance(module, Norm) for module in model.modules()) for model in served]
    assert norms == [9, 0, 9, 9, 7, 7]
    assert not any(model.training for model in served)


def test_folding_meets_real_running_statistics(session, monkeypatch):
    seen = []
    fold = inference_time.fold
    monkeypatch.setattr(inference_time, "fold", lambda model: seen.append(model) or fold(model))
    inference_time.find(session("measure=inference_time", "norm=batch", "measure.against=null", *SMALL_CNN))
    assert float(seen[0].norm.running_mean.abs().max()) > 0.01


def test_a_network_that_is_not_the_same_is_told():
    torch.manual_seed(0)
    one = MLP(LayerNorm, Sizes("images", (1, 2, 2), outputs=2), width=4).eval()
    other = MLP(LayerNorm, Sizes("images", (1, 2, 2), outputs=2), width=4).eval()
    batch = Batch(torch.randn(3, 1, 2, 2), torch.zeros(3), None, 3)
    with torch.no_grad():
        y, z = one(batch.inputs), other(batch.inputs)
    expected = float((y - z).abs().max() / z.abs().max())
    assert inference_time.fold_error(one, other, [batch]) == pytest.approx(expected, rel=1e-6)
    assert inference_time.fold_error(one, one, [batch]) == 0.0


# ---- norms alone


@pytest.mark.parametrize(
    ("choice", "count"),
    [
        (SMALL_CNN, 9),
        (SMALL_MLP, 2),
        (("model=transformer", "model.width=8", "model.heads=2", "model.layers=1", "task=word_stress", *FEW), 3),
    ],
    ids=["cnn", "mlp", "transformer"],
)
def test_site_time(session, choice, count):
    summary, rows = site_time.find(session("measure=site_time", "norm=layer", *choice))
    assert summary["sites"] == count
    assert summary["update_share"] < 1
    assert {"torch_ms", "torch_ms_without_update", "site_ratio"} <= summary.keys()
    assert len(rows) == 3


def test_without_batch_norm_there_is_no_update(session):
    summary, _ = site_time.find(session("measure=site_time", "norm=layer", "norm@measure.against=rms", *SMALL_MLP))
    assert "update_share" not in summary


@pytest.mark.parametrize(("layout", "shape"), [("BC", (5, 4)), ("BCHW", (5, 4, 2, 3)), ("BTC", (5, 3, 4))])
def test_pytorchs_batch_norm_computes_what_ours_does(layout, shape):
    norm, x = BatchNorm(4, layout).train(), torch.randn(shape, generator=torch.Generator().manual_seed(0))
    call = site_time.Call(norm, (x, None), torch.ones_like(x))
    keeping, without = (site_time.torch_call(call, keep=keep).norm for keep in (True, False))
    expected = norm(x)
    torch.testing.assert_close(keeping(x, None), expected)
    torch.testing.assert_close(without(x, None), expected)
    torch.testing.assert_close(keeping.mean, norm.running_mean)
    torch.testing.assert_close(keeping.var, norm.running_var)
    assert without.mean is None


def test_calls_are_those_of_a_forward_pass(session):
    bench = Bench(session("measure=site_time", "norm=layer", *SMALL_MLP))
    (batch,) = bench.batches(8, 1)
    model = bench.models()[""].train()
    first, second = site_time.site_calls(model, batch)
    assert (first.norm, second.norm) == tuple(model.norms)
    torch.testing.assert_close(first.arguments[0], model.linears[0](batch.inputs.flatten(1)))
    first.run()


# ---- what is refused, and what makes a run the same


@pytest.mark.parametrize(
    ("choices", "words"),
    [
        (["measure=step_time", "model=mlp", "norm=batch", "measure.batch_size=1"], "measure.batch_size=1 leaves one"),
        (["measure=step_time", "model=lstm", "measure.batch_size=1"], "norm@measure.against: norm=batch has no stat"),
        (["measure=site_time", "model=mlp", "norm@measure.against=instance"], "norm@measure.against: norm=instance"),
        (["measure=step_time", "+measure.against.epz=1"], "no option measure.against.epz"),
        (["measure=step_time", "measure.against.eps=0"], "measure.against.eps=0"),
        (["measure=step_time", "trainer=ddp"], "one process"),
        (["measure=inference_time", "test=true"], "test=true"),
        (["measure=step_time", "trainer=gpu", "trainer.precision=16-mixed"], "bf16-mixed"),
        (["measure=site_time", "model=lstm"], "model=lstm"),
        (["measure=site_time", "trainer.compile=true"], "trainer.compile"),
        (["measure=step_time", "measure.blocks=2"], "measure.blocks=2"),
    ],
)
def test_refused(config, choices, words):
    with pytest.raises(InputError, match=words):
        config(*choices)


def test_evaluation_of_single_examples_is_not_refused(config):
    assert config("measure=inference_time", "model=mlp", "norm=batch", "measure.batch_size=1").measure.batch_size == 1
    assert config("measure=step_time", "model=mlp", "measure.batch_size=1", "measure.against=null").measure.exclusive


def test_more_examples_than_there_are(session):
    with pytest.raises(InputError, match="16000 examples"):
        step_time.find(session("measure=step_time", "measure.batch_size=16001", *SMALL_MLP))


def test_the_machine_is_part_of_a_time(config, monkeypatch):
    timed, trained = config("measure=step_time"), config()
    before = [run_id(one, "data") for one in (timed, trained)]
    assert torch.__version__.startswith(science(timed)["machine.torch"].split("+")[0])
    assert science(timed)["trainer"]["threads"] == 1
    assert science(trained)["trainer"]["threads"] == usable_cores()
    monkeypatch.setattr(identity, "processor", lambda: "Abacus 3000")
    assert science(timed)["machine.processor"] == "Abacus 3000"
    assert science(timed)["machine.gpu"] is None
    after = [run_id(one, "data") for one in (timed, trained)]
    assert after[0] != before[0]
    assert after[1] == before[1]


def test_a_gpu_is_named_where_it_is_used(config, monkeypatch):
    monkeypatch.setattr(identity, "graphics", lambda: "NVIDIA Abacus")
    assert science(config("measure=step_time", "trainer=gpu"))["machine.gpu"] == "NVIDIA Abacus"
    assert "machine.gpu" not in science(config("trainer=gpu"))


def test_the_second_norm_is_part_of_the_run(config):
    one, other = config("measure=step_time"), config("measure=step_time", "norm@measure.against=dyt")
    assert run_id(one, "data") != run_id(other, "data")
    assert code_hash(one) != code_hash(other)


# ---- a process of its own


@pytest.fixture
def importable(monkeypatch):
    """The fresh process finds this file."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))


def process_and_seed(session: Session) -> fresh.Found:
    print("not a part of the answer")
    return {"process": os.getpid(), "seed": session.config.seed}, [{"block/step_ms": 1.5}, {"block/step_ms": 2.5}]


def refuses(_session: Session) -> fresh.Found:
    raise InputError("there is no such clock")


def dies(_session: Session) -> fresh.Found:
    os._exit(7)


@pytest.mark.slow
def test_a_fresh_process_answers(config, tmp_path, importable):
    summary = measure_fresh(
        process_and_seed, config("measure=step_time", "logger=none", "seed=5"), Place(tmp_path, "a", 1)
    )
    assert summary["process"] != os.getpid()
    assert summary["seed"] == 5
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert len(lines) == 2
    assert '"step": 2' in lines[1]
    assert '"block/step_ms": 2.5' in lines[1]


@pytest.mark.slow
def test_its_errors_are_those_of_the_run(config, tmp_path, importable):
    with pytest.raises(InputError, match="no such clock"):
        measure_fresh(refuses, config("measure=step_time"), Place(tmp_path, "a", 1))


@pytest.mark.slow
def test_its_death_is_told(config, tmp_path, importable):
    with pytest.raises(RuntimeError, match="died with status 7"):
        measure_fresh(dies, config("measure=step_time"), Place(tmp_path, "a", 1))


# ---- the clock


@pytest.mark.parametrize(("threads", "clock"), [([], "process"), (["trainer.threads=2"], "wall")])
def test_one_thread_is_timed_by_the_clock_of_its_process(session, threads, clock, monkeypatch):
    monkeypatch.setattr("normlab.checks.config.usable_cores", lambda: 2)
    bench = Bench(session("measure=step_time", *SMALL_MLP, *threads))
    assert bench.clock == clock
    blocks = bench.timed({"": [lambda i: time.sleep(0.01)]})[""]
    assert (max(seconds for (seconds,) in blocks) < 0.01) == (clock == "process")
