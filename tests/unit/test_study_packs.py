"""Portable studies: what is packed, resumes elsewhere as if it had never moved; anything else is refused in a line."""

from __future__ import annotations

import json
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import test_study

from finding_files import finding, write
from normlab.commands.console import call
from normlab.config.schema import InputError
from normlab.folder.jsonfile import read_json, write_json
from normlab.folder.looks import LooksFile
from normlab.folder.pack import open_pack, write_pack
from normlab.folder.study_folder import StudyFolder
from normlab.moving import unpacking
from normlab.moving.packing import pack_studies
from normlab.runs.provenance import machine

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


@pytest.mark.parametrize("options", [TWO, pytest.param(("scale.tuning=own",), marks=pytest.mark.slow)])
@pytest.mark.parametrize("count", [3, pytest.param(17, marks=pytest.mark.slow)])
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


def test_a_study_that_is_decided_is_not_run_again(planted, cache, tmp_path):
    (verdict,) = planted(*TWO)
    path = packed(planted, tmp_path)
    planted.output.rename(tmp_path / "moved away")
    imported(planted, cache, path)
    (again,) = planted(*TWO)
    assert (again, planted.done) == (verdict, [])


def test_two_exports_are_the_same_bytes_and_a_folder_holds_the_same_text(planted, tmp_path):
    planted()
    one, other = packed(planted, tmp_path), packed(planted, tmp_path, "other.zip")
    assert one.read_bytes() == other.read_bytes()
    folder = packed(planted, tmp_path, "folder", unpacked=True)
    with zipfile.ZipFile(one) as archive:
        assert files(folder) == {name: archive.read(name) for name in sorted(archive.namelist())}
    assert not any("ckpt" in name for name in files(folder))
    assert {p.name for p in tmp_path.iterdir() if p.name.startswith(".")} == set()


def test_a_pack_says_neither_where_nor_on_which_machine_it_was_made(planted, cache, tmp_path, monkeypatch):
    home = tmp_path / "home" / "a person"
    home.mkdir(parents=True)
    monkeypatch.chdir(home)
    monkeypatch.setattr("sys.argv", ["train.py", "finding=planted", f"output={home / 'results'}", str(home / "conf")])
    monkeypatch.setattr("platform.node", lambda: "the-persons-laptop")
    monkeypatch.setattr("normlab.runs.provenance.git_state", lambda: None)  # its diff may be of this very file
    machine.cache_clear()
    planted()
    machine.cache_clear()
    (run, *_) = (planted.output / "runs").iterdir()
    assert str(home) in (run / "provenance.json").read_text()
    assert "laptop" in (run / "provenance.json").read_text()
    path = packed(planted, tmp_path)
    with zipfile.ZipFile(path) as archive:
        said = {name: archive.read(name).decode() for name in archive.namelist()}
    private = (str(tmp_path), str(planted.output), "a person", "laptop")
    assert [(name, word) for name, text in said.items() for word in private if word in text] == []
    assert "output=results conf" in said[f"runs/{run.name}/provenance.json"]
    done = imported(planted, cache, path, output=tmp_path / "elsewhere")
    assert len(done.new) == 16, "what is left out is not taken for damage"
    pack_studies([tmp_path / "elsewhere" / "studies" / "planted-quick"], tmp_path / "again.zip")
    assert (tmp_path / "again.zip").read_bytes() == path.read_bytes()


@pytest.mark.parametrize("unpacked", [False, True])
def test_a_second_import_changes_nothing_and_says_so(planted, cache, tmp_path, monkeypatch, capsys, unpacked):
    planted()
    path = packed(planted, tmp_path, "pack", unpacked=unpacked)
    target = tmp_path / "ünïcode 中" / "out"
    monkeypatch.setenv("NORMLAB_CACHE", str(cache))
    call(["study", "import", str(path), f"output={target}"])
    assert "16 runs and 1 looks are new, 0 runs were known" in capsys.readouterr().out
    before = files(target)
    call(["study", "import", str(path), "--output", str(target)])
    assert "nothing to import" in capsys.readouterr().out
    assert files(target) == before
    original = files(planted.output)
    moved = {name for name in original if name.startswith(("runs", "studies", "looks"))} - {
        name for name in original if name.endswith((".lock", "/owner"))
    }
    private = ("config.json", "provenance.json", "status.json", "manifest.json")  # where it was made is left out
    assert {n: before[n] for n in moved if not n.endswith(private)} == {
        n: original[n] for n in moved if not n.endswith(private)
    }


def test_an_export_of_what_is_there_already_says_so(planted, tmp_path, monkeypatch, capsys):
    planted()
    monkeypatch.chdir(tmp_path)
    folder = str(planted.output / "studies" / "planted-quick")
    call(["study", "export", folder + "/"])
    assert "planted-quick.zip: planted-quick with 16 finished runs of 16 and 1 looks" in capsys.readouterr().out
    call(["study", "export", folder, "-o", str(tmp_path)])
    assert "is there already, with the same content" in capsys.readouterr().out
    Path("planted-quick.zip").write_text("something else")
    with pytest.raises(InputError, match="already exists and differs: remove it, or choose another name"):
        call(["study", "export", folder])
    assert Path("planted-quick.zip").read_text() == "something else"
    with pytest.raises(InputError, match="is not the folder of a study"):
        call(["study", "export", str(tmp_path)])
    with pytest.raises(InputError, match="is not a pack, but may be a study's folder"):
        call(["study", "import", folder])


def test_tables_alone_can_be_judged_and_shown_but_know_no_run(planted, cache, tmp_path):
    planted()
    path = packed(planted, tmp_path, "tables", tables=True, unpacked=True)
    assert {name.split("/")[0] for name in files(path)} == {"manifest.json", "planted-quick", "looks"}
    done = imported(planted, cache, path, output=tmp_path / "elsewhere")
    assert (done.new, done.tables) == ([], ["planted-quick"])


def altered(path: Path, change: Callable[[dict[str, bytes]], None], name="altered.zip") -> Path:
    """The pack with other content, sealed and signed anew, as somebody who knows the format could."""
    with open_pack(path) as pack:
        members = {member: pack.read(member) for member in pack.members}
    change(members)
    write_pack(path.with_name(name), members.items())
    return path.with_name(name)


def in_json(member, **values):
    def change(members):
        name = next(name for name in members if name.endswith(member))
        members[name] = json.dumps({**json.loads(members[name]), **values}, indent=1).encode() + b"\n"

    return change


def in_rows(edit):
    def change(members):
        lines = members["planted-quick/runs.csv"].decode().splitlines()
        members["planted-quick/runs.csv"] = ("\n".join(edit(lines)) + "\n").encode()

    return change


def in_looks(edit):
    def change(members):
        members["looks/planted-quick.jsonl"] = edit(members["looks/planted-quick.jsonl"])

    return change


REFUSED = {
    "a row's score": (
        in_rows(lambda lines: [lines[0], lines[1].replace(",0.", ",1."), *lines[2:]]),
        r"runs.csv has been altered: ",
    ),
    "a row's seed": (
        in_rows(lambda lines: [lines[0], lines[1].replace(",0,l", ",99,l"), *lines[2:]]),
        r"seed of planted, arm \w+, seed 99 is 99, and the run recorded 0",
    ),
    "a row twice": (
        in_rows(lambda lines: [*lines, lines[1]]),
        r"has two rows for planted, arm \w+, seed 0; only one can count",
    ),
    "no stage": (
        in_rows(lambda lines: [line.replace("report", "") for line in lines]),
        "line 2: finding, stage, arm or seed is missing",
    ),
    "a summary": (
        in_json("summary.json", **{"test/accuracy": 0.99}),
        r"run lstm-\w+-.* \(planted, arm \w+, seed \d\) is not whole: its summary.json is not what the run wrote",
    ),
    "a config": (in_json("/config.json", seed=77), "is not whole: its config.json is not what the run wrote"),
    "a state": (in_json("/status.json", state="running"), "is not whole: it has not finished"),
    "a lost look": (
        lambda members: members.pop("looks/planted-quick.jsonl"),
        "a look of planted at 8 seeds is missing from its looks",
    ),
    "a damaged look": (in_looks(lambda text: text[:-20]), "line 1 is damaged"),
    "a damaged plan": (
        lambda members: members.update({"planted-quick/plan.json": b"{"}),
        "planted-quick/plan.json can't be read",
    ),
    "a finding": (in_json("plan.json", findings={"planted": {"name": 3}}), "holds no valid finding 'planted'"),
    "a rule": (
        in_json("planted-quick/manifest.json", rules={"planted": "0123456789ab"}),
        r"other rule \(planted: 0123456789ab in the pack, \w{12} in planted.yaml\): undo .*, or --accept-rule",
    ),
    "code": (
        in_json("/status.json", code="0123"),
        r"other code \(lstm-.*\): check out the same commit, or --accept-code",
    ),
    "torch": (
        in_json("/status.json", torch="1.0"),
        r"other torch \(.*: 1.0 there, .* here\): install the same version, or --accept-torch",
    ),
    "data": (
        in_json("/provenance.json", data="0123"),
        r"other config \(lstm-.*: its options and data are those of another run here\): use the same",
    ),
}


@pytest.fixture
def whole(planted, tmp_path):
    """A pack of a study that is there no more."""
    planted()
    path = packed(planted, tmp_path)
    planted.output.rename(tmp_path / "moved away")
    return path


def test_what_contradicts_itself_or_this_machine_is_refused(planted, whole, cache):
    for name, (change, words) in REFUSED.items():
        path = altered(whole, change, f"{name}.zip")
        with pytest.raises(InputError, match=words) as refused:
            imported(planted, cache, path)
        assert "\n" not in str(refused.value)
        assert not planted.output.exists(), name


@pytest.mark.parametrize("kind", ["rule", "code", "torch"])
def test_what_is_admitted_is_imported_and_said(planted, whole, cache, kind):
    change, _ = REFUSED["a rule" if kind == "rule" else kind]
    done = imported(planted, cache, altered(whole, change), kind)
    assert len(done.new) == 16
    (line,) = done.differences.lines()
    assert line.startswith(f"admitted: other {kind} (")
    assert StudyFolder.at(planted.output, "planted-quick").read_origin()["admitted"] == [kind]
    planted()
    assert planted.done == []


@pytest.mark.slow
def test_code_that_is_not_admitted_when_it_is_imported_again(planted, whole, cache, monkeypatch):
    """A result of other code that was here before counts once its code is admitted."""
    imported(planted, cache, altered(whole, REFUSED["code"][0]), "code")
    (run,) = [p for p in planted.output.glob("runs/*/status.json") if "accepted" in read_json(p)]
    status = read_json(run)
    write_json(run, {name: value for name, value in status.items() if name != "accepted"})
    done = imported(planted, cache, whole.with_name("altered.zip"), "code")
    assert (done.new, done.accepted) == ([], [run.parent.name])
    assert read_json(run)["accepted"] == status["accepted"]


def test_data_of_another_content_are_refused(planted, whole, cache, monkeypatch):
    from types import SimpleNamespace

    from normlab.moving import present

    monkeypatch.setattr(present, "data_of", lambda config: SimpleNamespace(fingerprint="0123"))
    with pytest.raises(InputError, match=r"other data \(\w+: \w+ there, 0123 here, and 15 more\)"):
        imported(planted, cache, whole)
    assert imported(planted, cache, whole, "data").differences.found.keys() == {"data"}


def test_a_scale_of_other_choices_is_refused_at_once(planted, whole, cache):
    write(planted.conf, finding(tune=None, scales={"smoke": [], "quick": ["trainer.steps=11"]}))
    with pytest.raises(
        InputError, match=r"planted at scale=quick: trainer.steps=10 in the pack, trainer.steps=11 here"
    ):
        imported(planted, cache, whole)


@pytest.mark.slow
def test_a_study_that_would_do_other_runs_here_is_refused_before_any(planted, whole, cache):
    imported(planted, cache, whole)
    with pytest.raises(InputError, match=r"imported from planted-quick.zip, where .*: model.width was \d+ and is 9"):
        planted("scale.overrides=['logger=none','trainer.threads=1','trainer.progress=false','model.width=9']")
    assert planted.done == []


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (lambda whole: b"", "is not a pack: `normlab study export FOLDER` writes one"),
        (lambda whole: b"no archive", "is not a pack"),
        (lambda whole: whole[: len(whole) // 2], "is damaged: it has been truncated or altered"),
        (lambda whole: whole[:-1], "is damaged: it has been truncated or altered"),
        (lambda whole: whole + b"x", "is damaged: it has been truncated or altered"),
    ],
)
def test_no_pack_or_half_of_one_is_refused(planted, whole, cache, content, words):
    whole.write_bytes(content(whole.read_bytes()))
    with pytest.raises(InputError, match=words):
        imported(planted, cache, whole)
    assert not planted.output.exists()
