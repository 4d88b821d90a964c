"""Checks of this machine: Python, torch, memory, network, cluster, compiler. torch is checked in its own process."""

from __future__ import annotations

import importlib.util
import json
import os
import platform
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from normlab.environment.check import Check, Verdict
from normlab.host.cores import usable_cores
from normlab.runs.provenance import PROJECT, git_state, machine


def python() -> Iterator[Check]:
    """Is Python a version that normlab supports?"""
    found = f"{platform.python_version()} at {sys.executable}"
    right = (3, 11) <= sys.version_info[:2] < (3, 14)
    yield Check("ok" if right else "fail", "python", found, "" if right else "make setup PYTHON=python3.12")


def packages() -> Iterator[Check]:
    """Are the installed packages the locked versions?"""
    path = PROJECT / "constraints.txt"
    if not path.exists():
        yield Check("warn", "packages", "there is no constraints.txt next to the package", "run from a checkout")
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
        yield Check("ok", "packages", f"all {len(locked)} match constraints.txt")
        return
    missing = [f"without {', '.join(absent)}"] if absent else []
    yield Check("warn", "packages", "; ".join([*other, *missing]), "make distclean setup; otherwise results may differ")


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


def torch() -> Iterator[Check]:
    """Does torch work, and with which devices?"""
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
            "warn", "gpu", "an NVIDIA driver is installed, but torch sees no GPU", "compare nvidia-smi's CUDA version"
        )
    else:
        yield Check("ok", "gpu", "none: trainer=gpu is refused, trainer=cpu works")
    usable = usable_cores()
    crowded = told["threads"] > usable
    advice = f"set trainer.threads={usable}: more threads than cores make training many times slower" if crowded else ""
    yield Check("warn" if crowded else "ok", "threads", f"{told['threads']} on {usable} usable cores", advice)
    if not told["gloo"]:
        yield Check("warn", "ddp", "this torch has no gloo", "trainer=ddp on the CPU needs a torch build with gloo")


def memory() -> Iterator[Check]:
    """Is there enough memory for a run?"""
    total = machine()["memory_gb"]
    path = Path("/proc/meminfo")
    if not path.exists():
        yield Check("ok", "memory", f"{total} GB")
        return
    available = int(re.findall(r"MemAvailable:\s+(\d+)", path.read_text(encoding="utf-8"))[0]) * 1024 / 1e9
    verdict: Verdict = "fail" if available < 1 else "warn" if available < 2 else "ok"
    advice = "" if verdict == "ok" else "a run takes about 1 GB: run fewer in parallel"
    yield Check(verdict, "memory", f"{available:.1f} GB of {total} GB free", advice)


def shared_memory() -> Iterator[Check]:
    """Is there enough shared memory for GPU processes?"""
    place = Path("/dev/shm")
    if not place.is_dir():
        yield Check("ok", "/dev/shm", "does not exist; nothing needs it on this system")
        return
    free = shutil.disk_usage(place).free / 1e6
    small = free < 64
    advice = "GPU processes share memory there: in a container, --shm-size=1g" if small else ""
    yield Check("warn" if small else "ok", "/dev/shm", f"{free:,.0f} MB free", advice)


def git() -> Iterator[Check]:
    """Can runs record the commit?"""
    state = git_state()
    if state is None:
        advice = "runs won't record commit and changes" + ("" if shutil.which("git") else ": install git")
        yield Check("warn", "git", "this folder is not a git checkout", advice)
        return
    changed = ", with uncommitted changes (every run records them)" if state["diff"] else ""
    yield Check("ok", "git", f"{state['commit'][:10]}{changed}")


def loopback() -> Iterator[Check]:
    """Can processes on this machine communicate?"""
    try:
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]
            with socket.create_connection(("127.0.0.1", port), timeout=5):
                yield Check("ok", "loopback", "processes on this machine can communicate (trainer=ddp)")
    except OSError as error:
        yield Check("warn", "loopback", f"127.0.0.1 can't be used: {error}", "trainer=ddp will fail here")
        return
    try:
        socket.getaddrinfo(socket.gethostname(), None)
    except OSError:
        advice = "trainer=ddp over several nodes needs it: add it to /etc/hosts"
        yield Check("warn", "host name", f"{socket.gethostname()} has no address", advice)


def slurm() -> Iterator[Check]:
    """Does SLURM answer?"""
    absent = [name for name in ("sbatch", "squeue", "scontrol") if shutil.which(name) is None]
    if len(absent) == 3:
        yield Check("ok", "slurm", "not found: launcher=slurm needs a login node")
    elif absent:
        yield Check("warn", "slurm", f"without {', '.join(absent)}", "launcher=slurm will fail: install slurm-client")
    else:
        asked = subprocess.run(["squeue", "--noheader"], capture_output=True, text=True, timeout=20, check=False)
        if asked.returncode == 0:
            yield Check("ok", "slurm", "answers")
        else:
            yield Check("warn", "slurm", asked.stderr.strip().partition("\n")[0], "launcher=slurm will fail")


def launchers() -> Iterator[Check]:
    """Are the launchers' packages installed?"""
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
    except ModuleNotFoundError:  # a parent package is missing
        return False


def compiler() -> Iterator[Check]:
    """Is there a C++ compiler?"""
    found = shutil.which(os.environ.get("CXX", "c++")) or shutil.which("g++") or shutil.which("clang++")
    if found:
        yield Check("ok", "compiler", found)
    else:
        yield Check(
            "warn",
            "compiler",
            "no C++ compiler",
            "the compiled kernels and trainer.compile=true need one: apt install g++",
        )
