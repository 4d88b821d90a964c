"""Hydra's basic sweeper, except that it skips finished runs. Imported at every start, so it imports lazily."""

# no `from __future__ import annotations`: Hydra runs this file without registering it as a module
from dataclasses import dataclass
from itertools import chain
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.config_store import ConfigStore


@dataclass
class NormlabSweeperConf:
    """The options of Hydra's basic sweeper."""

    _target_: str = "hydra_plugins.normlab_sweeper.NormlabSweeper"
    max_batch_size: int | None = None  # how many jobs to give to the launcher at once
    params: dict[str, str] | None = None  # the sweep of a config file


ConfigStore.instance().store(group="hydra/sweeper", name="normlab", node=NormlabSweeperConf, provider="normlab")


class NormlabSweeper(BasicSweeper):
    """Expands the overrides as Hydra does, and leaves the rest to `normlab.sweep` and `normlab.study`."""

    def sweep(self, arguments: list[str]) -> Any:
        """Plan all runs, launch the missing ones, and report how each ended; for a study, print its verdicts."""
        from hydra.core.override_parser.overrides_parser import OverridesParser

        from normlab.sweep.compose import Composer
        from normlab.sweep.multirun import sweep

        assert self.config is not None
        assert self.hydra_context is not None
        assert self.launcher is not None
        loader, config, launcher = self.hydra_context.config_loader, self.config, self.launcher
        composer = Composer(lambda overrides: loader.load_sweep_config(config, list(overrides)), config)
        if config.get("study") or config.get("finding") or config.get("compare"):
            from normlab.study.engine import conduct

            verdicts = conduct(config, arguments, composer, launcher.launch)
            if config.get("compare") and verdicts:
                from normlab.report.comparison import conclude

                conclude(config, arguments, verdicts[0])
            return verdicts
        parsed = OverridesParser.create(config_loader=loader).parse_overrides([*self._parse_config(), *arguments])
        combinations = list(chain(*self.split_arguments(parsed, None)))
        return sweep(combinations, composer, launcher.launch, config)
