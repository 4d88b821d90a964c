"""Every mistake gets one clear message and exit status 2, at once and with nothing left behind."""

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from slowly import some

ROOT = Path(__file__).parents[2]

# arguments → what the message must say: what is wrong, and what would be right
FROM_THE_CONFIG = {
    "unknown norm": (["norm=layr"], ["there is no norm=layr", "Did you mean 'layer'", "batch", "rms"]),
    "unknown model": (["model=ltsm"], ["there is no model=ltsm", "'lstm'", "transformer"]),
    "unknown task": (["task=fashion_mnsit"], ["there is no task=fashion_mnsit", "'fashion_mnist'"]),
    "unknown key": (["optim.lrr=0.1"], ["there is no option optim.lrr", "'optim.lr'"]),
    "unknown option of a norm": (["norm=batch", "norm.momentun=0.1"], ["norm.momentun", "'norm.momentum'"]),
    "added option of a norm": (["+norm.epz=0.1"], ["there is no option norm.epz", "norm.eps"]),
    "not key=value": (["norm"], ["key=value"]),
    "an eps that float32 has no normal number for": (["norm.eps=1e-60"], ["norm.eps=1e-60", "equal to 1.2e-38"]),
    "number expected": (["norm.eps=abc"], ["norm.eps=abc", "number"]),
    "whole number expected": (["model=lstm", "model.layers=1.5"], ["model.layers=1.5", "integer"]),
    "one of a few": (["norm=batch", "norm.pool=max"], ["norm.pool=max", "tokens", "positions"]),
    "learning rate of zero": (["optim.lr=0"], ["optim.lr=0", "greater than 0"]),
    "negative learning rate": (["optim.lr=-1"], ["optim.lr=-1", "greater than 0"]),
    "batch of nothing": (["task.batch_size=0"], ["task.batch_size=0", "greater than 0"]),
    "groups that don't divide": (
        ["norm=group", "norm.groups=7"],
        ["norm.groups=7", "does not divide", "model.width"],
    ),
    "no groups": (["norm=group", "norm.groups=0"], ["norm.groups=0", "greater than 0"]),
    "instance norm in the LSTM": (["norm=instance", "model=lstm"], ["norm=instance", "not valid", "norm="]),
    "instance norm in a language model": (
        ["norm=instance", "model=transformer", "task=union"],
        ["time", "norm="],
    ),
    "group norm in a language model": (["norm=group", "model=transformer", "task=union"], ["time", "norm="]),
    "text for a CNN": (["model=cnn", "task=union"], ["takes images", "tokens", "lstm or transformer"]),
    "a time series for a CNN": (
        ["model=cnn", "task=wrist_motion"],
        ["takes images", "features", "lstm or transformer"],
    ),
    "emoji for a transformer": (["model=transformer", "task=emoji"], ["gives images", "cnn or mlp"]),
    "images for an LSTM": (["model=lstm", "task=fashion_mnist"], ["fashion_rows"]),
    "batch norm on single examples": (
        ["norm=batch", "model=lstm", "task.batch_size=1"],
        ["single example", "norm=layer"],
    ),
    "batch norm over chunks of one": (["norm=batch", "model=mlp", "norm.nbs=1"], ["norm.nbs=1", "2 or more"]),
    "a batch that processes can't share": (["trainer=ddp", "task.batch_size=33"], ["33", "among 2", "32"]),
    "half precision on the CPU": (["trainer.precision=16-mixed"], ["bf16-mixed"]),
    "evaluate without a checkpoint": (["measure=evaluate"], ["ckpt="]),
    "evaluate a missing checkpoint": (
        ["measure=evaluate", "ckpt=nowhere.ckpt"],
        ["nowhere.ckpt", "no such file"],
    ),
    "evaluate another norm": (
        ["measure=evaluate", "norm=batch", "ckpt=train.py"],
        ["norm=batch", "checkpoint"],
    ),
    "a checkpoint to train from": (["ckpt=train.py"], ["measure=evaluate"]),
    "layers of a recurrence": (
        ["measure=gradient_growth", "model=lstm"],
        ["model=lstm", "time", "model=mlp, cnn, transformer"],
    ),
    "one layer to compare": (["measure=gradient_growth", "model=mlp", "model.depth=1"], ["two", "model.depth=1"]),
    "Gaussian tokens": (
        ["measure=gradient_growth", "model=transformer"],
        ["measure.inputs=gaussian", "measure.inputs=data"],
    ),
    "more layers skipped than there are": (
        ["measure=gradient_growth", "measure.skip=0.5"],
        ["measure.skip=0.5", "less than 0.5"],
    ),
    "an option of another measure": (
        ["measure=sample_coupling", "measure.skip=0.1"],
        ["there is no option measure.skip"],
    ),
    "a misspelt option of a measure": (
        ["measure=gradient_growth", "measure.batchsize=8"],
        ["there is no option measure.batchsize", "'measure.batch_size'"],
    ),
    "a probe in several processes": (["measure=sample_coupling", "trainer=ddp"], ["one process", "trainer=cpu"]),
    "a probe that reads the test split": (["measure=sample_coupling", "test=true"], ["test=true"]),
    "an unknown second norm": (
        ["measure=step_time", "norm@measure.against=rmss"],
        ["there is no norm=rmss", "Did you mean 'rms'"],
    ),
    "a second norm without statistics": (
        ["measure=step_time", "model=mlp", "measure.batch_size=1"],
        ["norm@measure.against: norm=batch", "single example", "measure.batch_size=1"],
    ),
    "looking into several processes": (["measure.inside=true", "trainer=ddp"], ["measure.inside=true", "one process"]),
    "batches of no class": (["task.classes_per_batch=0"], ["task.classes_per_batch=0", "greater than 0"]),
    "classes of a text": (
        ["model=transformer", "task=union", "task.classes_per_batch=2"],
        ["task.classes_per_batch=2", "language_modelling", "null"],
    ),
    "batches by class and by length": (
        ["model=lstm", "task.classes_per_batch=2"],
        ["task.classes_per_batch=2", "task.bucket=false"],
    ),
    "more classes than a batch has examples": (
        ["task.classes_per_batch=9", "task.batch_size=8"],
        ["task.classes_per_batch=9", "task.batch_size=8"],
    ),
    "a norm's schedule longer than the run": (
        ["norm=batch_renorm", "trainer.steps=300"],
        ["norm.r_steps=400", "trainer.steps=300", "norm.r_steps=150"],
    ),
    "a norm of images for sequences": (["norm=frn", "model=lstm"], ["norm=frn is not valid", "use norm=layer"]),
    "lengths of images": (["measure=lengths"], ["needs language modelling", "task=union"]),
    "lengths beyond learned positions": (
        ["measure=lengths", "model=transformer", "task=union", "model.position_encoding=learned"],
        ["400", "64 positions", "rotary"],
    ),
    "a length twice": (
        ["measure=lengths", "model=lstm", "task=union", "measure.lengths=[50,50]"],
        ["a length occurs more than once"],
    ),
    "no length": (["measure=lengths", "model=lstm", "task=union", "measure.lengths=[]"], ["measure.lengths=[]"]),
    "lengths in several processes": (["measure=lengths", "model=lstm", "task=union", "trainer=ddp"], ["one process"]),
    "a ladder that goes nowhere": (["measure=learning_rate_ceiling", "measure.factor=1"], ["measure.factor=1"]),
    "a ladder that reads the test split": (["measure=learning_rate_ceiling", "test=true"], ["test=true"]),
    "a ladder without end": (["measure=learning_rate_ceiling", "measure.rungs=2000"], ["rungs=2000", "float32"]),
    "partners in a text": (["measure=leakage", "model=lstm", "task=union"], ["one class per example"]),
    "an odd number of partners": (["measure=leakage", "task.batch_size=33"], ["task.batch_size=33", "even"]),
    "chunks larger than a batch": (["norm=batch", "norm.nbs=100000"], ["norm.nbs=100000", "at most 64"]),
    "chunks larger than a process's share": (
        ["norm=batch", "norm.nbs=64", "trainer=ddp", "trainer.devices=2"],
        ["norm.nbs=64", "at most 32"],
    ),
    "partners that share no statistics": (["measure=leakage", "norm=batch", "norm.nbs=3"], ["norm.nbs=3", "even"]),
    "scales of a recurrence": (["measure=scale_invariance", "model=lstm"], ["model=lstm", "model=mlp or cnn"]),
    "scales before sums": (
        ["measure=scale_invariance", "model.placement=pre_activation"],
        ["pre_activation", "post_conv"],
    ),
    "nothing to synchronise": (["measure=sync_equivalence"], ["norm=layer", "norm=batch"]),
    "synchronised chunks": (["measure=sync_equivalence", "norm=batch", "norm.nbs=4"], ["norm.nbs"]),
    "axes of a batch of one": (["measure=axes", "measure.examples=1"], ["measure.examples=1"]),
    "own files without a path": (["task=text_files"], ["task.path"]),
    "own files that are not there": (
        ["task=text_files", "task.path=nowhere.csv"],
        ["nowhere.csv", "no such file"],
    ),
    "an output that is a file": (["output=train.py"], ["train.py is a file"]),
    "more threads than cores": (["trainer.threads=4096"], ["4096", "cores"]),
    "a group without a choice": (["norm=null"], ["norm=null", "norm=NAME"]),
    "a group taken away": (["~model"], ["~model", "model=NAME"]),
    "a number without end": (["seed=" + "9" * 5000], ["seed", "5,000 digits"]),
    "a seed beyond 63 bits": (["seed=" + "9" * 50], ["seed=9", "less than"]),
    "an infinite rate": (["optim.lr=1e400"], ["optim.lr", "finite"]),
    "no number": (["optim.weight_decay=nan"], ["optim.weight_decay", "finite"]),
    "time without end": (["trainer.minutes=inf"], ["trainer.minutes", "finite"]),
    "a thousand centuries": (["trainer.save_minutes=1e300"], ["trainer.save_minutes", "less than"]),
    "more width than memory": (["model=mlp", "model.width=10000000"], ["model.width=10000000", "GB"]),
    "more width than an int": (["model=lstm", "model.width=3000000000"], ["model.width=3000000000", "GB"]),
    "layers without end": (["model=transformer", "model.layers=1000000"], ["model.layers=1000000", "10,000"]),
    "a batch beyond an int": (["task.batch_size=99999999999"], ["task.batch_size", "less than"]),
    "a million processes": (["trainer.devices=1000000"], ["trainer.devices", "1024"]),
    "more examples than there are": (["measure=axes", "measure.examples=2000000000"], ["measure.examples"]),
    "an output in /proc": (["output=/proc/x"], ["output=/proc/x", "/proc"]),
    "an output that is a device": (["output=/dev/null"], ["/dev/null is a file"]),
    "an output without a name": (["output="], ["output is empty"]),
    "a cache that is a file": (["cache=/dev/null"], ["cache=/dev/null"]),
    "an output with a long name": (["output=" + "a" * 300], ["output=", "too long"]),
    "a cache with a long path": (["cache=" + "a/" * 3000], ["cache=", "too long"]),
    "data with a long name": (
        ["model=lstm", "task=text_files", "task.path=" + "a" * 300],
        ["task.path=", "no such file"],
    ),
    "a config folder that is not there": (["--config-dir", "/nowhere"], ["--config-dir /nowhere"]),
    "one behind a choice": (["norm=layer", "--config-dir=/nowhere"], ["--config-dir /nowhere"]),
    "a plan that is not there": (["plan=/nowhere.json"], ["plan=/nowhere.json"]),
    "a project without a name": (["logger.wandb.project="], ["logger.wandb.project", "1 to 128"]),
    "a project of spaces": (["logger.wandb.project='  '"], ["logger.wandb.project", "1 to 128"]),
    "another sweeper": (["-m", "hydra/sweeper=basic", "seed=0,1"], ["hydra/sweeper=basic"]),
    "no workers": (["-m", "launcher=joblib", "hydra.launcher.n_jobs=0", "seed=0,1"], ["n_jobs=0"]),
    "a multirun's flag behind its choices": (["norm=layer,rmss", "-m", "seed=0"], ["there is no norm=rmss"]),
    "an option of one norm in a sweep": (
        ["norm=batch,layer", "norm.momentum=0.1", "-m"],
        ["norm.momentum", "norm=batch", "not of norm=layer"],
    ),
    "a value that Hydra can't read": (["optim.lr=a(b"], ["quote the value", "optim.lr="]),
    "an addition of what is there": (["+norm=batch"], ["Multiple values for norm", "override"]),
    "a name that leads out": (["task.name=../../escaped"], ["task.name=../../escaped", "a path"]),
    "no name": (["task.name="], ["task.name", "1 to 200"]),
    "a name without end": (["task.name=" + "a" * 300], ["task.name", "300"]),
    "a scale that leads out": (["finding=coupling", "scale.name=../../x"], ["name=../../x", "a path"]),
    "no number of tries": (["-m", "on_error=retry", "seed=0,1"], ["on_error=retry", "retry:2"]),
    "DDP in a multirun": (["-m", "trainer=ddp", "seed=0,1"], ["multirun", "python train.py"]),
}


@pytest.fixture(scope="module")
def answers(tmp_path_factory, request):
    """Those that are tested, in one process, which must not have imported torch in the end."""
    script = textwrap.dedent(
        """
        import contextlib, io, json, sys
        from hydra.core.global_hydra import GlobalHydra
        sys.path.insert(0, sys.argv[1])
        import train
        folder, answers = sys.argv[2], {}
        for name, arguments in json.loads(sys.argv[3]).items():
            GlobalHydra.instance().clear()
            outputs = [] if any("output=" in a for a in arguments) else [f"output={folder}"]
            sys.argv = ["train.py", *arguments, *outputs]
            error = io.StringIO()
            with contextlib.redirect_stderr(error):
                try:
                    train.start()
                    status = 0
                except SystemExit as end:
                    status = end.code
            answers[name] = [status, error.getvalue()]
        print(json.dumps([answers, [m for m in ("torch", "pytorch_lightning", "wandb") if m in sys.modules]]))
        """
    )
    import json

    folder = tmp_path_factory.mktemp("bad") / "outputs"
    tested = {item.callspec.params.get("name") for item in request.session.items if hasattr(item, "callspec")}
    arguments = json.dumps({name: case[0] for name, case in FROM_THE_CONFIG.items() if name in tested})
    done = subprocess.run(
        [sys.executable, "-c", script, str(ROOT), str(folder), arguments],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found, heavy = json.loads(done.stdout.splitlines()[-1])
    return found, heavy, folder


@pytest.mark.parametrize("name", some(FROM_THE_CONFIG, every=2))
def test_one_clear_message(answers, name):
    status, error = answers[0][name]
    assert status == 2, error
    lines = error.strip().splitlines()
    assert len(lines) == 1, error
    assert lines[0].startswith("error: ")
    for words in FROM_THE_CONFIG[name][1]:
        assert words in error


def test_before_torch_is_imported_and_without_a_trace(answers):
    _, heavy, folder = answers
    assert heavy == []
    assert not (folder / "runs").exists()


def test_debug_shows_the_traceback(train):
    from normlab.config.schema import InputError

    with pytest.raises(InputError):
        train("optim.lr=0", "debug=true")


def test_a_norms_schedule_longer_than_the_epochs(train):
    """Only the data tell how many steps an epoch has."""
    answer = train("norm=batch_renorm", "model=mlp", "trainer.epochs=1", "trainer.steps=null", "logger=none")
    assert answer.status == 2
    assert "norm.r_steps=400 is more than the run's 250 steps (trainer.epochs=1)" in answer.err


def test_no_gpu(train):
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    answer = train("trainer=gpu", "logger=none")
    assert answer.status == 2
    assert "no GPU" in answer.err
    assert "trainer=cpu" in answer.err
