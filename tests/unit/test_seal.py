"""A checkpoint says by itself whether it is damaged, wherever it lies."""

import io
import zipfile
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import normlab
from normlab.config.schema import InputError
from normlab.folder.seal import is_whole, seal, state_of
from normlab.models.checkpoint import read_checkpoint


def checkpoint(**more) -> bytes:
    content = io.BytesIO()
    torch.save({"normlab": {}, "w": torch.arange(1000.0), "more": {str(i): torch.ones(i) for i in range(20)}}, content)
    return content.getvalue()


@pytest.fixture(scope="module")
def whole() -> bytes:
    content = io.BytesIO(checkpoint())
    seal(content)
    return content.getvalue()


def flipped(content: bytes, bit: int) -> bytes:
    changed = bytearray(content)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def test_a_sealed_checkpoint_is_still_an_archive_that_torch_reads(whole, tmp_path):
    path = tmp_path / "a.ckpt"
    path.write_bytes(whole)
    assert state_of(whole) == "whole"
    assert is_whole(path)
    for mmap in (False, True):
        assert torch.equal(torch.load(path, weights_only=True, mmap=mmap)["w"], torch.arange(1000.0))
    assert zipfile.ZipFile(path).testzip() is None
    assert torch.equal(read_checkpoint(path)["w"], torch.arange(1000.0))


def test_no_flipped_bit_in_the_directory_passes(whole):
    directory = whole.index(b"PK\1\2")
    assert {state_of(flipped(whole, bit)) for bit in range(8 * directory, 8 * len(whole), 3)} == {"damaged"}


@settings(deadline=None)
@given(data=st.data())
def test_no_flipped_bit_and_no_lost_end_passes(whole, data):
    assert state_of(flipped(whole, data.draw(st.integers(0, 8 * len(whole) - 1)))) == "damaged"
    assert state_of(whole[: data.draw(st.integers(2, len(whole) - 1))]) == "damaged"


@pytest.mark.parametrize("damage", [partial(flipped, bit=-20000), lambda content: content[:-30], lambda content: b""])
@pytest.mark.parametrize("read", [read_checkpoint, normlab.load_checkpoint])
def test_a_damaged_checkpoint_is_refused_in_one_line(whole, tmp_path, damage, read):
    path = tmp_path / "copied.ckpt"
    path.write_bytes(damage(whole))
    with pytest.raises(InputError, match=r"copied\.ckpt.*damaged") as refused:
        read(path)
    assert "\n" not in str(refused.value)


def test_a_checkpoint_of_another_program_is_read(tmp_path):
    path = tmp_path / "a.ckpt"
    path.write_bytes(checkpoint())
    assert state_of(checkpoint()) == "unsealed"
    assert torch.equal(read_checkpoint(path)["w"], torch.arange(1000.0))
    assert not is_whole(path)


@pytest.mark.parametrize("make", ["mkdir", "nothing"])
def test_what_is_no_file_is_refused(tmp_path, make):
    path = tmp_path / "a.ckpt"
    if make == "mkdir":
        path.mkdir()
    with pytest.raises(InputError, match=r"no such checkpoint|can't be read"):
        read_checkpoint(path)
