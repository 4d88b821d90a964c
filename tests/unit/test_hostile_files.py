"""Files from somebody else: no code runs, nothing is written next to them, and each gives one clear line."""

from __future__ import annotations

import copy
import io
import json
import os
import pickle
import sys
import zipfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from run_folders import begin, config_of, finish, set_status

import normlab
from normlab.config.schema import InputError, Sizes, TaskConfig
from normlab.config.signature import read
from normlab.data.store import prepare
from normlab.folder.jsonfile import read_json, write_json
from normlab.folder.place import Place
from normlab.folder.resume_points import ResumePoint, add_point, newest_intact
from normlab.folder.run_folder import RunFolder
from normlab.folder.seal import seal
from normlab.folder.study_folder import StudyFolder
from normlab.measures import evaluate
from normlab.mirror.upload import find
from normlab.mirror.wandb_study import show_again
from normlab.models.build import assemble
from normlab.models.checkpoint import describe, read_checkpoint
from normlab.runs.clean import find_leftovers
from normlab.runs.records import read_records
from normlab.session.resumable import check_point
from normlab.study.ledger import Ledger
from normlab.study.planned import planned_findings, read_progress
from normlab.sweep.compose import _remembered
from normlab.sweep.estimate import past_costs
from normlab.sweep.job import job
from normlab.tables.runs import read_runs
from slowly import some

SIZES = Sizes("images", (1, 8, 8), outputs=2, examples=50)
CHOICES = ("model=cnn", "norm=layer", "model.width=4", "model.stages=1", "task=image_files", "task.path=.")
FITTED = {
    **{"classes": ["a", "b"], "numbered": False, "vocabulary": None, "tokenizer": None, "shape": [1, 8, 8]},
    **{"values": None, "statistics": {"mean": [[[0.5]]], "std": [[[1.0]]]}},
}
EVIL = """
import os
from pathlib import Path
from normlab.norms.layer import LayerNorm
Path(os.environ["CANARY"]).touch()
class Evil(LayerNorm):
    pass
"""


@pytest.fixture(autouse=True)
def canary(tmp_path, monkeypatch):
    """A module and a package that leave a file when they are imported, next to everything and on the path."""
    lair, sign = tmp_path / "lair", tmp_path / "canary"
    (lair / "evil_package").mkdir(parents=True)
    for name in ("evil.py", "evil_package/__init__.py", "evil_package/inner.py"):
        (lair / name).write_text(EVIL)
    monkeypatch.setenv("CANARY", str(sign))
    monkeypatch.chdir(lair)
    monkeypatch.syspath_prepend(str(lair))
    read.cache_clear()
    yield sign
    read.cache_clear()
    imported = [name for name in ("evil", "evil_package", "evil_package.inner") if sys.modules.pop(name, None)]
    assert not sign.exists(), "code of the file ran"
    assert not imported


class Shell:
    """Unpickled, it runs a command."""

    def __reduce__(self):
        return os.system, ('touch "$CANARY"',)


@cache
def made() -> dict[str, Any]:
    """A checkpoint as training saves it."""
    config = config_of(*CHOICES)
    state = {f"model.{name}": value for name, value in assemble(config.norm, config.model, SIZES).state_dict().items()}
    data = {"fitted": FITTED, "prints": {"test": "0"}, "counts": {"test": 3}}
    parts = {"loops": {}, "callbacks": {}, "optimizer_states": [], "lr_schedulers": [], "training_log": {}}
    return {"state_dict": state, "global_step": 3, "normlab": describe(config, SIZES, data), **parts}


def put(path: Path, values: Any, *, sealed: bool = True) -> Path:
    content = io.BytesIO()
    torch.save(values, content)
    if sealed:
        seal(content)
    path.write_bytes(content.getvalue())
    return path


def at(*keys: str, to: Any) -> Callable[[dict[str, Any]], None]:
    """A change of one value of a checkpoint; `DROP` removes it."""

    def change(values: dict[str, Any]) -> None:
        for key in keys[:-1]:
            values = values[key]
        if to is DROP:
            del values[keys[-1]]
        else:
            values[keys[-1]] = to

    return change


DROP = object()
config_key, sizes_key = ("normlab", "config"), ("normlab", "sizes")


def named(group: str, target: Any) -> Callable[[dict[str, Any]], None]:
    return at(*config_key, group, "_target_", to=target)


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


def command(values: dict[str, Any]) -> None:
    """As it was reported: the norm is a command, and the model calls its first argument."""
    values["normlab"]["config"] |= {"norm": {"_target_": "os.system"}, "model": {"_target_": "builtins.map"}}


TIMED = {"name": "step_time", "batch_size": 2, "steps": 1, "blocks": 3, "against": {"_target_": "os.system"}}
CHECKPOINTS: dict[str, tuple[Callable[[dict[str, Any]], None], str]] = {
    "a command": (command, "would run code: its norm is os.system"),
    "norm exec": (named("norm", "builtins.exec"), "would run code"),
    "norm beside": (named("norm", "evil.Evil"), r"name it: trust=\[evil\] on the command line, load_checkpoint"),
    "norm in a package": (named("norm", "evil_package.inner.Evil"), r'trust=\["evil_package.inner"\]'),
    "model beside": (named("model", "evil.Evil"), "its model is evil.Evil, which is not a model of normlab"),
    "model of torch": (named("model", "torch.nn.Linear"), "would run code"),
    "norm process": (named("norm", "subprocess.Popen"), "would run code"),
    "norm of the contract": (named("norm", "normlab.norms.base.Norm"), "must subclass|kept|abstract|damaged"),
    "norm function": (named("norm", "normlab.models.checkpoint.load_checkpoint"), "would run code"),
    "norm is a model": (named("norm", "normlab.models.cnn.CNN"), "not a norm of normlab"),
    "model is a norm": (named("model", "normlab.norms.layer.LayerNorm"), "not a model of normlab"),
    "model helper": (named("model", "normlab.models.checkpoint.load_checkpoint"), "defines no class"),
    "norm imported name": (named("norm", "normlab.norms.layer.Tensor"), "damaged|must subclass"),
    "no such norm": (named("norm", "normlab.norms.layer.Nothing"), "defines no class Nothing"),
    "no such module": (named("norm", "normlab.norms.nothing.Nothing"), "there is no module"),
    "method": (named("norm", "normlab.norms.layer.LayerNorm.__init__"), "damaged"),
    "path": (named("norm", "normlab.norms.../lair/evil.Evil"), "names no class"),
    "slash": (named("norm", "lair/evil.Evil"), "names no class"),
    "short": (named("norm", "exec"), "names no class"),
    "empty target": (named("norm", ""), "names no class"),
    "number target": (named("norm", 3), "norm has no _target_"),
    "newline target": (named("norm", "os.system\nrm -rf"), "names no class"),
    "no target": (at(*config_key, "norm", to={}), "norm has no _target_"),
    "norm is a list": (at(*config_key, "norm", to=["os.system"]), "norm=.*should be an object"),
    "against": (at(*config_key, "measure", to=TIMED), "would run code: its norm is os.system"),
    "wide": (at(*config_key, "model", "width", to=10**12), "GB"),
    "wide and real": (at(*config_key, "model", "width", to=40_000_000), "GB"),
    "negative width": (at(*config_key, "model", "width", to=-4), "damaged"),
    "text width": (at(*config_key, "model", "width", to="4"), "model.width=4: input should be a valid integer"),
    "deep": (at(*config_key, "model", "stages", to=10**9), "damaged"),
    "removed option": (at(*config_key, "norm", "affine", to=True), "there is no option norm.affine"),
    "option of a function": (at(*config_key, "norm", "num_features", to=3), "there is no option norm.num_features"),
    "mistyped option": (at(*config_key, "norm", "eps", to="small"), "norm.eps=small"),
    "infinite option": (at(*config_key, "norm", "eps", to=float("inf")), "damaged"),
    "extra key": (at(*config_key, "hook", to="os.system"), "there is no option hook"),
    "extra deep key": (at(*config_key, "trainer", "hook", to=1), "there is no option trainer.hook"),
    "missing key": (at(*config_key, "optim", to=DROP), "optim is missing"),
    "mistyped key": (at(*config_key, "seed", to="0"), "seed=0: input should be a valid integer"),
    "negative seed": (at(*config_key, "seed", to=-1), "seed=-1"),
    "path as name": (at(*config_key, "task", "name", to="../../x"), "this is a path, not a name"),
    "unknown task": (at(*config_key, "task", "source", to="exec"), "task.source=exec"),
    "tensor in the config": (at(*config_key, "seed", to=torch.ones(2)), "does not consist of plain values"),
    "nested config": (at(*config_key, "norm", "eps", to=nested(100)), "damaged"),
    "config is a list": (at(*config_key, to=[1]), "damaged"),
    "no config": (at(*config_key, to=DROP), "does not record the config"),
    "record is text": (at("normlab", to="x"), "does not record the config"),
    "record is nothing": (at("normlab", to=None), "does not record the config"),
    "no sizes": (at(*sizes_key, to=None), "damaged"),
    "negative size": (at(*sizes_key, "outputs", to=-1), "sizes.outputs: Input should be greater than 0"),
    "huge size": (at(*sizes_key, "outputs", to=10**12), "sizes.outputs: Input should be less than"),
    "large size": (at(*sizes_key, "outputs", to=2**31 - 1), "GB of memory|does not fit"),
    "size is true": (at(*sizes_key, "outputs", to=True), "sizes.outputs: Input should be a valid integer"),
    "extra size": (at(*sizes_key, "hook", to=1), "there is no size hook"),
    "unknown kind": (at(*sizes_key, "kind", to="video"), "sizes.kind"),
    "shape is text": (at(*sizes_key, "shape", to="188"), "sizes.shape"),
    "shape is short": (at(*sizes_key, "shape", to=[]), "damaged|does not fit"),
    "other sizes": (at(*sizes_key, "outputs", to=3), "doesn't fit the model of its record: head.* is .2"),
    "no weights": (at("state_dict", to=DROP), "it has no weights"),
    "weights are a list": (at("state_dict", to=[1]), "it has no weights"),
    "weights are texts": (at("state_dict", to={"model.a": "b"}), "it has no weights"),
    "weights are missing": (at("state_dict", to={}), "it lacks "),
    "other weights": (at("state_dict", "model.hook", to=torch.ones(1)), "it has hook, which the model doesn't have"),
    "number weights": (at("state_dict", 3, to=torch.ones(1)), "it has no weights"),
}


def refused(call: Callable[[], Any], message: str) -> None:
    """The call ends in one line that a person can read."""
    with pytest.raises(InputError, match=message) as error:
        call()
    text = str(error.value)
    assert text.isprintable()
    assert len(text) < 700


def listing(folder: Path) -> list[tuple[str, int]]:
    return sorted((str(path), path.lstat().st_size) for path in folder.rglob("*") if "__pycache__" not in path.parts)


@pytest.mark.parametrize("name", some(CHECKPOINTS))
def test_a_hostile_checkpoint_is_refused(name, tmp_path):
    change, message = CHECKPOINTS[name]
    values = copy.deepcopy(made())
    change(values)
    path = put(tmp_path / "lair" / "x.ckpt", values)
    before = listing(tmp_path)
    refused(lambda: normlab.load_checkpoint(path), message)
    if name not in STATES:  # which evaluate needs only after it has read its data
        evaluation = config_of("measure=evaluate", f"ckpt={path}")
        refused(lambda: evaluate.recall(evaluation), message)
    assert listing(tmp_path) == before


STATES = [name for name in CHECKPOINTS if "weights" in name or name in ("other sizes", "shape is short", "large size",
          "wide and real", "negative width", "norm of the contract", "deep")]  # fmt: skip


def test_a_whole_one_is_loaded_and_a_named_module_is_trusted(tmp_path, canary):
    path = put(tmp_path / "x.ckpt", made())
    assert isinstance(normlab.load_checkpoint(path), torch.nn.Module)
    (tmp_path / "lair" / "mine.py").write_text(EVIL.replace('Path(os.environ["CANARY"]).touch()', ""))
    values = copy.deepcopy(made())
    named("norm", "mine.Evil")(values)
    put(path, values)
    refused(lambda: normlab.load_checkpoint(path), r"trust=\[mine\]")
    refused(lambda: normlab.load_checkpoint(path, trust=["min", "mine.Evil"]), r"trust=\[mine\]")
    assert isinstance(normlab.load_checkpoint(path, trust=["mine"]), torch.nn.Module)
    assert evaluate.recall(config_of("measure=evaluate", f"ckpt={path}", "trust=[mine]")).norm_name == "mine"
    named("norm", "gone.Norm")(values)
    put(path, values)
    refused(
        lambda: normlab.load_checkpoint(path, trust=["gone"]), r"holds gone\.py on Python's path, as in PYTHONPATH="
    )
    sys.modules.pop("mine")


def test_a_checkpoint_does_not_trust_itself(tmp_path):
    values = copy.deepcopy(made())
    named("norm", "evil.Evil")(values)
    at(*config_key, "trust", to=["evil"])(values)
    path = put(tmp_path / "x.ckpt", values)
    refused(lambda: normlab.load_checkpoint(path), "would run code")


def sparse(path: Path) -> None:
    """Terabytes that take no room."""
    path.touch()
    os.truncate(path, 2**42)


def bomb(path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x/data.pkl", b"0" * 50_000_000)


def flip(path: Path) -> None:
    content = bytearray(put(path, made()).read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


FILES: dict[str, Callable[[Path], Any]] = {
    "pickle": lambda path: path.write_bytes(pickle.dumps(Shell())),
    "pickle of torch": lambda path: put(path, {"normlab": Shell()}),
    "pickle in weights": lambda path: put(path, {**made(), "state_dict": Shell()}, sealed=False),
    "legacy pickle": lambda path: torch.save({"normlab": Shell()}, path, _use_new_zipfile_serialization=False),
    "nested": lambda path: path.write_bytes(b"\x80\x02" + b"]" * 10**4 + b"." * 3),
    "bomb": bomb,
    "flipped": flip,
    "cut": lambda path: path.write_bytes(put(path, made()).read_bytes()[:-100]),
    "empty": lambda path: path.touch(),
    "text": lambda path: path.write_text("hello\n"),
    "pipe": os.mkfifo,
    "device": lambda path: path.symlink_to("/dev/zero"),
    "link to itself": lambda path: path.symlink_to(path),
    "folder": lambda path: path.mkdir(),
    "sparse": sparse,
    "list": lambda path: put(path, [1, 2]),
}


@pytest.mark.parametrize("name", FILES)
def test_what_is_no_checkpoint_is_refused(name, tmp_path):
    path = tmp_path / "lair" / "x.ckpt"
    FILES[name](path)
    before = listing(tmp_path)
    refused(lambda: normlab.load_checkpoint(path), "checkpoint|damaged|can't be read")
    assert listing(tmp_path) == before
    path.rmdir() if path.is_dir() else path.unlink()


FITTINGS: dict[str, tuple[Callable[[dict[str, Any]], None], str]] = {
    "no data": (at("normlab", "data", to=DROP), "was made by an earlier version"),
    "mistyped prints": (at("normlab", "data", "prints", to={"test": 3}), "mistyped"),
    "mistyped counts": (at("normlab", "data", "counts", to=["test"]), "mistyped"),
    "fitted is text": (at("normlab", "data", "fitted", to="x"), "mistyped"),
    "fitted is empty": (at("normlab", "data", "fitted", to={}), "the training data is damaged"),
    "no classes": (at("normlab", "data", "fitted", "classes", to=None), "it records 0 classes, and its model has 2"),
    "more classes": (at("normlab", "data", "fitted", "classes", to=["a", "b", "c"]), "it records 3 classes"),
    "no mean": (at("normlab", "data", "fitted", "statistics", to={}), "record of the mean does not fit"),
    "other mean": (at("normlab", "data", "fitted", "statistics", "mean", to=[1.0] * 7), "record of the mean"),
    "text mean": (at("normlab", "data", "fitted", "statistics", "mean", to="x"), "damaged"),
    "order": (at("normlab", "data", "fitted", "statistics", "permutation", to=[0, 7]), "not a permutation"),
}


@pytest.mark.parametrize("name", FITTINGS)
def test_a_hostile_record_of_the_data_is_refused(name, tmp_path):
    change, message = FITTINGS[name]
    values = copy.deepcopy(made())
    change(values)
    path = put(tmp_path / "x.ckpt", values)
    config = evaluate.recall(config_of("measure=evaluate", f"ckpt={path}", f"cache={tmp_path / 'cache'}"))
    refused(lambda: evaluate.data_of(config), message)


POINTS: dict[str, tuple[Callable[[dict[str, Any]], None], str]] = {
    "another norm": (named("norm", "os.system"), "its norm is not that of the command"),
    "another option": (at(*config_key, "norm", "eps", to=1.0), "its norm is not that of the command"),
    "another seed": (at(*config_key, "seed", to=1), "its seed is not that of the command"),
    "no record": (at("normlab", to=None), "it records no config"),
    "no weights": (at("state_dict", to={}), "it lacks "),
    "other weights": (at("state_dict", to={"model.x": torch.ones(1)}), "it lacks "),
    "no loops": (at("loops", to=DROP), "it has no usable loops"),
    "mistyped callbacks": (at("callbacks", to=[]), "it has no usable callbacks"),
    "no optimiser": (at("optimizer_states", to="x"), "it has no usable optimizer_states"),
    "another step": (at("global_step", to=4), "it has no usable global_step"),
    "no curve": (lambda values: None, "it has no usable Curve"),
}


@pytest.mark.parametrize("name", POINTS)
def test_a_hostile_resume_point_is_refused_and_a_whole_one_is_not(name, tmp_path):
    change, message = POINTS[name]
    config = config_of(*CHOICES)
    place = Place(tmp_path / "runs" / "a", "a", 1, ResumePoint.after(3, 0))
    place.checkpoints.mkdir(parents=True)
    task = torch.nn.Module()
    task.model = assemble(config.norm, config.model, SIZES)
    curve = SimpleNamespace(state_key="Curve", state_dict=lambda: {"rows": []})
    put(place.resume_checkpoint, made())
    check_point(place, config, task, [])
    values = copy.deepcopy(made())
    change(values)
    put(place.resume_checkpoint, values)
    refused(lambda: check_point(place, config, task, [curve] if name == "no curve" else []), message)


def edited(file: str, change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], None]:
    """A change of a JSON file by somebody who also forges its digest."""

    def edit(folder: Path) -> None:
        values = read_json(folder / file)
        change(values)
        write_json(folder / file, values)
        if file == "config.json":
            set_status(folder, config=None)

    return edit


def written(file: str, content: str) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        (folder / file).write_text(content)

    return write


def instead(file: str, make: Callable[[Path], Any]) -> Callable[[Path], None]:
    def replace(folder: Path) -> None:
        (folder / file).unlink()
        make(folder / file)

    return replace


def digit(folder: Path) -> None:
    path = folder / "config.json"
    path.write_text(path.read_text().replace('"lr": 0.', '"lr": 1.', 1))


RECORDS: dict[str, Callable[[Path], None]] = {
    "a digit of the config": digit,
    "a digit of the metrics": written("metrics.jsonl", '{"step": 1, "validation/loss": 0.1}\n'),
    "a seed": lambda folder: (folder / "config.json").write_text(
        (folder / "config.json").read_text().replace('"seed": 0', '"seed": 7')
    ),
    "another digest": edited("status.json", at("config", to="0" * 64)),
    "mistyped digest": edited("status.json", at("config", to=3)),
    "no config": lambda folder: (folder / "config.json").unlink(),
    "norm beside": edited("config.json", at("norm", "_target_", to="evil_package.inner.Evil")),
    "norm is text": edited("config.json", at("norm", to="evil.Evil")),
    "no target": edited("config.json", at("norm", to={})),
    "target without module": edited("config.json", at("norm", "_target_", to="exec")),
    "measure is a path": edited("config.json", at("measure", "name", to="../../evil")),
    "measure is nothing": edited("config.json", at("measure", to=None)),
    "empty option": edited("config.json", at("optim", "", to=1)),
    "logger is a list": edited("config.json", at("logger", to=["wandb"])),
    "wandb is text": edited("config.json", at("logger", "wandb", to="x")),
    "wandb without project": edited("config.json", at("logger", "wandb", to={})),
    "serves is a number": edited("config.json", at("serves", to=3)),
    "against beside": edited("config.json", at("measure", "against", to={"_target_": "evil_package.inner.Evil"})),
    "against is text": edited("config.json", at("measure", "against", to="evil.Evil")),
    "nested config": written("config.json", '{"a":' * 100_000),
    "nested option": edited("config.json", at("norm", "eps", to=nested(500))),
    "nested status": written("status.json", "[" * 100_000),
    "config is a list": written("config.json", "[1]"),
    "status is a pipe": instead("status.json", os.mkfifo),
    "config is a device": instead("config.json", lambda path: path.symlink_to("/dev/zero")),
    "summary is a link to itself": instead("summary.json", lambda path: path.symlink_to(path)),
    "metrics are a device": lambda folder: (folder / "metrics.jsonl").symlink_to("/dev/zero"),
    "links is a list": written("links.json", '{"wandb": ["javascript:alert(1)"]}'),
}
UNHARMED = (  # shown as they are
    *("norm beside", "against beside", "links is a list", "measure is a path", "nested option"),
    "metrics are a device",  # which is not read: the run has logged nothing
)


@pytest.mark.parametrize("name", RECORDS)
def test_a_hostile_run_is_damaged_or_shown_and_runs_nothing(name, tmp_path, capsys):
    output = tmp_path / "outputs"
    finish(output, "good", *CHOICES)
    folder = finish(output, "bad", *CHOICES)
    (folder / "wandb" / "offline-run-20260101_000000-bad").mkdir(parents=True)
    RECORDS[name](folder)
    before = listing(tmp_path)
    states = {record.folder.name: record.found.state for record in read_records(output)}
    assert states["good"] == "finished"
    assert states["bad"] in (("finished", "stale") if name in UNHARMED else ("damaged", "foreign")), states
    lines: list[str] = []
    frame = read_runs(output, stale=True, tell=lines.append)
    assert list(frame["id"]) in (["good"], ["bad", "good"], ["good", "bad"])
    assert all(line.isprintable() for line in lines)
    list(find_leftovers(output))
    find(output)
    past_costs({output})
    RunFolder(folder).read_address()
    assert listing(tmp_path) == before


def test_folders_with_odd_names_and_links_in_circles(tmp_path, capsys):
    output = tmp_path / "outputs"
    finish(output, "good", *CHOICES)
    (output / "runs" / "loop").symlink_to(output / "runs" / "loop")
    (output / "runs" / "up").symlink_to(output)
    odd = finish(output, "odd\n\x1b[31m[red]| x", *CHOICES)
    (odd / "config.json").write_text("{")
    lines: list[str] = []
    assert list(read_runs(output, tell=lines.append)["id"]) == ["good"]
    assert all(line.isprintable() for line in lines)
    list(find_leftovers(output))
    find(output)
    (tmp_path / "circle").symlink_to(tmp_path / "circle")
    refused(lambda: read_runs(tmp_path / "circle"), "there are no runs in")


def test_rows_are_never_written_through_a_link(tmp_path):
    treasure = tmp_path / "thesis.txt"
    treasure.write_text("years of work")
    run = begin(tmp_path / "outputs", "a", *CHOICES)
    (run.place.folder / "metrics.jsonl").symlink_to(treasure)
    run.place.checkpoints.mkdir()
    point = ResumePoint.after(3, 1)
    put(point.checkpoint(run.place), made())
    add_point(run.place.folder, point)
    assert newest_intact(run.place.folder).rows_sha == run.place.hash_rows(1)  # of no rows
    run.place.keep_rows(0)
    run.place.append_row({"step": 1})
    assert treasure.read_text() == "years of work"


def test_a_run_of_an_earlier_version_has_no_digests_and_is_read(tmp_path):
    folder = finish(tmp_path, "old", *CHOICES)
    set_status(folder, config=None, rows=None)
    assert [record.found.state for record in read_records(tmp_path)] == ["finished"]


PLANS: dict[str, Callable[[Path], Any]] = {
    "no config": lambda path: path.write_text('{"code": "", "serves": []}'),
    "config is a list": lambda path: path.write_text('{"code": "", "serves": [], "config": [1]}'),
    "code is a number": lambda path: path.write_text('{"code": 3, "serves": [], "config": {}}'),
    "serves is text": lambda path: path.write_text('{"code": "", "serves": "x", "config": {}}'),
    "another norm": lambda path: path.write_text(
        '{"code": "", "serves": [], "config": {"norm": {"_target_": "evil.Evil"}}}'
    ),
    "nested": lambda path: path.write_text("[" * 100_000),
    "pipe": os.mkfifo,
}


@pytest.mark.parametrize("name", PLANS)
def test_a_hostile_plan_is_one_failed_job(name, tmp_path):
    path = tmp_path / "jobs" / "0000.json"
    path.parent.mkdir()
    PLANS[name](path)
    outcome = job(path, lambda: config_of(*CHOICES))
    assert outcome.state == "failed"
    assert (
        "changed since it was planned" if name == "another norm" else "the plan of this run is damaged"
    ) in outcome.cause
    assert outcome.log is None
    assert outcome.cause.isprintable()


STUDIES: dict[str, tuple[str, Any]] = {
    "looks are texts": ("verdicts.json", {"verdicts": [], "looks": {"batch": ["x"]}}),
    "looks lack the rule": ("verdicts.json", {"verdicts": [], "looks": {"batch": [{"state": "supported", "n": 8}]}}),
    "looks are a list": ("verdicts.json", {"verdicts": [], "looks": [1]}),
    "verdicts are numbers": ("verdicts.json", {"verdicts": [1, {"finding": 3}, {}], "looks": {}}),
    "rules are a list": ("manifest.json", {"rules": ["x"]}),
    "runs lead out": ("plan.json", {"runs": {"f": {"tune": {"planned": 1, "ids": {"../../secret": "x"}}}}}),
    "runs are numbers": ("plan.json", {"runs": {"f": {"tune": {"planned": "x", "ids": [1]}}}}),
    "findings are commands": ("plan.json", {"findings": {"f": {"name": "f", "arms": {"a": ["norm=evil"]}}}}),
    "shown is text": ("wandb.json", {"logger": "x", "study": []}),
    "shown lacks the project": ("wandb.json", {"logger": {"wandb": {}}, "study": {}}),
    "shown study is mistyped": ("wandb.json", {"logger": {"wandb": {"project": "p"}}, "study": {"name": 3}}),
}


@pytest.mark.parametrize("name", STUDIES)
def test_a_hostile_study_is_read_without_harm(name, tmp_path, capsys):
    folder = tmp_path / "outputs" / "studies" / "x-quick"
    (folder / "wandb" / "offline-run-20260101_000000-study-x").mkdir(parents=True)
    file, values = STUDIES[name]
    (folder / file).write_text(json.dumps(values))
    before = listing(tmp_path)
    ledger = Ledger(folder, "quick")
    assert ledger.looks == {}
    ledger.check_rule(SimpleNamespace(name="batch", primary=True, rule_hash="0"))
    assert planned_findings(folder, []) == {}
    assert all(stage.done == 0 for stages in read_progress(folder).values() for stage in stages)
    find(tmp_path / "outputs")
    if file == "wandb.json":
        assert not show_again(folder)
        assert "is damaged, so it is not uploaded" in capsys.readouterr().err
    assert StudyFolder(folder).read_verdicts() == []
    assert listing(tmp_path) == before


DATA: dict[str, Callable[[Path], Any]] = {
    "pipe": os.mkfifo,
    "device": lambda path: path.symlink_to("/dev/zero"),
    "link to itself": lambda path: path.symlink_to(path),
    "folder": lambda path: path.mkdir(),
    "pickle": lambda path: path.write_bytes(pickle.dumps(Shell())),
    "nul": lambda path: path.write_bytes(b"text,label\n\0,1\n"),
    "columns": lambda path: path.write_text(",".join(map(str, range(10**6))) + "\n"),
    "sparse": sparse,
}


@pytest.mark.parametrize("name", DATA)
def test_a_hostile_data_file_is_refused(name, tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    DATA[name](data / "train.csv")
    task: TaskConfig = config_of("model=lstm", "task=text_files", f"task.path={data}").task
    refused(lambda: prepare(task, tmp_path / "cache"), "train.csv")


def test_a_pickle_among_cached_arrays_is_not_loaded(tmp_path):
    rows = "".join(f"the film {i % 5},{i % 2}\n" for i in range(40))
    (tmp_path / "x.csv").write_text(f"text,label\n{rows}")
    config = config_of("model=lstm", "task=text_files", f"task.path={tmp_path / 'x.csv'}")
    found = prepare(config.task, tmp_path / "cache")
    (entry,) = (path for path in (tmp_path / "cache").iterdir() if path.is_dir())
    array = sorted(entry.glob("*.npy"))[0]
    array.write_bytes(pickle.dumps(Shell()))
    assert prepare(config.task, tmp_path / "cache").fingerprint == found.fingerprint


@pytest.mark.parametrize("change", [at("norm", "_target_", to="evil.Evil"), at("seed", to="0"), at("optim", to=DROP)])
def test_a_hostile_cache_of_composed_configs_is_composed_anew(change):
    values = config_of(*CHOICES).model_dump(mode="json")
    assert _remembered(values) == config_of(*CHOICES)
    change(values)
    assert _remembered(values) is None
    assert _remembered(None) is _remembered([values]) is None


def test_reading_a_checkpoint_alone_builds_nothing(tmp_path):
    values = copy.deepcopy(made())
    command(values)
    assert read_checkpoint(put(tmp_path / "x.ckpt", values))["normlab"]["config"]["norm"] == {"_target_": "os.system"}
