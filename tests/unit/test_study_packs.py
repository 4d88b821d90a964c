"""Portable studies: what is packed, resumes elsewhere as if it had never moved; anything else is refused in a line."""

from __future__ import annotations

import json
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import test_study
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from finding_files import finding, write
from normlab.commands.console import call
from normlab.config.schema import InputError
from normlab.folder import pack as pack_module
from normlab.folder.jsonfile import read_json, write_json
from normlab.folder.looks import LooksFile
from normlab.folder.pack import manifest_of, open_pack, write_pack
from normlab.folder.study_folder import StudyFolder
from normlab.runs.store import look
from normlab.study import unpacking
from normlab.study.packing import pack_studies

world = test_study.world  # the fixture
TWO = ("scale.seeds.training=12", "scale.looks.training=[8,12]")


@pytest.fixture
def planted(world):
    """The world without tuning, in which the first look is open."""
    write(world.conf, finding(tune=None))
    world.effect = 0.0105
    return world


def stop_after(world, count):
    """Ctrl-C after so many runs."""

    def behaviour(config, effect):
        if len(world.done) > count:
            raise KeyboardInterrupt
        return test_study.accuracy(config, effect)

    world.behaviour = behaviour


def packed(world, tmp_path, name="planted-quick.zip", **options) -> Path:
    pack_studies([world.output / "studies" / "planted-quick"], tmp_path / name, **options)
    return tmp_path / name


def imported(world, cache, path, *admitted, output=None):
    return unpacking.unpack(path, output or world.output, cache, frozenset(admitted), world.conf)


def files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.mark.parametrize("options", [TWO, ("scale.tuning=own",)])
@pytest.mark.parametrize("count", [3, 17])
def test_a_study_that_moved_says_what_one_says_that_never_did(world, cache, tmp_path, options, count):
    if options == TWO:
        write(world.conf, finding(tune=None))
    world.effect = 0.0105
    (undisturbed,) = world(*options)
    every = list(world.done)
    looks = LooksFile(world.output, "planted", "quick").read()
    shutil.rmtree(world.output)
    stop_after(world, count)
    with pytest.raises(KeyboardInterrupt):
        world(*options)
    before = world.done[:count]
    path = packed(world, tmp_path)
    world.output.rename(tmp_path / "moved away")
    done = imported(world, cache, path)
    assert (len(done.new), done.known) == (count, 0)
    world.behaviour = test_study.accuracy
    (verdict,) = world(*options)
    assert verdict == undisturbed
    assert sorted(before + world.done) == sorted(every), "each run once, here or there"
    now = LooksFile(world.output, "planted", "quick").read()
    assert [{**seen, "time": ""} for seen in now] == [{**seen, "time": ""} for seen in looks]
