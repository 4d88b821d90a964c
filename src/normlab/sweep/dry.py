"""A dry run writes nothing: it reads the cache through a stand-in that is thrown away."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from normlab.config.schema import RunConfig

Compose = Callable[[Sequence[Sequence[str]], Path], list[RunConfig]]  # as `Composer` does it


@contextmanager
def stand_in(cache: Path) -> Iterator[Path]:
    """A folder that holds what the cache does, as links; what is written there is gone afterwards.

    All that the cache's owners write replaces a file or a folder as a whole, which replaces the link alone. Locks are
    opened to write, so they are not linked.
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
    """The same composition, with another cache for it and for its runs."""

    def composed(combinations: Sequence[Sequence[str]], _: Path) -> list[RunConfig]:
        return [config.model_copy(update={"cache": str(cache)}) for config in compose(combinations, cache)]

    return composed
