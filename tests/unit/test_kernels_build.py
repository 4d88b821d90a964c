"""Building the C++: cached, safe among processes, and never in the way where it fails."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from normlab.kernels import build

USE = """
from functools import partial
from normlab.models.lstm import LSTM
from normlab.norms.layer import LayerNorm
from normlab.config.schema import InputError, Sizes
sizes = Sizes("features", (5, 4), outputs=2, positions=5)
for _ in range(2):
    print(LSTM(partial(LayerNorm), sizes, width=4, kernel="KERNEL").layers[0].forwards.kernel)
"""


def start(code: str, cache: Path, **environment: str) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-c", code],
        env={**os.environ, "XDG_CACHE_HOME": str(cache), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(kernel: str, cache: Path, **environment: str) -> tuple[str, str]:
    process = start(USE.replace("KERNEL", kernel), cache, **environment)
    out, err = process.communicate(timeout=120)
    return out, err


@pytest.mark.parametrize(
    ("environment", "reason"),
    [({"CXX": "no-such-compiler"}, "no C++ compiler 'no-such-compiler'"), ({"CXX": "false"}, "false failed")],
)
def test_without_a_compiler_the_plain_cell_is_used_and_one_line_says_why(tmp_path, environment, reason):
    out, err = run("auto", tmp_path, **environment)
    assert out.split() == ["plain", "plain"]
    (line,) = [line for line in err.splitlines() if "plain cell" in line]
    assert reason in line


@pytest.mark.parametrize(("variable", "ask"), [("CXX", build._compiler), ("CXXFLAGS", build._flags)])
def test_a_variable_with_an_open_quotation_is_named(monkeypatch, variable, ask):
    monkeypatch.setenv(variable, "g++ '-O3")
    with pytest.raises(build.BuildError, match=f"^{variable}=g\\+\\+ '-O3 can't be read: no closing quotation$"):
        ask()


def test_without_a_compiler_fused_is_an_input_error(tmp_path):
    _, err = run("fused", tmp_path, CXX="no-such-compiler")
    assert "InputError: model.kernel=fused can't be used here: no C++ compiler" in err


@pytest.mark.slow
def test_a_cache_that_cannot_be_written_is_no_crash(tmp_path):
    (tmp_path / "file").write_text("")
    out, err = run("auto", tmp_path / "file")
    assert out.split() == ["plain", "plain"]
    assert "plain cell" in err


@pytest.mark.slow
def test_kernel_plain_asks_for_no_compiler(tmp_path):
    out, err = run("plain", tmp_path, CXX="no-such-compiler")
    assert out.split() == ["plain", "plain"]
    assert err == ""


DAMAGE = """
from normlab.kernels import build
path = build._path(build._compiler())
build._make_private(path.parent)
content = bytearray(path.read_bytes()) if path.exists() else bytearray(b"half a library")
DAMAGED
path.unlink(missing_ok=True)
path.write_bytes(content)
"""


@pytest.mark.slow
def test_a_damaged_library_is_built_again(tmp_path):
    run("fused", tmp_path)
    for damage in ("content[len(content) // 2] ^= 8", "del content[4096:]", "content.clear()"):
        code = DAMAGE.replace("DAMAGED", damage) + USE.replace("KERNEL", "auto")
        out, err = start(code, tmp_path).communicate(timeout=240)
        assert out.split() == ["fused", "fused"], damage
        assert err.count("compiling") == 1
    _, err = run("fused", tmp_path)
    assert "compiling" not in err


def test_a_library_without_a_checksum_is_not_loaded(tmp_path):
    """The compiler that would build it again fails, so that the plain cell is used."""
    environment = {"CXX": "false"}
    code = DAMAGE.replace("DAMAGED", "") + USE.replace("KERNEL", "auto")
    out, err = start(code, tmp_path, **environment).communicate(timeout=120)
    assert out.split() == ["plain", "plain"]
    assert "plain cell" in err


@pytest.mark.slow
def test_processes_that_start_at_once_build_it_once(tmp_path):
    processes = [start(USE.replace("KERNEL", "fused"), tmp_path) for _ in range(4)]
    answers = [process.communicate(timeout=240) for process in processes]
    assert all(out.split() == ["fused", "fused"] for out, _ in answers)
    assert sum("compiling" in err for _, err in answers) == 1
    assert len(list((tmp_path / "normlab").glob("*/*.so"))) == 1


@pytest.mark.slow
def test_other_flags_are_another_library(tmp_path):
    run("fused", tmp_path)
    out, _ = run("fused", tmp_path, CXXFLAGS="-O1")
    assert out.split() == ["fused", "fused"]
    assert len(list((tmp_path / "normlab").glob("*/*.so"))) == 2


@pytest.mark.slow
@pytest.mark.parametrize("flags", ["-march=x86-64", "-march=x86-64-v3"])
def test_narrower_instruction_sets_compute_the_same(tmp_path, flags):
    if "x86" not in os.uname().machine and os.uname().machine != "AMD64":
        pytest.skip("flags of another processor")
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path), "CXXFLAGS": flags}
    files = [str(Path(__file__).with_name(name)) for name in ("test_kernels.py", "test_kernels_rows.py")]
    tests = [*files, "-k", "twin or differences or bits or formula or place"]
    done = subprocess.run([sys.executable, "-m", "pytest", *tests], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:]


def library(folder: Path, mode: int) -> str:
    """The state of a library with a valid checksum, in a folder with these permissions, as `load` finds it."""
    code = f"""
import hashlib, os
from normlab.kernels import build
path = build._path(build._compiler())
path.parent.mkdir(parents=True)
path.write_bytes(b"forged")
path.with_suffix(".sha256").write_text(hashlib.sha256(b"forged").hexdigest())
path.parent.chmod({mode})
try:
    build._make_private(path.parent)
    print(build._is_whole(path), oct(path.parent.stat().st_mode & 0o777))
except build.BuildError as error:
    print(error)
"""
    out, err = start(code, folder).communicate(timeout=60)
    assert not err
    return out.strip()


def test_a_library_that_others_could_have_put_there_is_built_again(tmp_path):
    assert library(tmp_path / "open", 0o777) == "False 0o700"
    assert library(tmp_path / "group", 0o775) == "False 0o700"
    assert library(tmp_path / "own", 0o755) == "True 0o755"


@pytest.mark.slow
def test_a_folder_that_is_a_link_is_not_used(tmp_path):
    (tmp_path / "normlab").mkdir()
    (tmp_path / "theirs").mkdir()
    (tmp_path / "normlab" / f"kernels-{os.getuid()}").symlink_to(tmp_path / "theirs")
    out, err = run("auto", tmp_path)
    assert out.split() == ["plain", "plain"]
    assert "belongs to somebody else" in err
