"""What on this machine will fail, and why: one `Check` a question. Imports no torch: a process of its own asks it."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import platform
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

from filelock import FileLock, Timeout

from normlab.config.cores import usable_cores
from normlab.data.source import PACKS
from normlab.folder.jsonfile import read_json
from normlab.runs.provenance import PROJECT, git_state, machine
from normlab.runs.records import read_records, set_aside

Verdict = Literal["ok", "warn", "fail"]


@dataclass(frozen=True)
class Check:
    """An answer.

    verdict  ok; warn: something that not everybody needs will not work; fail: runs will fail
    found    what is there
    advice   what to do about it
    """

    verdict: Verdict
    topic: str
    found: str
    advice: str = ""


def examine(output: Path, cache: Path) -> Iterator[Check]:
    """Every check; one that breaks down is itself a failure, never a traceback."""
    for check in (_python, _lock, _torch, _memory, _shared_memory, _git, _packs, _hub, _wandb, _loopback, _slurm):
        yield from _asked(check)
    yield from _asked(_launchers)
    yield from _asked(_compiler)
    for name, folder in (("output", output), ("cache", cache)):
        yield from _asked(partial(_folder, name, folder), name)
    yield from _asked(partial(_runs, output), "runs")


def _asked(check: Callable[[], Iterator[Check]], topic: str = "") -> Iterator[Check]:
    try:
        yield from check()
    except Exception as error:  # whatever is wrong with this machine
        yield Check("fail", topic or check.__name__.strip("_"), f"{type(error).__name__}: {error}", "see the cause")


def _python() -> Iterator[Check]:
    found = f"{platform.python_version()} at {sys.executable}"
    right = (3, 11) <= sys.version_info[:2] < (3, 14)
    yield Check("ok" if right else "fail", "python", found, "" if right else "make setup PYTHON=python3.12")


def _lock() -> Iterator[Check]:
    path = PROJECT / "constraints.txt"
    if not path.exists():
        yield Check("warn", "packages", "no constraints.txt beside the package", "run from a checkout")
        return
    locked = dict(re.findall(r"^([\w.-]+)==(\S+)", path.read_text(encoding="utf-8"), re.MULTILINE))
    other, absent = [], []
    for name, wanted in locked.items():
        try:
            there = version(name).partition("+")[0]  # the lock leaves torch's build open
        except PackageNotFoundError:
            absent.append(name)
            continue
        if there != wanted:
            other.append(f"{name} {there} instead of {wanted}")
    if not other and not absent:
        yield Check("ok", "packages", f"all {len(locked)} as in constraints.txt")
        return
    missing = [f"without {', '.join(absent)}"] if absent else []
    yield Check("warn", "packages", "; ".join([*other, *missing]), "make distclean setup, or expect other numbers")


_ASK_TORCH = """
import json, torch, pytorch_lightning
from torch import distributed
print(json.dumps({
    "version": torch.__version__, "cuda": torch.version.cuda, "threads": torch.get_num_threads(),
    "gpus": [torch.cuda.get_device_name(n) for n in range(torch.cuda.device_count())],
    "simd": torch.backends.cpu.get_cpu_capability(),
    "gloo": distributed.is_available() and distributed.is_gloo_available(),
    "sum": float(torch.ones(64, 64).mm(torch.ones(64, 64)).sum()),
}))
"""


def _torch() -> Iterator[Check]:
    done = subprocess.run([sys.executable, "-c", _ASK_TORCH], capture_output=True, text=True, timeout=120, check=False)
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or [f"ended with status {done.returncode}"])[-1]
        yield Check("fail", "torch", f"can't be imported: {last}", "make distclean setup")
        return
    told = json.loads(done.stdout.splitlines()[-1])
    right = told["sum"] == 64.0**3
    build = f"CUDA {told['cuda']}" if told["cuda"] else "CPU build"
    advice = "" if right else "a matrix product is wrong: install another build of torch"
    yield Check("ok" if right else "fail", "torch", f"{told['version']}, {build}, {told['simd']}", advice)
    if told["gpus"]:
        yield Check("ok", "gpu", ", ".join(told["gpus"]))
        there = _is_importable("triton")
        advice = "" if there else "model.kernel=fused is refused on the GPU: pip install triton"
        yield Check("ok" if there else "warn", "triton", "there" if there else "missing", advice)
    elif told["cuda"] and shutil.which("nvidia-smi"):
        yield Check(
            "warn", "gpu", "torch sees none, though there is an NVIDIA driver", "compare nvidia-smi's CUDA version"
        )
    else:
        yield Check("ok", "gpu", "none: trainer=gpu is refused, trainer=cpu works")
    usable = usable_cores()
    crowded = told["threads"] > usable
    advice = f"set trainer.threads={usable}: more threads than cores are many times slower" if crowded else ""
    yield Check("warn" if crowded else "ok", "threads", f"{told['threads']} on {usable} usable cores", advice)
    if not told["gloo"]:
        yield Check("warn", "ddp", "this torch has no gloo", "trainer=ddp on the CPU needs a build with gloo")


def _memory() -> Iterator[Check]:
    total = machine()["memory_gb"]
    path = Path("/proc/meminfo")
    if not path.exists():
        yield Check("ok", "memory", f"{total} GB")
        return
    available = int(re.findall(r"MemAvailable:\s+(\d+)", path.read_text(encoding="utf-8"))[0]) * 1024 / 1e9
    verdict: Verdict = "fail" if available < 1 else "warn" if available < 2 else "ok"
    advice = "" if verdict == "ok" else "a run takes about 1 GB: run fewer side by side"
    yield Check(verdict, "memory", f"{available:.1f} GB of {total} GB free", advice)


def _shared_memory() -> Iterator[Check]:
    place = Path("/dev/shm")
    if not place.is_dir():
        yield Check("ok", "/dev/shm", "not there; nothing needs it on this system")
        return
    free = shutil.disk_usage(place).free / 1e6
    small = free < 64
    advice = "GPU processes share memory there: in a container, --shm-size=1g" if small else ""
    yield Check("warn" if small else "ok", "/dev/shm", f"{free:,.0f} MB free", advice)


def _git() -> Iterator[Check]:
    state = git_state()
    if state is None:
        advice = "runs won't record commit and changes" + ("" if shutil.which("git") else ": install git")
        yield Check("warn", "git", "no commit to be read here", advice)
        return
    changed = ", with uncommitted changes (every run records them)" if state["diff"] else ""
    yield Check("ok", "git", f"{state['commit'][:10]}{changed}")


def _packs() -> Iterator[Check]:
    sums = read_json(PACKS / "checksums.json").get("sha256", {})
    wrong = [name for name, digest in sums.items() if _digest(PACKS / name) != digest]
    if wrong or not sums:
        yield Check(
            "fail", "data packs", f"damaged: {', '.join(wrong) or 'checksums.json'}", "git checkout src/normlab/data"
        )
    else:
        yield Check("ok", "data packs", f"{len(sums)} files are what they should be")


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.exists() else ""


def _hub() -> Iterator[Check]:
    flags = [name for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE") if os.environ.get(name, "") not in ("", "0")]
    home = Path(os.environ.get("HF_HOME", "~/.cache/huggingface")).expanduser()
    place = Path(os.environ.get("HF_DATASETS_CACHE", home / "datasets"))
    known = sorted(path.name for path in place.glob("*/")) if place.is_dir() else []
    names = [name.replace("___", "/") for name in known if not name.startswith(("_", "downloads"))]
    there = f"downloaded before: {', '.join(names)}" if names else "nothing downloaded before"
    if flags:
        advice = "" if names else f"tasks of the hub will fail: unset {flags[0]}, or use embedded tasks"
        yield Check("ok" if names else "warn", "hugging face", f"offline by {', '.join(flags)}; {there}", advice)
    else:
        yield Check("ok", "hugging face", f"online where there is network; {there}")


def _wandb() -> Iterator[Check]:
    mode = os.environ.get("WANDB_MODE")
    if mode == "online" and not os.environ.get("WANDB_API_KEY") and not _netrc().exists():
        yield Check("warn", "wandb", "WANDB_MODE=online without an API key", "wandb login; until then runs log offline")
    elif mode in ("offline", "disabled", "dryrun"):
        yield Check("ok", "wandb", f"offline by WANDB_MODE={mode}")
    elif os.environ.get("WANDB_API_KEY") or (_netrc().exists() and "wandb" in _netrc().read_text(encoding="utf-8")):
        yield Check("ok", "wandb", "an API key is configured: runs log online")
    else:
        yield Check("ok", "wandb", "no API key: runs log offline, `make sync` uploads them")


def _netrc() -> Path:
    return Path(os.environ.get("NETRC", "~/.netrc")).expanduser()


def _loopback() -> Iterator[Check]:
    try:
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]
            with socket.create_connection(("127.0.0.1", port), timeout=5):
                yield Check("ok", "loopback", "processes of one machine can talk (trainer=ddp)")
    except OSError as error:
        yield Check("warn", "loopback", f"127.0.0.1 can't be used: {error}", "trainer=ddp will fail here")
        return
    try:
        socket.getaddrinfo(socket.gethostname(), None)
    except OSError:
        advice = "trainer=ddp over several nodes needs it: add it to /etc/hosts"
        yield Check("warn", "host name", f"{socket.gethostname()} has no address", advice)


def _slurm() -> Iterator[Check]:
    absent = [name for name in ("sbatch", "squeue", "scontrol") if shutil.which(name) is None]
    if len(absent) == 3:
        yield Check("ok", "slurm", "not here: launcher=slurm needs a login node")
    elif absent:
        yield Check("warn", "slurm", f"without {', '.join(absent)}", "launcher=slurm will fail: install slurm-client")
    else:
        asked = subprocess.run(["squeue", "--noheader"], capture_output=True, text=True, timeout=20, check=False)
        if asked.returncode == 0:
            yield Check("ok", "slurm", "answers")
        else:
            yield Check("warn", "slurm", asked.stderr.strip().partition("\n")[0], "launcher=slurm will fail")


def _launchers() -> Iterator[Check]:
    for name, module in (
        ("joblib", "hydra_plugins.hydra_joblib_launcher"),
        ("submitit", "hydra_plugins.hydra_submitit_launcher"),
    ):
        there = all(_is_importable(part) for part in (name, module))
        advice = "" if there else f"pip install hydra-{name}-launcher"
        yield Check("ok" if there else "warn", f"launcher {name}", "there" if there else "missing", advice)


def _is_importable(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # a package above it
        return False


def _compiler() -> Iterator[Check]:
    found = shutil.which(os.environ.get("CXX", "c++")) or shutil.which("g++") or shutil.which("clang++")
    if found:
        yield Check("ok", "compiler", found)
    else:
        yield Check(
            "warn", "compiler", "no C++ compiler", "the fused LSTM and trainer.compile=true need one: apt install g++"
        )


def _folder(name: str, folder: Path) -> Iterator[Check]:
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        yield Check("fail", name, f"{existing} can't be written", f"choose another: {name}=FOLDER")
        return
    try:
        with tempfile.TemporaryDirectory(prefix=".doctor-", dir=existing) as scratch:
            seconds = _try_out(Path(scratch))
    except (OSError, Timeout, NotImplementedError) as error:
        yield Check("fail", name, f"{existing}: {error}", f"a file system with locks and atomic renames: {name}=FOLDER")
        return
    free = shutil.disk_usage(existing).free / 1e9
    verdict: Verdict = "fail" if free < 0.2 else "warn" if free < 2 else "ok"
    advice = "" if verdict == "ok" else "make clean, or another folder: a run takes 1 to 100 MB"
    yield Check(verdict, name, f"{folder}: {free:,.1f} GB free, can be written and locked", advice)
    slow = seconds > 0.05
    advice = "every run writes a few: put it on a local disk" if slow else ""
    yield Check("warn" if slow else "ok", f"{name} fsync", f"{1000 * seconds:.1f} ms", advice)


def _try_out(scratch: Path) -> float:
    """Lock, write, replace, as runs do; the median seconds of an fsync."""
    with FileLock(scratch / "lock", timeout=0), FileLock(scratch / "other", timeout=0):
        times = []
        for _ in range(5):
            with (scratch / "part").open("wb") as file:
                file.write(b"x" * 4096)
                file.flush()
                started = time.perf_counter()
                os.fsync(file.fileno())
                times.append(time.perf_counter() - started)
            (scratch / "part").replace(scratch / "whole")
    return sorted(times)[2]


def _runs(output: Path) -> Iterator[Check]:
    states: Counter[str] = Counter()
    damaged, elsewhere = [], []
    for record in read_records(output):
        states[record.state] += 1
        if record.state == "damaged":
            damaged.append(record.folder.name)
        elif record.state == "running" and f" on {socket.gethostname()}" not in record.found.why:
            elsewhere.append(f"{record.folder.name} ({record.found.why})")
    counts = ", ".join(f"{count} {state}" for state, count in states.most_common()) or "none yet"
    yield Check("ok", "runs", counts)
    if states["killed"]:
        advice = "their process is dead: the same command goes on with them"
        yield Check("warn", "killed runs", str(states["killed"]), advice)
    if damaged:
        shown = ", ".join(damaged[:5]) + (", …" if len(damaged) > 5 else "")
        yield Check("warn", "damaged runs", f"{len(damaged)}: {shown}", "the same command does them again; make clean")
    if elsewhere:
        advice = "if that machine is gone, remove the file `owner` in the run's folder"
        yield Check("warn", "runs elsewhere", f"{len(elsewhere)}: {elsewhere[0]}", advice)
    aside = set_aside(output)
    if aside:
        yield Check("ok", "set aside", f"{len(aside)} earlier attempts or damaged folders")
