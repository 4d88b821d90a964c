"""The fused LSTM compiled for ARM, in an emulator, against its plain twin on this machine."""

import ctypes
import shutil
import subprocess

import pytest
import torch
from test_kernels import NORMS, assert_equal, padding, results, twins

from normlab.kernels import native
from normlab.kernels.arguments import ARGUMENTS
from normlab.kernels.build import FLAGS, SOURCES

COMPILER, EMULATOR = "aarch64-linux-gnu-g++", "qemu-aarch64-static"
MISSING = [tool for tool in (COMPILER, EMULATOR) if shutil.which(tool) is None]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(MISSING), reason=f"g++-aarch64-linux-gnu, qemu-user-static: {MISSING} not installed"),
]
SIZES = ("lanes", "saved_size", "statistics_size")


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    """`remote_lstm.cpp` for ARM."""
    path = tmp_path_factory.mktemp("arm") / "remote_lstm"
    flags = [flag for flag in FLAGS if flag not in ("-fPIC", "-shared")]
    source = f"{__file__.removesuffix('test_kernels_arm.py')}remote_lstm.cpp"
    subprocess.run([COMPILER, *flags, "-Wall", "-static", f"-I{SOURCES}", source, "-o", path], check=True)
    return path


@pytest.fixture
def on_arm(program, monkeypatch, tmp_path):
    """The emulator does what the compiled library would; returns the number of its calls."""
    file, calls = tmp_path / "tensors", []

    def run(what, dtype):
        calls.append(what)
        bits = str(dtype).removeprefix("torch.float")
        done = subprocess.run([EMULATOR, program, bits, what, file], capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def exchange(what, problem, dtype, *groups):
        with file.open("wb") as out:
            out.write(bytes(problem))
            for names, tensors in groups:
                for name in names:
                    content = raw(tensors.get(name))
                    out.write(bytes(ctypes.c_int64(len(content))) + bytes(content))
        run(what, dtype)
        names, tensors = groups[-1]
        back = memoryview(file.read_bytes())
        for name in names:
            content = raw(tensors.get(name))
            content[:], back = back[: len(content)], back[len(content) :]
        assert not back

    def size(name, dtype, problem=None):
        file.write_bytes(bytes(problem._obj if problem is not None else native.LoopOptions()))
        return int(run("sizes", dtype).split()[SIZES.index(name)])

    def forward(problem, tensors, dtype):
        exchange("forward", problem, dtype, ((*ARGUMENTS, *native.BUFFERS), tensors))

    def backward(problem, tensors, gradients, dtype):
        inputs = ((*ARGUMENTS, *native.BUFFERS), tensors)
        exchange("backward", problem, dtype, inputs, (("dy", "dc_last", *ARGUMENTS), gradients))

    monkeypatch.setattr(native, "forward", forward)
    monkeypatch.setattr(native, "backward", backward)
    monkeypatch.setattr(native, "_size", size)
    return calls


def raw(tensor):
    """The memory of a tensor, to be read and written."""
    if tensor is None:
        return memoryview(bytearray())
    return memoryview(tensor.detach().view(-1).view(torch.uint8).numpy()).cast("B")


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("gates", ["joint", "separate"])
@pytest.mark.parametrize("norm", NORMS)
def test_equals_the_plain_twin(norm, gates, masked, on_arm, monkeypatch):
    torch.manual_seed(0)
    for examples, steps, features, width in ((5, 4, 3, 7), (30, 3, 40, 18)):
        plain, fused = twins(norm, features, width, steps, gates=gates)
        x = torch.randn(examples, steps, features, dtype=torch.float64)
        mask = padding(examples, steps) if masked else None
        assert_equal(results(fused, x, mask), results(plain, x, mask), 1e-9)
    assert on_arm.count("forward") == on_arm.count("backward") == 2


@pytest.mark.parametrize("norm", ["none", "layer", "rms", "batch"])
def test_float32_and_several_threads(norm, on_arm, monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    torch.manual_seed(0)
    plain, fused = twins(norm, 6, 21, 5, torch.float32)
    x = torch.randn(33, 5, 6)
    assert_equal(results(fused, x, None), results(plain, x, None), 2e-5)
    assert on_arm.count("backward") == 1
