"""A user's own norm outside the package: its module on the path, its YAML in a folder that --config-dir adds."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import open_dict

from finding_files import finding, write
from normlab.checks.config import checked
from normlab.config.schema import InputError
from normlab.config.shipped import CONF
from normlab.config.signature import read
from normlab.folder.resume_points import add_point
from normlab.runs.code import code_hash
from normlab.study.choices import chosen
from normlab.sweep.compose import Composer, own_folders

NORM = """
from normlab.norms.layer import LayerNorm

from my_helper import FACTOR


class MyNorm(LayerNorm):
    def __init__(self, num_features, layout, parts=1, positions=None, bias=True, gain_init=None, *, eps: float = 1e-5):
        super().__init__(num_features, layout, parts, positions, bias, gain_init, eps=eps)

    def normalise(self, x, mask, step):
        return FACTOR * super().normalise(x, mask, step)
"""
YAML = "_target_: my_norm.MyNorm\n_partial_: true\neps: 1.0e-5\n"


@pytest.fixture
def own(tmp_path, monkeypatch) -> Path:
    """A folder with the norm, a module that it imports, and its YAML."""
    folder = tmp_path / "own"
    (folder / "conf" / "norm").mkdir(parents=True)
    (folder / "my_norm.py").write_text(NORM)
    (folder / "my_helper.py").write_text("FACTOR = 1\n")
    (folder / "conf" / "norm" / "my_norm.yaml").write_text(YAML)
    monkeypatch.syspath_prepend(str(folder))
    read.cache_clear()  # the same module's name is another file in each test
    yield folder
    read.cache_clear()
    for name in ("my_norm", "my_helper"):
        sys.modules.pop(name, None)


def composed(own: Path, *overrides: str):
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        path = f"hydra.searchpath=[file://{own / 'conf'}]"
        return compose("train", overrides=[path, *overrides], return_hydra_config=True)


def config(own: Path, *overrides: str):
    cfg = composed(own, "norm=my_norm", "model=lstm", *overrides)
    with open_dict(cfg):
        del cfg["hydra"]
    return checked(cfg)


def test_it_is_checked_like_any_other(own):
    assert config(own).norm_name == "my_norm"
    with pytest.raises(InputError, match=r"norm\.eps=small"):
        config(own, "norm.eps=small")


@pytest.mark.parametrize("file", ["my_norm.py", "my_helper.py"])
def test_its_code_is_part_of_the_evidence(own, file):
    before = code_hash(config(own))
    text = (own / file).read_text()
    (own / file).write_text("# a comment\n" + text)
    assert code_hash(config(own)) == before
    (own / file).write_text(text.replace("FACTOR =", "FACTOR = 2 *").replace("return FACTOR", "return 2 * FACTOR"))
    assert code_hash(config(own)) != before


def test_modules_beside_it_that_it_doesnt_import_are_none(own):
    before = code_hash(config(own))
    (own / "other.py").write_text("FACTOR = 3\n")
    assert code_hash(config(own)) == before


def test_with_config_files_of_ones_own_nothing_is_remembered(own, tmp_path):
    loads = []

    def load(overrides):
        loads.append(overrides)
        return composed(own, *overrides)

    composer = Composer(load, composed(own))
    mine, theirs = (["model=lstm", f"norm={norm}", "seed=1"] for norm in ("my_norm", "layer"))
    for _ in range(2):
        composer([mine, theirs], tmp_path / "cache")
    assert loads == [mine, theirs, mine, theirs]
    assert own_folders(composed(own)) == [own / "conf"]


def test_a_yaml_that_changes_within_its_size_and_time_is_read_again(own, tmp_path):
    file = own / "conf" / "norm" / "my_norm.yaml"
    choices = [["model=lstm", "norm=my_norm", "seed=1"]]

    def eps():
        return Composer(lambda overrides: composed(own, *overrides), composed(own))(choices, tmp_path)[0].norm["eps"]

    before, times = eps(), file.stat()
    file.write_text(YAML.replace("1.0e-5", "3.0e-5"))
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert file.stat().st_size == times.st_size
    assert (before, eps()) == (1e-5, 3e-5)


def test_a_finding_of_ones_own_is_found(own):
    path = write(own / "conf", finding(name="mine", arms={"layer": ["norm=layer"], "batch": ["norm=my_norm"]}), "mine")
    path.write_text("# @package _global_\n" + path.read_text())
    study, findings, _ = chosen(composed(own, "finding=mine"), CONF)
    assert (study.name, findings[0].arms["batch"]) == ("mine", ["norm=my_norm"])


@pytest.mark.slow
def test_a_run_of_another_formula_is_stale(own, train):
    choices = ("--config-dir", str(own / "conf"), "norm=my_norm", "model=lstm", "model.width=8", "trainer.steps=2")
    small = ("trainer.batches=2", "logger=none", "trainer.progress=false")
    assert train(*choices, *small).status == 0
    assert "1 finished" in train(*choices, *small, "dry=true").out
    (own / "my_norm.py").write_text(NORM.replace("return FACTOR", "return 2 * FACTOR"))
    assert "code changed since" in train(*choices, *small, "dry=true").out


SMALL = ("model=lstm", "model.width=8", "trainer.steps=4", "logger=none", "trainer.progress=false", "trainer.threads=1")
BREAKS = """
import os

class Broken(float):
    def __mul__(self, other):
        if os.path.exists("BREAK"):
            raise RuntimeError("it breaks")
        return other

FACTOR = Broken(1)
"""


def test_it_resumes_without_being_named_again_and_its_checkpoint_must_be_trusted(own, train, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (own / "my_helper.py").write_text(BREAKS)
    choices = ("--config-dir", str(own / "conf"), "norm=my_norm", *SMALL, "trainer.save_steps=1")
    begun = train(*choices, "trainer.validations=4")
    assert begun.status == 0, begun.err
    (folder,) = (tmp_path / "outputs" / "runs").iterdir()
    ckpt = f"ckpt={folder / 'checkpoints' / 'best.ckpt'}"

    evaluated = train("measure=evaluate", ckpt, "logger=none", "trainer.threads=1", output=tmp_path / "evaluated")
    assert evaluated.status == 2
    assert "name it: trust=[my_norm] on the command line" in evaluated.err
    evaluated = train(
        "measure=evaluate", ckpt, "trust=[my_norm]", "logger=none", "trainer.threads=1", output=tmp_path / "evaluated"
    )
    assert evaluated.status == 0, evaluated.err

    def stop(step: int) -> None:
        if step == 2:
            Path("BREAK").touch()

    monkeypatch.setattr("normlab.session.resumption.add_point", _then(stop))
    broken = tmp_path / "broken"
    with pytest.raises(RuntimeError, match="it breaks"):
        train(*choices, output=broken)
    Path("BREAK").unlink()
    resumed = train(*choices, output=broken)
    assert resumed.status == 0, resumed.err
    assert "resumed after step 2" in resumed.out


def _then(act):
    """What records a resume point, and then acts."""

    def add(folder, point):
        add_point(folder, point)
        act(point.step)

    return add
