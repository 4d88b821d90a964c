"""The format of packs: whatever is not what was packed is refused, and nothing leads out of the folder."""

import errno
import hashlib
import json
import re
import zipfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from normlab.config.schema import InputError
from normlab.config.shipped import REFERENCE
from normlab.folder import pack as pack_module
from normlab.folder.pack import manifest_of, open_pack, write_pack
from normlab.folder.seal import seal
from normlab.moving.present import KINDS
from normlab.moving.unpacking import unpack


def read_all(path: Path) -> None:
    with open_pack(path) as pack:
        for name in pack.members:
            pack.read(name)


def zipped(path: Path, members: dict[str, bytes], *, sealed: bool = True) -> Path:
    with path.open("w+b") as file:
        with zipfile.ZipFile(file, "w") as archive:
            for name, content in members.items():
                archive.writestr(name, content)
        if sealed:
            seal(file)
    return path


@pytest.mark.parametrize(
    "name",
    ["../evil", "/etc/evil", "runs/../../evil/config.json", "runs/a/evil.py", "a\\..\\b", "s/runs.csv/x", "ä/runs.csv"],
)
def test_names_that_lead_elsewhere_are_refused(tmp_path, name):
    digest = hashlib.sha256(b"x").hexdigest()
    listed = zipped(tmp_path / "listed.zip", {name: b"x", "manifest.json": manifest_of({name: digest})})
    unlisted = zipped(tmp_path / "unlisted.zip", {name: b"x", "manifest.json": manifest_of({})})
    for path in (listed, unlisted):
        with pytest.raises(InputError, match=r"which no pack (holds|does); nothing of it is read"):
            read_all(path)


def test_another_format_and_a_pack_zipped_by_others_are_refused(tmp_path):
    path = zipped(tmp_path / "new.zip", {"manifest.json": json.dumps({"pack": 2, "members": {}}).encode()})
    with pytest.raises(InputError, match="is a pack of format 2, and this version of normlab reads format 1"):
        read_all(path)
    path = zipped(tmp_path / "a.zip", {"manifest.json": manifest_of({})}, sealed=False)
    with pytest.raises(InputError, match="unzip it and import the folder"):
        read_all(path)
    path = zipped(tmp_path / "b.zip", {"a/runs.csv": b"", "manifest.json": manifest_of({})})
    with pytest.raises(InputError, match=r"is damaged: a/runs.csv is not in its manifest"):
        read_all(path)
    with pytest.raises(InputError, match="can't be read: No such file"):
        read_all(tmp_path / "none.zip")


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> Path:
    """A pack of a few bytes, as a file and as a folder."""
    folder = tmp_path_factory.mktemp("small")
    members = {"a-quick/verdicts.json": b'{"verdicts": []}\n', "looks/a-quick.jsonl": b"", "tuning.csv": b"a,b\n1,2\n"}
    write_pack(folder / "pack.zip", members.items())
    write_pack(folder / "pack", members.items(), unpacked=True)
    return folder


@settings(deadline=None)
@given(data=st.data())
def test_any_flipped_bit_is_refused(small, data):
    read_all(small / "pack.zip")
    read_all(small / "pack")
    content = (small / "pack.zip").read_bytes()
    bit = data.draw(st.integers(0, 8 * len(content) - 1))
    flipped = small / "flipped.zip"
    flipped.write_bytes(content[: bit // 8] + bytes([content[bit // 8] ^ 1 << bit % 8]) + content[bit // 8 + 1 :])
    with pytest.raises(InputError):
        read_all(flipped)
    file = data.draw(
        st.sampled_from(sorted(p for p in (small / "pack").rglob("*") if p.is_file() and p.stat().st_size))
    )
    content = file.read_bytes()
    bit = data.draw(st.integers(0, 8 * len(content) - 1))
    try:
        file.write_bytes(content[: bit // 8] + bytes([content[bit // 8] ^ 1 << bit % 8]) + content[bit // 8 + 1 :])
        with pytest.raises(InputError):
            read_all(small / "pack")
    finally:
        file.write_bytes(content)


def test_a_disk_that_is_full_leaves_nothing(tmp_path, monkeypatch):
    def full(file):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(pack_module, "seal", full)
    with pytest.raises(InputError, match=r"a.zip could not be written: No space left on device; nothing is left of it"):
        write_pack(tmp_path / "a.zip", [("a-quick/runs.csv", b"x")])
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(InputError, match="could not be written: No such file or directory"):
        write_pack(tmp_path / "none" / "a.zip", [])


def test_members_that_no_pack_holds_are_not_written(tmp_path):
    for name in ("../a", "runs/a/last.ckpt"):
        with pytest.raises(InputError, match="can't be a member of a pack"):
            write_pack(tmp_path / "a", [(name, b"")], unpacked=True)
    assert list(tmp_path.iterdir()) == []


def test_hidden_files_of_a_system_are_no_members_and_others_are_refused(small):
    hidden, other = small / "pack" / ".DS_Store", small / "pack" / "a-quick" / "runs.csv"
    hidden.write_text("x")
    read_all(small / "pack")
    other.write_text("x")
    with pytest.raises(InputError, match=r"a-quick/runs.csv is not in its manifest"):
        read_all(small / "pack")
    hidden.unlink()
    other.unlink()


def test_the_committed_reference_can_be_imported(tmp_path):
    done = unpack(REFERENCE, tmp_path / "outputs", tmp_path / "cache", frozenset(KINDS))
    assert done.studies == ["full", "quick", "reduced", "reduced_2"]
    assert {*done.looks} >= {"lstm_batch_size-quick", "sorted_batches-quick", "classes_per_batch-full"}
    assert unpack(REFERENCE, tmp_path / "outputs", tmp_path / "cache", frozenset(KINDS)).changes is False


def test_the_committed_reference_is_a_pack():
    with open_pack(REFERENCE) as pack:
        assert pack.studies == ["full", "quick", "reduced", "reduced_2"]
        for name in pack.members:
            pack.read(name)


@pytest.mark.parametrize(
    "path", [REFERENCE, *sorted((REFERENCE.parent / "packs").iterdir())], ids=lambda path: path.name
)
def test_a_committed_pack_names_no_folder_of_the_machine_it_was_made_on(path):
    with open_pack(path) as pack:
        contents = {name: pack.read(name).decode() for name in pack.members}
    absolute = re.compile(r"(?:output=|\"folder\": \"|\"output\": \"|\"cache\": \")[/~][^\"\s]*")
    assert {name: found[0] for name, text in contents.items() if (found := absolute.search(text))} == {}
