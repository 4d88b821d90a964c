"""Compiles this package's C++ once and loads it: python -m normlab.kernels.build. Imports no torch by itself.

The library is stored in the user's cache folder under a hash of its source, flags, compiler, CPU and torch version, so
a change of any of them rebuilds it. Its checksum is stored too, and a damaged library is rebuilt. Loading it runs its
code, so it is stored in a folder that only the user can write to. If several processes start at once, one builds it
and the others wait.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shlex
import shutil
import stat
import subprocess
import sys
import tempfile
from contextlib import suppress
from functools import cache
from importlib.metadata import version
from pathlib import Path

from filelock import FileLock

SOURCES = Path(__file__).parent / "cpu"
FLAGS = ("-O3", "-std=c++17", "-fno-math-errno", "-ffp-contract=fast", "-fPIC", "-shared", "-fopenmp")


class BuildError(RuntimeError):
    """The library can't be built; the message says why, in one line."""


def load() -> ctypes.CDLL:
    """The library; if it is not in the cache, it is compiled now, with a line on stderr.

    Raises:
        BuildError: no compiler, a compiler that fails, or a cache folder that can't be written.
    """
    found = _load()
    if isinstance(found, BuildError):
        raise found
    return found


@cache
def _load() -> ctypes.CDLL | BuildError:
    """Try to load it, once per process, even if that fails."""
    import torch  # noqa: F401  its OpenMP runtime must be in the process first, so that both share one set of threads

    try:
        compiler = _compiler()
        path = _path(compiler)
        _make_private(path.parent)
        if not _is_whole(path):
            with FileLock(path.with_suffix(".lock")):
                if not _is_whole(path):
                    _compile(compiler, path)
        return ctypes.CDLL(str(path))
    except BuildError as error:
        return error
    except OSError as error:
        return BuildError(f"{error.filename or SOURCES}: {error.strerror or error}")


def status() -> str:
    """One line for the user: which compiler built the library, or why there is none. Builds it if possible."""
    found = _load()
    if isinstance(found, BuildError):
        return f"fused LSTM: not available, so LSTMs use the plain cell, which is slower: {found}"
    return f"fused LSTM: built by {shlex.join(_compiler())} ({found._name})"


def _compiler() -> list[str]:
    """The command in CXX, or the system's C++ compiler."""
    command = shlex.split(os.environ.get("CXX", "")) or ["c++"]
    if shutil.which(command[0]) is None:
        raise BuildError(f"no C++ compiler {command[0]!r}: install one, or set CXX")
    return command


def _flags() -> list[str]:
    """The flags for all machines, for this machine's instruction set, and from CXXFLAGS, in this order."""
    native = "-mcpu=native" if platform.machine() in ("aarch64", "arm64") else "-march=native"
    return [*FLAGS, native, *shlex.split(os.environ.get("CXXFLAGS", ""))]


def _path(compiler: list[str]) -> Path:
    digest = hashlib.sha256()
    for source in sorted(SOURCES.iterdir()):
        digest.update(source.read_bytes())
    answer = subprocess.run([*compiler, "--version"], capture_output=True, text=True, check=False).stdout
    digest.update("\n".join([*_flags(), answer, _cpu(), version("torch")]).encode())
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return folder / "normlab" / f"kernels-{os.getuid()}" / f"lstm-{digest.hexdigest()[:16]}.so"


def _make_private(folder: Path) -> None:
    """Create a folder that only the user can write to; anything that others may have put there is removed.

    Raises:
        BuildError: it belongs to somebody else.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        raise BuildError(f"{folder} belongs to somebody else, who could change what is loaded from it: remove it")
    if found.st_mode & 0o022:
        folder.chmod(0o700)
        for path in folder.iterdir():
            path.unlink()


def _cpu() -> str:
    """The CPU, on which -march=native depends."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return "\n".join(
        sorted({line for line in lines if line.startswith(("model name", "flags", "Features", "CPU part"))})
    )


def _compile(compiler: list[str], path: Path) -> None:
    print("normlab: compiling the fused LSTM once; this takes a few seconds", file=sys.stderr, flush=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        built = Path(folder) / path.name
        done = subprocess.run(
            [*compiler, *_flags(), str(SOURCES / "lstm.cpp"), "-o", str(built)],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            reason = next((line for line in done.stderr.splitlines() if "error" in line), f"status {done.returncode}")
            raise BuildError(f"{shlex.join(compiler)} failed: {reason.strip()}")
        checksum = built.with_suffix(".sha256")
        checksum.write_text(_sha256(built), encoding="utf-8")
        built.replace(path)  # atomically, so that nobody loads half a file
        checksum.replace(path.with_suffix(".sha256"))


def _is_whole(path: Path) -> bool:
    """Is the library intact? Calling a damaged one would kill the process."""
    try:
        return path.with_suffix(".sha256").read_text(encoding="utf-8") == _sha256(path)
    except (OSError, UnicodeDecodeError):
        return False


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def main() -> None:
    """Build and print the result. It never fails, because the plain cell works without the library."""
    print(status())


if __name__ == "__main__":
    main()
