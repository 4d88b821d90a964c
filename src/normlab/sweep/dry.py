"""A dry run writes nothing: it reads the cache through a temporary copy made of links."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from normlab.config.schema import RunConfig

Compose = Callable[[Sequence[Sequence[str]], Path], list[RunConfig]]  # the signature of `Composer`


@contextmanager
def stand_in(cache: Path) -> Iterator[Path]:
    """A temporary folder with links to everything in the cache; what is written there is removed afterwards.

    All writes to the cache replace a whole file or folder, so they replace only the link. Locks are opened for writing,
    so they are not linked.
    """
    with tempfile.TemporaryDirectory(prefix="normlab-dry-") as folder:
        for path in sorted(cache.rglob("*")) if cache.is_dir() else []:
            place = Path(folder) / path.relative_to(cache)
            if path.is_dir() and not path.is_symlink():
                place.mkdir(parents=True, exist_ok=True)
            elif path.suffix != ".lock":
                place.parent.mkdir(parents=True, exist_ok=True)
                place.symlink_to(path.absolute())
        yield Path(folder)


def with_cache(compose: Compose, cache: Path) -> Compose:
    """The same composer with another cache, for it and for its runs."""

    def composed(combinations: Sequence[Sequence[str]], _: Path) -> list[RunConfig]:
        return [config.model_copy(update={"cache": str(cache)}) for config in compose(combinations, cache)]

    return composed
