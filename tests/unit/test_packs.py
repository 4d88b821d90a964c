"""The embedded packs are the files that their checksums name, and their splits share nothing."""

from __future__ import annotations

import hashlib
import importlib
import io
import json
import pickle
import re
import sys
from collections import Counter
from itertools import combinations
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

ROOT = Path(__file__).parents[2]
PACKS = ROOT / "src" / "normlab" / "data" / "packs"
SPLITS = ("train", "validation", "test")
ROWS = {
    "fashion_mnist": (16_000, 4_000, 10_000),
    "word_stress": (86_570, 10_781, 10_975),
    "union": (211, 11, 11),
    "author": (12_008, 1_663, 1_546),
    "mnist1d": (3_200, 800, 1_000),
    "wrist_motion": (1_398, 526, 524),
    "emoji": (1_026, 351, 259),
}


@pytest.fixture
def script(monkeypatch):
    """Imports a module of scripts/packs/."""

    def load(name: str) -> ModuleType:
        monkeypatch.syspath_prepend(str(ROOT / "scripts" / "packs"))
        monkeypatch.delitem(sys.modules, name, raising=False)
        return importlib.import_module(name)

    return load


def pack(name: str) -> dict[str, dict[str, list[Any]]]:
    """Split → column → values."""
    return {s: pq.read_table(sorted(PACKS.glob(f"{name}-{s}*.parquet"))).to_pydict() for s in SPLITS}


def table(file: str) -> dict[str, list[Any]]:
    """Column → values."""
    return pq.read_table(PACKS / f"{file}.parquet").to_pydict()


def assert_disjoint(groups: list[set[Any]]) -> None:
    for one, other in combinations(groups, 2):
        assert not one & other


def test_files_match_their_checksums() -> None:
    recorded = json.loads((PACKS / "checksums.json").read_text())["sha256"]
    found = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in PACKS.glob("*.parquet")}
    assert found == recorded
    told = (ROOT / "DATA.md").read_text()
    assert all(f"{checksum}  {file}" in told for file, checksum in recorded.items())


def test_files_are_small() -> None:
    sizes = [path.stat().st_size for path in PACKS.iterdir()]
    assert max(sizes) < 8_000_000
    assert sum(sizes) < 24_500_000


@pytest.mark.parametrize("name", ROWS)
def test_counts_are_those_of_the_documentation(name: str) -> None:
    counts = tuple(pq.read_metadata(PACKS / f"{name}-{split}.parquet").num_rows for split in SPLITS)
    assert counts == ROWS[name]
    told = (ROOT / "DATA.md").read_text()
    assert all(f"{count:,}" in told for count in counts)


def test_every_pack_has_its_licence() -> None:
    packs = {path.name.partition("-")[0] for path in PACKS.glob("*.parquet")}
    told = (PACKS / "LICENSES.txt").read_text()
    assert packs == {*ROWS, "emoji_twitter"}
    assert [name for name in packs if f"\n{name}: " not in told] == []


def test_no_pack_has_missing_values() -> None:
    for path in PACKS.glob("*.parquet"):
        assert all(column.null_count == 0 for column in pq.read_table(path).columns), path.name


def test_fashion_mnist_is_images_with_ten_classes() -> None:
    splits = pack("fashion_mnist")
    for data in splits.values():
        assert {len(image) for image in data["image"]} == {28 * 28}
        assert set(data["label"]) == set(range(10))
    assert set(Counter(splits["test"]["label"]).values()) == {1000}
    assert splits["train"]["label"][:5] == [9, 0, 0, 3, 0]  # as the original begins


def test_word_stress_keeps_relatives_together(script) -> None:
    stem = script("pack_contents").stem
    splits = pack("word_stress")
    words = [word for data in splits.values() for word in data["spelling"]]
    counts = Counter(pattern for data in splits.values() for pattern in data["stress"])
    assert len(words) == len(set(words))
    assert {len(word) for word in words} == set(range(1, 18))
    assert len(counts) == 14
    assert min(counts.values()) >= 1000
    assert_disjoint([{stem(word) for word in data["spelling"]} for data in splits.values()])


def test_union_is_every_twentieth_address() -> None:
    splits = pack("union")
    texts = [set(data["text"]) for data in splits.values()]
    assert_disjoint(texts)
    assert sum(map(len, texts)) == 233
    years = splits["validation"]["year"]
    assert (years[0], years[-1]) == (1809, 2008)
    assert all(0 <= test - year <= 1 for test, year in zip(splits["test"]["year"], years, strict=True))
    assert len(set("".join(text for group in texts for text in group))) == 80


def test_mnist1d_is_the_published_data() -> None:
    splits = pack("mnist1d")
    signals = [tuple(signal) for data in splits.values() for signal in data["signal"]]
    assert len(set(signals)) == len(signals)
    assert {len(signal) for signal in signals} == {40}
    assert splits["train"]["digit"][:8] == [2, 6, 4, 5, 6, 6, 6, 0]  # as the published file begins
    counts = Counter(digit for data in splits.values() for digit in data["digit"])
    assert counts == dict.fromkeys(range(10), 500)
    numbers = np.array(signals, np.float64)
    assert (numbers.mean(), numbers.std()) == (pytest.approx(0, abs=1e-7), pytest.approx(1, abs=1e-6))


def windows(file: str) -> list[Any]:
    """The windows of wrist motion, each [T, 6]; as nested lists they would take seconds."""
    column = pq.read_table(PACKS / f"{file}.parquet", columns=["motion"])["motion"].combine_chunks()
    assert set(column.flatten().value_lengths().to_numpy()) == {6}
    numbers = column.flatten().flatten().to_numpy().reshape(-1, 6)
    return np.split(numbers, np.cumsum(column.value_lengths().to_numpy())[:-1])


def test_wrist_motion_has_other_people_in_each_split() -> None:
    names = ["subject", "recording", "exercise", "side", "start"]
    splits = {s: pq.read_table(PACKS / f"wrist_motion-{s}.parquet", columns=names).to_pydict() for s in SPLITS}
    motions = {split: windows(f"wrist_motion-{split}") for split in SPLITS}
    assert_disjoint([set(data["subject"]) for data in splits.values()])
    assert_disjoint([set(data["recording"]) for data in splits.values()])
    assert_disjoint([{motion.tobytes() for motion in found} for found in motions.values()])
    recordings = set()
    for split, data in splits.items():
        recordings |= {*zip(data["subject"], data["exercise"], data["side"], data["recording"], strict=True)}
        assert len(set(data["exercise"])) == 7
        starts = list(zip(data["recording"], data["start"], strict=True))
        assert len(set(starts)) == len(starts)
        for (recording, start), (following, _), motion in zip(starts, starts[1:], motions[split], strict=False):
            assert start % 100 == 0
            assert len(motion) == 100 or (50 <= len(motion) < 100 and recording != following)
    assert len(recordings) == 140
    assert len({each[:3] for each in recordings}) == 10 * 7 * 2  # each person, exercise and side once


def test_emoji_keeps_similar_drawings_together() -> None:
    splits = pack("emoji")
    assert_disjoint([set(data["group"]) for data in splits.values()])
    names = [{re.sub("man|woman|person|men|women", "", name) for name in data["name"]} for data in splits.values()]
    assert_disjoint(names)
    pixels = [np.stack([np.frombuffer(i, np.uint8) for i in data["image"]]).astype(int) for data in splits.values()]
    assert {images.shape[1] for images in pixels} == {3 * 32 * 32}
    for one, other in combinations(pixels, 2):
        nearest = min(((other - image) ** 2).mean(1).min() for image in one[::9])
        assert nearest >= 15**2
    for data in splits.values():
        assert len(set(data["category"])) == 8


def test_emoji_by_twitter_are_the_test_emoji_drawn_otherwise() -> None:
    google, twitter = pack("emoji")["test"], table("emoji_twitter-test")
    for column in ("code", "category", "name", "group"):
        assert google[column] == twitter[column]
    assert all(one != other for one, other in zip(google["image"], twitter["image"], strict=True))


def test_author_keeps_blocks_together(script) -> None:
    block = script("pack_contents").BLOCK
    splits = pack("author")
    texts = [text for data in splits.values() for text in data["text"]]
    assert len(texts) == len(set(texts))
    assert min(len(text.split()) for text in texts) >= 20
    for data in splits.values():
        assert len(set(data["author"])) == 10
    assert_disjoint(
        [{(b, p // block) for b, p in zip(data["book"], data["paragraph"], strict=True)} for data in splits.values()]
    )


@pytest.mark.parametrize(
    "family",
    [
        ("carry", "carries", "carried", "carrying", "carrier", "carriers"),
        ("hope", "hoped", "hoping", "hopes", "hopeful", "hopefully", "hopeless", "hopelessness"),
        ("run", "running", "runner", "runners", "runs"),
        ("quick", "quicker", "quickest", "quickly", "quickness"),
        ("abandon", "abandoned", "abandonment", "abandonments"),
    ],
)
def test_stem_joins_a_family(script, family: tuple[str, ...]) -> None:
    assert len({script("pack_contents").stem(word) for word in family}) == 1


def test_stem_keeps_short_words(script) -> None:
    stem = script("pack_contents").stem
    assert [stem(word) for word in ("a", "as", "bus", "ring", "yes")] == ["a", "as", "bus", "ring", "yes"]


def test_plain_text_has_a_small_alphabet(script) -> None:
    plain = script("pack_contents").plain_text
    assert plain("\u201cIt\u2019s\u201d na\u00efve\u2014at 54\u00b0\n * now") == '"It\'s" naive-at 54 degrees now'


def test_paragraphs_leave_out_title_and_publisher(script) -> None:
    book = "[A Book by N. N. 1900]\r\n\r\nOne\r\n_two_.\r\n \r\nThree.\r\n\r\nEnd of Project Gutenberg's A Book"
    assert list(script("pack_contents").paragraphs(book)) == ["One two.", "Three."]


def test_a_drawing_is_laid_on_white_and_halved(script) -> None:
    pixels = np.zeros((64, 64, 4), np.uint8)
    pixels[:2, :2] = [200, 100, 0, 255]
    pixels[0, 2] = [0, 0, 0, 255]
    pixels[0, 4] = [10, 20, 30, 128]
    png = io.BytesIO()
    Image.fromarray(pixels).save(png, "PNG")
    found = script("pack_pictures").drawing(png.getvalue())
    assert found.shape == (3, 32, 32)
    assert found[:, 0, 0].tolist() == [200, 100, 0]
    assert found[:, 0, 1].tolist() == [191, 191, 191]  # one black pixel of four: 191.25
    assert found[:, 0, 2].tolist() == [224, 226, 227]  # (v * 128 + 255 * 127 + 3 * 255²) / 1020: 224.25, 225.51, 226.76
    assert (found[:, 1:] == 255).all()


def test_windows_are_adjacent_and_their_rest_is_kept_if_long_enough(script) -> None:
    windows = script("pack_signals").windows
    for steps, lengths in ((249, [100, 100]), (250, [100, 100, 50]), (300, [100] * 3), (49, [])):
        found = windows(np.arange(steps))
        assert [len(window) for _, window in found] == lengths
        assert all(window[0] == start for start, window in found)


def npy(value: Any) -> bytes:
    """An .npy file of one object, as Python 2 could read it."""
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": "|O", "fortran_order": False, "shape": ()})
    pickle.dump(np.array(value, dtype=object), file, protocol=2)
    return file.getvalue().replace(b"numpy._core", b"numpy.core")


def test_a_pickle_of_anything_but_arrays_is_refused(script) -> None:
    read = script("pack_signals")._numbers_only
    value = {"X": [np.arange(3.0)], "y": np.arange(2), "names": ["a"]}
    assert str(read(npy(value))) == str(value)
    with pytest.raises(pickle.UnpicklingError, match="pathlib"):
        read(npy({"X": Path()}))


def test_packing_repeats_its_bytes_and_splits_large_tables(script) -> None:
    import pyarrow as pa

    build = script("build_data")
    table = pa.table({"text": [hashlib.sha256(str(i).encode()).hexdigest() for i in range(1000)]})
    (name, whole), *rest = build.parts("pack-train", table)
    assert (name, rest) == ("pack-train.parquet", [])
    assert build.parquet(table) == whole
    build.PART = len(whole) // 2
    pieces = build.parts("pack-train", table)
    assert [name for name, _ in pieces[:2]] == ["pack-train-00.parquet", "pack-train-01.parquet"]
    assert all(len(content) < build.PART for _, content in pieces)
    assert pa.concat_tables([pq.read_table(pa.BufferReader(content)) for _, content in pieces]) == table


def test_another_source_file_is_refused(script, tmp_path: Path) -> None:
    sources = script("pack_sources")
    (tmp_path / sources.CMUDICT.file).write_bytes(b"another version")
    with pytest.raises(sources.SourceError, match="its sha256 is"):
        sources.fetch(sources.CMUDICT, tmp_path)


def test_a_source_without_client_says_where_to_get_it(script, tmp_path: Path) -> None:
    sources = script("pack_sources")
    source = sources.Source("a.tgz", "0", ("no-such-client", "pack", "a"), "https://example.org/a")
    with pytest.raises(sources.SourceError, match=r"Get it from https://example\.org/a"):
        sources.fetch(source, tmp_path)
