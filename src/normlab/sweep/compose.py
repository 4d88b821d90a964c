"""From a run's overrides to its checked config, fast, because Hydra needs a tenth of a second for each.

Runs that differ only in their seed are composed once, and composed configs are cached in the cache folder until a
config file, or the code that checks configs, changes. Only configs that depend on nothing but our own config files and
the overrides are cached: a user's own config files, and resolvers such as `${oc.env:LR}`, may read anything.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf, open_dict

from normlab.checks.config import checked
from normlab.config.schema import RunConfig
from normlab.config.shipped import CONF
from normlab.folder.jsonfile import read_cache, write_cache
from normlab.trust.names import check_targets, only_ours

PACKAGE = Path(__file__).parents[1]
KEPT = 20  # number of multiruns whose composed configs are cached
_RESOLVER = re.compile(r"\$\{[^}]*[:$]")  # an interpolation that isn't just another key of the config
# resolvers in our own config; their input is part of the state's hash, or concerns only Hydra's folder
_CACHE = "${oc.env:NORMLAB_CACHE,.cache/normlab}"
_INVOCATION = "${output}/invocations/${now:%Y-%m-%dT%H-%M-%S}-${oc.env:NORMLAB_PID,0}"


class Composer:
    """Composes, checks and caches configs.

    Args:
        load: Hydra's composition of a job's overrides, with its own node `hydra`.
        base: the multirun's own config, which all jobs share.
    """

    def __init__(self, load: Callable[[Sequence[str]], DictConfig], base: DictConfig) -> None:
        self.load = load
        self.base = base

    def __call__(self, combinations: Sequence[Sequence[str]], cache: Path) -> list[RunConfig]:
        """The config of each combination of overrides, in order.

        Raises:
            InputError: an option is invalid; no run has started.
        """
        if not _may_remember(self.base):
            known: dict[str, Any] = {}
            return [self._config(list(overrides), known) for overrides in combinations]
        file = cache / "composed" / f"{_state(self.base)}.json"
        known = read_cache(file)
        before = len(known)
        configs = [self._config(list(overrides), known) for overrides in combinations]
        if len(known) > before:
            file.parent.mkdir(parents=True, exist_ok=True)
            write_cache(file, known)
            _forget_old(file.parent)
        return configs

    def _config(self, overrides: list[str], known: dict[str, Any]) -> RunConfig:
        """The config of one combination; a new cell is added to the cache if possible."""
        seeds = [o for o in overrides if o.startswith("seed=") and o[5:].isdigit()]
        cell = [o for o in overrides if not o.startswith("seed=")]
        if len(seeds) != 1 or len(cell) + 1 != len(overrides):
            return self._composed(overrides)[0]
        key = json.dumps(cell)
        config = _remembered(known.get(key))
        if config is None:
            config, follows = self._composed(overrides)
            if not follows or not _is_ours(config):
                return config
            known[key] = config.model_dump(mode="json")
        return config.model_copy(update={"seed": int(seeds[0][5:])})

    def _composed(self, overrides: list[str]) -> tuple[RunConfig, bool]:
        """The config, and whether it depends on the overrides alone, with the seed only as the seed."""
        cfg = self.load(overrides)
        launcher = launcher_of(cfg.hydra)
        with open_dict(cfg):
            del cfg["hydra"]
        plain = json.dumps(OmegaConf.to_container(cfg, resolve=False))
        follows = "${seed" not in plain and not _resolves(plain, _CACHE) and not _resolves(" ".join(overrides))
        return checked(cfg, overrides, launcher=launcher), follows


def _remembered(values: Any) -> RunConfig | None:
    """A cached config; None if it is damaged, or contains what we never compose."""
    try:
        config = RunConfig.model_validate_json(json.dumps(values), strict=True)
        check_targets(config, (), "the cache of composed configs")
    except ValueError:  # pydantic's error, or an InputError
        return None
    return config


def _forget_old(folder: Path) -> None:
    """Remove the caches of the multiruns that were used longest ago."""
    with suppress(FileNotFoundError):  # another process removes it at the same time
        for file in sorted(folder.glob("*.json"), key=lambda file: file.stat().st_mtime)[:-KEPT]:
            file.unlink()


def launcher_of(hydra: Any) -> str:
    """The name of the launcher in Hydra's own config, such as `joblib`."""
    target = str(hydra.launcher._target_)
    return {
        "BasicLauncher": "basic",
        "JoblibLauncher": "joblib",
        "LocalLauncher": "submitit_local",
        "SlurmLauncher": "slurm",
    }.get(target.rpartition(".")[2], target)


def _resolves(text: str, *known: str) -> bool:
    """Is there an interpolation with an unknown resolver, which may read anything?"""
    for interpolation in known:
        text = text.replace(interpolation, "")
    return _RESOLVER.search(text) is not None


def _may_remember(base: DictConfig) -> bool:
    """Are all config files ours, without resolvers whose input isn't covered by the state's hash?"""
    sources = [source for source in base.hydra.runtime.config_sources if source.provider not in ("hydra", "schema")]
    if any(source.schema != "file" or Path(source.path).resolve() != CONF.resolve() for source in sources):
        return False
    texts = (path.read_text(encoding="utf-8") for path in CONF.glob("**/*.yaml"))
    return not any(_resolves(text, _INVOCATION, _CACHE) for text in texts)


def _state(base: DictConfig) -> str:
    """A hash of everything besides the overrides that decides the composed config."""
    shared = OmegaConf.to_container(base, resolve=False)
    assert isinstance(shared, dict)
    shared.pop("hydra")
    digest = hashlib.sha256()
    for path in _sources():
        digest.update(f"{path} {hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    named = {name: value for name, value in os.environ.items() if name.startswith("NORMLAB_") and name != "NORMLAB_PID"}
    launcher = launcher_of(base.hydra)
    digest.update(json.dumps([str(Path.cwd()), named, shared, launcher, sys.version], sort_keys=True).encode())
    return digest.hexdigest()[:16]


def own_folders(cfg: DictConfig) -> list[Path]:
    """Further folders of config files, which the user adds with `--config-dir` or `hydra.searchpath`."""
    sources = [source for source in cfg.hydra.runtime.config_sources if source.schema == "file"]
    return [Path(source.path) for source in sources if Path(source.path).resolve() != CONF.resolve()]


def _is_ours(config: RunConfig) -> bool:
    """Can the config be cached? Not with the user's own norm or model, whose module may change."""
    return only_ours(config.norm, config.model)


def _sources() -> Iterable[Path]:
    yield from sorted(CONF.glob("**/*.yaml"))
    for room in ("config", "checks", "norms", "models"):  # constructors define the options
        yield from sorted((PACKAGE / room).glob("**/*.py"))
