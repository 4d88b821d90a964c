"""Compiles this package's C++ once and loads it: python -m normlab.kernels.build. Imports no torch by itself.

There are two libraries: `lstm`, and `norms`, whose operations are PyTorch's and need its headers. A library is stored
in the user's cache folder under a hash of the sources, flags, compiler, CPU and torch version, so a change of any of
them rebuilds it. Its checksum is stored too, and a damaged library is rebuilt. Loading it runs its code, so it is
stored in a folder that only the user can write to. If several processes start at once, one builds it and the others
wait.
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
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from filelock import FileLock

SOURCES = Path(__file__).parent / "cpu"
FLAGS = ("-O3", "-std=c++17", "-fno-math-errno", "-ffp-contract=fast", "-fPIC", "-shared", "-fopenmp")

Library = Literal["lstm", "norms"]
# what it is called, and what is used without it
NAMES: dict[Library, tuple[str, str]] = {
    "lstm": ("fused LSTM", "LSTMs use the plain cell, which is slower"),
    "norms": ("norm kernels", "norms use plain tensor code, which is slower"),
}


class BuildError(RuntimeError):
    """The library can't be built; the message says why, in one line."""


def load(library: Library = "lstm") -> ctypes.CDLL:
    """A library; if it is not in the cache, it is compiled now, with a line on stderr.

    Raises:
        BuildError: no compiler, a compiler that fails, or a cache folder that can't be written.
    """
    found = _load(library)
    if isinstance(found, BuildError):
        raise found
    return found


@cache
def load_or_say(library: Library) -> bool:
    """Is it there? If not, a line on stderr says once why, and what is used instead."""
    try:
        load(library)
    except BuildError as error:
        print(f"normlab: {NAMES[library][1]}: {error}", file=sys.stderr)
        return False
    return True


@cache
def _load(library: Library) -> ctypes.CDLL | BuildError:
    """Try to load it, once per process, even if that fails."""
    import torch  # noqa: F401  its OpenMP runtime must be in the process first, so that both share one set of threads

    try:
        compiler = _compiler()
        path = _path(compiler, library)
        _make_private(path.parent)
        if not _is_whole(path):
            with FileLock(path.with_suffix(".lock")):
                if not _is_whole(path):
                    _compile(compiler, path, library)
        return ctypes.CDLL(str(path))
    except BuildError as error:
        return error
    except OSError as error:
        return BuildError(f"{error.filename or SOURCES}: {error.strerror or error}")


def status(library: Library = "lstm") -> str:
    """One line for the user: which compiler built a library, or why there is none. Builds it if possible."""
    found, (name, instead) = _load(library), NAMES[library]
    if isinstance(found, BuildError):
        return f"{name}: not available, so {instead}: {found}"
    return f"{name}: built by {shlex.join(_compiler())} ({found._name})"


def _compiler() -> list[str]:
    """The command in CXX, or the system's C++ compiler."""
    command = _words("CXX") or ["c++"]
    if shutil.which(command[0]) is None:
        raise BuildError(f"no C++ compiler {command[0]!r}: install one, or set CXX")
    return command


def _flags() -> list[str]:
    """The flags for all machines, for this machine's instruction set, and from CXXFLAGS, in this order."""
    native = "-mcpu=native" if platform.machine() in ("aarch64", "arm64") else "-march=native"
    return [*FLAGS, native, *_words("CXXFLAGS")]


def _words(variable: str) -> list[str]:
    """The words of an environment variable, as a shell reads them."""
    text = os.environ.get(variable, "")
    try:
        return shlex.split(text)
    except ValueError as error:
        raise BuildError(f"{variable}={text} can't be read: {str(error).lower()}") from None


def _torch_flags(library: Library) -> list[str]:
    """Where PyTorch's headers and libraries are, for code that uses them."""
    if library == "lstm":
        return []
    found = find_spec("torch")
    if found is None or not found.submodule_search_locations:
        raise BuildError("PyTorch's headers are missing")
    folder = Path(found.submodule_search_locations[0])
    return ["-isystem", str(folder / "include"), f"-L{folder / 'lib'}", "-ltorch_cpu", "-lc10"]


def _path(compiler: list[str], library: Library = "lstm") -> Path:
    digest = hashlib.sha256()
    for source in sorted(SOURCES.iterdir()):
        digest.update(source.read_bytes())
    answer = subprocess.run([*compiler, "--version"], capture_output=True, text=True, check=False).stdout
    digest.update("\n".join([*_flags(), answer, _cpu(), version("torch")]).encode())
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return folder / "normlab" / f"kernels-{os.getuid()}" / f"{library}-{digest.hexdigest()[:16]}.so"


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


def _compile(compiler: list[str], path: Path, library: Library) -> None:
    takes = "a few seconds" if library == "lstm" else "half a minute"
    print(f"normlab: compiling the {NAMES[library][0]} once; this takes {takes}", file=sys.stderr, flush=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        built = Path(folder) / path.name
        done = subprocess.run(
            [*compiler, *_flags(), str(SOURCES / f"{library}.cpp"), "-o", str(built), *_torch_flags(library)],
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
    """Build and print the results. It never fails, because plain tensor code works without the libraries."""
    for library in NAMES:
        print(status(library))


if __name__ == "__main__":
    main()
