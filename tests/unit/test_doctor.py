"""The doctor says what is wrong with a machine, and what to do about it."""

from dataclasses import replace

import pytest
from run_folders import begin, finish, write_owner

from normlab.commands import doctor
from normlab.commands.doctor import examine
from normlab.config.schema import WandbConfig
from normlab.environment import machine, surroundings
from normlab.environment.check import Check
from normlab.mirror.wandb_access import is_online
from normlab.runs.owner import this_process


def checks(found) -> dict[str, Check]:
    return {check.topic: check for check in found}


@pytest.mark.slow
def test_all_is_well_here(tmp_path):
    found = checks(examine(tmp_path / "outputs", tmp_path / "cache"))
    assert [check for check in found.values() if check.verdict == "fail"] == []
    assert {"python", "packages", "torch", "threads", "memory", "git", "data packs", "hugging face", "wandb"} <= {
        *found
    }
    assert {"loopback", "slurm", "launcher joblib", "launcher submitit", "compiler"} <= {*found}
    assert {"output", "output fsync", "cache", "runs"} <= {*found}
    assert all(check.advice for check in found.values() if check.verdict != "ok")
    assert list(tmp_path.iterdir()) == []  # it leaves nothing behind


def test_a_check_that_breaks_down_is_a_failure_and_no_traceback(monkeypatch, tmp_path):
    monkeypatch.setattr(machine, "torch", lambda: iter(()))
    monkeypatch.setattr(machine, "machine", lambda: {}["memory_gb"])
    found = checks(examine(tmp_path, tmp_path))
    assert found["memory"].verdict == "fail"
    assert "KeyError" in found["memory"].found


def test_other_versions_than_the_lock_are_named(monkeypatch, tmp_path):
    monkeypatch.setattr(machine, "PROJECT", tmp_path)
    (tmp_path / "constraints.txt").write_text("# lock\nnumpy==0.1\nno-such-package==1.0\nfilelock==")
    (check,) = machine.packages()
    assert check.verdict == "warn"
    assert "instead of 0.1" in check.found
    assert "without no-such-package" in check.found


@pytest.mark.parametrize(
    ("code", "verdict", "found"),
    [
        ("raise ImportError('libgomp.so.1: no such file')", "fail", "libgomp.so.1"),
        ("import os; os.abort()", "fail", "status -6"),
    ],
)
def test_a_torch_that_can_not_be_imported_is_a_failure(monkeypatch, code, verdict, found):
    monkeypatch.setattr(machine, "_ASK_TORCH", code)
    (check,) = machine.torch()
    assert (check.verdict, found in check.found) == (verdict, True)


def test_more_threads_than_cores_are_warned_of(monkeypatch):
    told = '{"version": "2", "cuda": null, "threads": 8, "gpus": [], "simd": "AVX2", "gloo": false, "sum": 262144.0}'
    monkeypatch.setattr(machine, "_ASK_TORCH", f"print('''{told}''')")
    monkeypatch.setattr(machine.os, "sched_getaffinity", lambda _: {0, 1}, raising=False)
    found = checks(machine.torch())
    assert (found["torch"].verdict, found["threads"].verdict, found["ddp"].verdict) == ("ok", "warn", "warn")
    assert "trainer.threads=2" in found["threads"].advice


@pytest.mark.parametrize(("there", "verdict"), [(True, "ok"), (False, "warn")])
def test_a_gpu_without_triton_is_warned_of(monkeypatch, there, verdict):
    told = '{"version": "2", "cuda": "13", "threads": 1, "gpus": ["H"], "simd": "AVX2", "gloo": true, "sum": 262144.0}'
    monkeypatch.setattr(machine, "_ASK_TORCH", f"print('''{told}''')")
    monkeypatch.setattr(machine, "_is_importable", lambda module: there)
    found = checks(machine.torch())
    assert (found["gpu"].found, found["triton"].verdict) == ("H", verdict)
    assert ("pip install triton" in found["triton"].advice) != there


def test_a_damaged_pack_is_named(monkeypatch, tmp_path):
    monkeypatch.setattr(surroundings, "PACKS", tmp_path)
    (check,) = surroundings.packs()
    assert check.verdict == "fail"
    (tmp_path / "checksums.json").write_text('{"sha256": {"a.parquet": "00", "b.parquet": "11"}}')
    (tmp_path / "a.parquet").write_bytes(b"other")
    (check,) = surroundings.packs()
    assert (check.verdict, check.found) == ("fail", "damaged: a.parquet, b.parquet")


def test_a_folder_that_can_not_be_used_is_a_failure(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    assert checks(surroundings.folder("output", tmp_path / "file" / "below"))["output"].verdict == "fail"

    def refuse(*_):
        raise OSError("no locks available")

    monkeypatch.setattr(surroundings, "_try_out", refuse)
    check = checks(surroundings.folder("cache", tmp_path))["cache"]
    assert check.verdict == "fail"
    assert "no locks available" in check.found
    assert "cache=FOLDER" in check.advice


def test_a_slow_disk_and_a_full_one_are_told(monkeypatch, tmp_path):
    monkeypatch.setattr(surroundings, "_try_out", lambda _: 0.2)
    usage = surroundings.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(surroundings.shutil, "disk_usage", lambda _: usage._replace(free=10_000_000))
    found = checks(surroundings.folder("output", tmp_path))
    assert (found["output"].verdict, found["output fsync"].verdict) == ("fail", "warn")
    assert "200.0 ms" in found["output fsync"].found


def test_an_offline_hub_without_downloads_is_warned_of(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path))
    (check,) = surroundings.hub()
    assert check.verdict == "warn"
    (tmp_path / "owner___name").mkdir()
    (check,) = surroundings.hub()
    assert (check.verdict, "owner/name" in check.found) == ("ok", True)


def test_runs_are_counted_by_state(tmp_path):
    lstm = ("model=lstm", "norm=layer")
    finish(tmp_path, "a", *lstm)
    begin(tmp_path, "b", *lstm)
    (finish(tmp_path, "c", *lstm) / "summary.json").unlink()
    finish(tmp_path, "d", *lstm, code="other").rename(tmp_path / "runs" / "d.attempt-1")
    found = checks(surroundings.runs(tmp_path))
    assert found["runs"].found == "1 finished, 1 killed, 1 damaged"
    assert found["killed runs"].verdict == "warn"
    assert "c" in found["damaged runs"].found
    assert found["set aside"].found.startswith("1 ")


@pytest.mark.parametrize(("verdict", "status"), [("ok", 0), ("warn", 0), ("fail", 1)])
def test_the_command_fails_only_if_something_will(monkeypatch, capsys, verdict, status):
    monkeypatch.setattr(doctor, "examine", lambda *_: iter([Check(verdict, "topic", "found", "do this")]))
    with pytest.raises(SystemExit) as end:
        doctor.main([])
    assert end.value.code == status
    out = capsys.readouterr().out
    assert verdict in out
    assert "found → do this" in out


@pytest.mark.parametrize(("here", "elsewhere"), [("node1", True), ("node10", False), ("other", True)])
def test_a_host_is_another_one_though_its_name_begins_alike(monkeypatch, tmp_path, here, elsewhere):
    folder = begin(tmp_path, "a", "model=lstm", "norm=layer")
    write_owner(folder.place.folder, replace(this_process(), host="node10", boot="another"))
    monkeypatch.setattr(surroundings, "this_process", lambda: replace(this_process(), host=here))
    assert ("runs elsewhere" in checks(surroundings.runs(tmp_path))) == elsewhere


@pytest.mark.parametrize("mode", [None, "online", "offline", "dryrun"])
@pytest.mark.parametrize("key", [None, "x" * 40])
@pytest.mark.parametrize(
    "netrc", ["", "machine api.wandb.ai login user password x", "machine wandb.example.org login u password x"]
)
@pytest.mark.parametrize("server", [None, "https://wandb.example.org"])
def test_wandb_is_judged_as_the_logger_does(monkeypatch, tmp_path, mode, key, netrc, server):
    (tmp_path / "netrc").write_text(f"machine {netrc} login user password x" if netrc else "")
    (tmp_path / "netrc").chmod(0o600)
    named = {"WANDB_MODE": mode, "WANDB_API_KEY": key, "WANDB_BASE_URL": server, "NETRC": str(tmp_path / "netrc")}
    for name, value in named.items():
        monkeypatch.setenv(name, value) if value else monkeypatch.delenv(name, raising=False)
    (check,) = surroundings.wandb()
    assert ("runs log online" in check.found) == is_online(WandbConfig(project="normlab"))
