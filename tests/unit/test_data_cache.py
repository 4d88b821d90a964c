"""The cache: built once, read fast and without heavy imports, never half-written, rebuilt when damaged."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from data_files import image_splits, images, language, parquet, splits, task

from normlab.config.schema import TaskConfig
from normlab.data import build as building
from normlab.data import material
from normlab.data.load import load
from normlab.data.splits import Examples
from normlab.data.store import prepare


@pytest.fixture
def builds(monkeypatch: pytest.MonkeyPatch) -> list[TaskConfig]:
    """The tasks that were built, rather than read from the cache."""
    built: list[TaskConfig] = []
    build = building.build

    def counted(own: TaskConfig, *given: Any) -> material.Material:
        built.append(own)
        return build(own, *given)

    monkeypatch.setattr(building, "build", counted)
    return built


def test_data_are_built_once(tmp_path: Path, builds: list[TaskConfig]) -> None:
    own = task(splits(tmp_path / "in"))
    first, second = load(own, tmp_path / "cache"), load(own, tmp_path / "cache")
    assert len(builds) == 1
    assert first.fingerprint == second.fingerprint
    assert (first.sizes, first.classes, first.vocabulary) == (second.sizes, second.classes, second.vocabulary)
    assert sorted(path.suffix for path in (tmp_path / "cache").iterdir()) == ["", ".lock"]


def test_training_options_share_an_entry_and_data_options_do_not(tmp_path: Path, builds: list[TaskConfig]) -> None:
    folder = splits(tmp_path / "in")
    load(task(folder), tmp_path / "cache")
    load(task(folder, batch_size=7, epochs=9, bucket=True), tmp_path / "cache")
    assert len(builds) == 1
    load(task(folder, view="words"), tmp_path / "cache")
    assert len(builds) == 2


def test_a_changed_file_is_read_again(tmp_path: Path, builds: list[TaskConfig]) -> None:
    folder = splits(tmp_path / "in")
    first = load(task(folder), tmp_path / "cache").fingerprint
    os.utime(folder / "train.parquet", (1, 1))
    assert load(task(folder), tmp_path / "cache").fingerprint == first  # the same content
    moved = folder.rename(tmp_path / "moved")
    again = load(task(moved), tmp_path / "cache")
    assert (again.fingerprint, again.source) == (first, f"files at {moved}")
    assert len(builds) == 1
    folder = moved
    parquet(folder / "train.parquet", text=["ab", "ca"], label=["x", "y"])
    assert load(task(folder), tmp_path / "cache").fingerprint != first
    assert len(builds) == 2


def test_other_content_of_the_same_size_and_time_is_read(tmp_path: Path, builds: list[TaskConfig]) -> None:
    file = tmp_path / "in.csv"
    seen = []
    for text in ("ab", "ba", "ab"):
        file.write_text("text,label\n" + f"{text},x\n{text},y\n" * 5)
        os.utime(file, (1, 1))
        data = load(task(file), tmp_path / "cache")
        seen.append(data.split("train").gather(torch.tensor([0])).inputs.tolist())
    assert seen[0] == seen[2] != seen[1]
    assert len(builds) == 2


def replace(file: Path, content: bytes) -> None:
    """Writes a new file: the old one is still mapped into memory."""
    file.unlink()
    file.write_bytes(content)


@pytest.mark.parametrize("damage", ["truncated", "flipped", "absent", "meta", "mixed"])
def test_a_damaged_entry_is_rebuilt(tmp_path: Path, builds: list[TaskConfig], damage: str) -> None:
    own = task(splits(tmp_path / "in"))
    good = load(own, tmp_path / "cache")
    (entry,) = (tmp_path / "cache").glob("mine-*/")
    array = entry / "train.inputs.npy"
    if damage == "truncated":
        replace(array, array.read_bytes()[:-3])
    elif damage == "flipped":
        replace(array, array.read_bytes()[:-1] + b"\x09")
    elif damage == "absent":
        array.unlink()
    elif damage == "meta":
        replace(entry / "meta.json", b"{")
    else:
        replace(entry / "train.targets.npy", (entry / "test.targets.npy").read_bytes())
    again = load(own, tmp_path / "cache")
    assert len(builds) == 2
    assert again.fingerprint == good.fingerprint
    assert isinstance(again.splits["train"], Examples)
    assert torch.equal(again.splits["train"].inputs, good.splits["train"].inputs)


def test_a_failed_build_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("numpy.save", fail)
    with pytest.raises(KeyboardInterrupt):
        load(task(splits(tmp_path / "in")), tmp_path / "cache")
    assert [path.suffix for path in (tmp_path / "cache").iterdir()] == [".lock"]


def test_what_a_killed_process_left_is_removed(tmp_path: Path, builds: list[TaskConfig]) -> None:
    own = task(splits(tmp_path / "in"))
    load(own, tmp_path / "cache")
    (entry,) = (tmp_path / "cache").glob("mine-*/")
    entry.rename(f"{entry}.half-written")
    load(own, tmp_path / "cache")
    assert len(builds) == 2
    assert [path.name for path in (tmp_path / "cache").glob("*/")] == [entry.name]


def test_many_at_once_build_once(tmp_path: Path, builds: list[TaskConfig]) -> None:
    own = task(splits(tmp_path / "in"))
    with ThreadPoolExecutor(8) as pool:
        prints = set(pool.map(lambda _: load(own, tmp_path / "cache").fingerprint, range(8)))
    assert len(prints) == len(builds) == 1


def test_threads_parse_headers_one_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise some of a thousand reads fail in Python 3.11 while hypothesis or a profiler runs."""
    own = task(splits(tmp_path / "in"))
    expected = load(own, tmp_path / "cache").fingerprint
    parsing, read = threading.Lock(), np.load

    def alone(*given: Any, **options: Any) -> Any:
        assert parsing.acquire(blocking=False), "two threads parse at once"
        time.sleep(0.01)
        parsing.release()
        return read(*given, **options)

    monkeypatch.setattr(np, "load", alone)
    with ThreadPoolExecutor(8) as pool:
        prints = set(pool.map(lambda _: load(own, tmp_path / "cache").fingerprint, range(8)))
    assert prints == {expected}


@pytest.mark.slow
def test_a_warm_cache_needs_no_reader(tmp_path: Path) -> None:
    """And building or reading it needs no torch: the fingerprint is known before torch is imported."""
    own = [
        task(splits(tmp_path / "in")),
        images(image_splits(tmp_path / "images")),
        language(splits(tmp_path / "in"), view="subwords", vocabulary=50),
    ]
    for each in own:
        prepare(each, tmp_path / "cache")
    code = f"""
import sys
from pathlib import Path
from typing import Any
from normlab.data.store import prepare
from normlab.config.schema import TaskConfig
for fields in {[each.model_dump() for each in own]!r}:
    prepare(TaskConfig(**fields), Path({str(tmp_path / "cache")!r}))
print(sorted({{"torch", "datasets", "pyarrow", "tokenizers", "pandas", "PIL"}} & set(sys.modules)))
import normlab.data.load, normlab.data.loader
print(sorted({{"datasets", "pyarrow", "tokenizers", "pandas"}} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[:2] == ["[]", "[]"]
