"""The hub: unreachable is said within seconds; what was downloaded before needs no network."""

from __future__ import annotations

import json
import shutil
import socket
import time
from pathlib import Path
from typing import Any

import datasets
import huggingface_hub.constants
import pytest
from data_files import parquet, task

from normlab.config.schema import Hub, InputError, TaskConfig
from normlab.data import hub
from normlab.data.load import load


def own(**options: Any) -> TaskConfig:
    splits: Any = {"train": "train", "test": "test"}
    where = Hub(name="someone/something", splits=splits)
    return task(**{"source": "hub", "hub": where, "name": "theirs", **options})


@pytest.mark.parametrize(
    ("options", "instead"),
    [
        ({"view": "images"}, "fashion_mnist"),
        ({"view": "rows"}, "fashion_rows"),
        ({"view": "permuted_pixels"}, "fashion_rows"),
        ({"view": "words"}, "author"),
        ({"goal": "language_modelling", "max_length": 9, "target": None}, "union"),
    ],
)
def test_an_unreachable_hub_names_what_to_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict, instead: str
) -> None:
    monkeypatch.setattr(datasets.config, "HF_ENDPOINT", "http://127.0.0.1:9")  # discard: nothing listens there
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "hf")
    started = time.monotonic()
    with pytest.raises(InputError, match=rf"task=theirs: the hub .* can't be reached.*task={instead}$"):
        load(own(**options), tmp_path / "cache")
    assert time.monotonic() - started < 5
    assert not datasets.config.HF_HUB_OFFLINE
    assert not huggingface_hub.constants.HF_HUB_OFFLINE


def test_names_that_take_forever_to_look_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def slow(*_: Any, **__: Any) -> None:
        time.sleep(2)
        raise socket.gaierror

    monkeypatch.setattr(socket, "getaddrinfo", slow)
    monkeypatch.setattr(hub, "PATIENCE", 0.3)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "hf")
    started = time.monotonic()
    with pytest.raises(InputError, match="can't be reached"):
        load(own(view="images"), tmp_path / "cache")
    assert time.monotonic() - started < 1.5


def test_what_datasets_has_downloaded_is_read_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = parquet(tmp_path / "in.parquet", text=["ab", "b"] * 5, label=[0, 1] * 5)
    datasets.load_dataset("parquet", data_files={"train": str(file), "test": str(file)}, cache_dir=tmp_path / "made")
    (made,) = (tmp_path / "made" / "parquet").glob("*/*/*/")
    kept = tmp_path / "hf" / "someone___something" / "default" / "0.0.0" / "commit"
    shutil.copytree(made, kept)
    for arrow in list(kept.glob("*.arrow")):
        arrow.rename(kept / arrow.name.replace("parquet-", "something-"))
    info = json.loads((kept / "dataset_info.json").read_text())
    (kept / "dataset_info.json").write_text(json.dumps({**info, "dataset_name": "something", "config_name": "default"}))
    monkeypatch.setattr(datasets.config, "HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "hf")
    assert load(own(), tmp_path / "cache").source.startswith("hub someone/something")


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A hub that answers, and what it was asked for."""
    asked: dict[str, Any] = {}

    def load_dataset(*given: Any, **options: Any) -> datasets.DatasetDict:
        asked["given"], asked["options"] = given, options
        asked["offline"] = datasets.config.HF_HUB_OFFLINE
        rows = datasets.Dataset.from_dict({"text": ["ab", "b"] * 5, "label": [0, 1] * 5})
        return datasets.DatasetDict(train=rows, test=rows)

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    monkeypatch.setattr(hub, "_reachable", lambda _: True)
    return asked


def test_name_config_revision_and_folder_are_passed_on(tmp_path: Path, loaded: dict[str, Any]) -> None:
    where = Hub(name="a/b", config="c", revision="d", folder="e", splits={"train": "train", "test": "test"})
    data = load(own(hub=where), tmp_path)
    assert loaded["given"] == ("a/b", "c")
    assert loaded["options"] == {"revision": "d", "data_dir": "e"}
    assert not loaded["offline"]
    assert data.source.startswith("hub a/b (config c, revision d, fingerprints ")
    assert {name: len(split) for name, split in data.splits.items()} == {"train": 9, "validation": 1, "test": 10}


def test_downloaded_data_need_no_network(
    tmp_path: Path, loaded: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub, "_reachable", lambda _: False)
    assert load(own(), tmp_path).sizes.outputs == 2
    assert loaded["offline"]


def test_a_split_that_the_hub_lacks(tmp_path: Path, loaded: dict[str, Any]) -> None:
    where = Hub(name="a/b", splits={"train": "training"})
    with pytest.raises(InputError, match="a/b has no split 'training'; it has: train, test"):
        load(own(hub=where), tmp_path)


def test_an_error_of_a_hub_that_answers(
    tmp_path: Path, loaded: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise FileNotFoundError("no such data set\nand many more lines")

    monkeypatch.setattr(datasets, "load_dataset", fail)
    with pytest.raises(InputError, match=r"can't be loaded from the hub: no such data set$"):
        load(own(), tmp_path)


def test_rows_of_the_hub_are_named_by_their_split(
    tmp_path: Path, loaded: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InputError, match=r"theirs \(train\) has no column 'words'; it has: text, label"):
        load(own(input="words"), tmp_path)
