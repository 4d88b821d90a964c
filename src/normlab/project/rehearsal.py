"""Checks a project with each of several norms, in one trial, before any run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import pytorch_lightning as pl
from torch import nn

from normlab.config.errors import InputError
from normlab.config.schema import RunConfig
from normlab.models.build import factory
from normlab.networks.replaced import Named, replaced
from normlab.project.calls import Calls
from normlab.project.options import project_of
from normlab.project.trial import trial
from normlab.session.devices import quiet


def check_norms(configs: Mapping[str, RunConfig]) -> None:
    """Does the project train, log the metric, and take each norm?

    Args:
        configs: of the same project, by what messages call each.

    Raises:
        InputError: it doesn't; the message names the norm.
    """
    quiet()
    config = next(iter(configs.values()))
    # the runs' processes would each start this command again
    alone = config.trainer.model_copy(update={"devices": 1, "nodes": 1})
    config = config.model_copy(update={"trainer": alone})
    options = project_of(config)

    def check(module: pl.LightningModule, calls: Calls) -> None:
        for name, one in configs.items():
            try:
                with _restored(module):
                    replaced(
                        module,
                        factory(one.norm),
                        calls,
                        options.only,
                        Named(f"project={options.target}", "project.only"),
                    )
            except InputError as error:
                raise InputError(f"{name} can't stand in this network. {error}") from None

    trial(config, options, check)


@contextmanager
def _restored(net: nn.Module) -> Iterator[None]:
    """Puts the modules of a network back in their places."""
    before = [(module, dict(module._modules)) for module in net.modules()]
    try:
        yield
    finally:
        for module, children in before:
            module._modules.clear()
            module._modules.update(children)
