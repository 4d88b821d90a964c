"""`pip install .` gives a `normlab` that works without the checkout, from any folder."""

import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def run(*command, **options):
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, check=False, **options)
    assert done.returncode == 0, done.stderr
    return done.stdout


def with_pip() -> str:
    """A Python with pip and setuptools: this one, or the one that its environment was made of."""
    for python in (sys.executable, sys._base_executable):
        done = subprocess.run([python, "-c", "import pip, setuptools.build_meta"], capture_output=True, check=False)
        if done.returncode == 0:
            return python
    pytest.skip("no pip with setuptools here")


@pytest.mark.slow
def test_an_installed_wheel_works_from_an_empty_folder(tmp_path):
    source, empty = tmp_path / "source", tmp_path / "empty"
    empty.mkdir()
    listed = run("git", "-C", ROOT, "ls-files", "-co", "--exclude-standard").splitlines()
    for name in (name for name in listed if (ROOT / name).is_file() and not name.startswith("tests/")):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_bytes((ROOT / name).read_bytes())
    run(with_pip(), "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", tmp_path, source)
    (wheel,) = tmp_path.glob("*.whl")

    venv.create(tmp_path / "venv", with_pip=False)
    library = Path(sysconfig.get_path("purelib", vars={"base": str(tmp_path / "venv")}))
    zipfile.ZipFile(wheel).extractall(library)
    borrowed = [path for path in sys.path if path.endswith("site-packages")]
    (library / "borrowed.pth").write_text("\n".join(borrowed))
    normlab = [tmp_path / "venv" / "bin" / "python", "-m", "normlab"]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}

    where = run(normlab[0], "-c", "import normlab; print(normlab.__file__)", cwd=empty, env=environment)
    assert where.startswith(str(library))
    assert "Commands" in run(*normlab, "--help", cwd=empty, env=environment)
    assert "normlab.norms.layer.LayerNorm" in run(*normlab, "--cfg", "job", cwd=empty, env=environment)
    tiny = ("model=lstm", "model.width=8", "trainer.steps=4", "trainer.threads=1", "logger=none")
    assert "word_stress" in run(*normlab, *tiny, cwd=empty, env=environment)
    assert "lstm-layer-word_stress-0-" in run(*normlab, "table", cwd=empty, env=environment)
    assert "model" in run(*normlab, "advise", "model=lstm", cwd=empty, env=environment)
    assert {path.name for path in empty.iterdir()} == {"outputs", ".cache"}
