"""The embedded packs are the files that their checksums name, and their splits share nothing."""

from __future__ import annotations

import hashlib
import importlib
import json
import sys
from collections import Counter
from itertools import combinations
from pathlib import Path
from types import ModuleType
from typing import Any

import pyarrow.parquet as pq
import pytest

ROOT = Path(__file__).parents[2]
PACKS = ROOT / "src" / "normlab" / "data" / "packs"
SPLITS = ("train", "validation", "test")
ROWS = {
    "fashion_mnist": (16_000, 4_000, 10_000),
    "word_stress": (86_570, 10_781, 10_975),
    "union": (211, 11, 11),
    "author": (12_008, 1_663, 1_546),
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
    assert sum(sizes) < 22_000_000


@pytest.mark.parametrize("name", ROWS)
def test_counts_are_those_of_the_documentation(name: str) -> None:
    counts = tuple(pq.read_metadata(PACKS / f"{name}-{split}.parquet").num_rows for split in SPLITS)
    assert counts == ROWS[name]
    told = (ROOT / "DATA.md").read_text()
    assert all(f"{count:,}" in told for count in counts)


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
