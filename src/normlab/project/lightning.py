"""One Lightning for all: `lightning.pytorch` and `pytorch_lightning` are the same library under two names.

A trainer of the one refuses modules of the other. normlab uses `pytorch_lightning`, so for a project
`import lightning as L` and `from lightning.pytorch import …` give that.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_loader
from types import ModuleType

from normlab.config.errors import InputError

_SAME = {"lightning.pytorch": "pytorch_lightning", "lightning.fabric": "lightning_fabric"}
_TOP = ("Callback", "LightningDataModule", "LightningModule", "Trainer", "seed_everything")


def use_one_lightning() -> None:
    """From now on, both names mean `pytorch_lightning`.

    Raises:
        InputError: the other one has already been imported.
    """
    if any(isinstance(finder, _OneLightning) for finder in sys.meta_path):
        return
    if "lightning" in sys.modules:
        raise InputError(
            "lightning was imported before the project: start it in a process of its own, as the command does"
        )
    sys.meta_path.insert(0, _OneLightning())


class _OneLightning(MetaPathFinder, Loader):
    def __init__(self) -> None:
        self.specs: dict[str, ModuleSpec | None] = {}

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        ours = fullname == "lightning" or any(fullname == name or fullname.startswith(f"{name}.") for name in _SAME)
        return spec_from_loader(fullname, self, is_package=True) if ours else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        if spec.name == "lightning":
            module, library = ModuleType("lightning"), importlib.import_module("pytorch_lightning")
            vars(module).update({name: getattr(library, name) for name in _TOP}, __version__=library.__version__)
            module.Fabric = importlib.import_module("lightning_fabric").Fabric  # type: ignore[attr-defined]
            return module
        name = next(name for name in _SAME if spec.name == name or spec.name.startswith(f"{name}."))
        found = importlib.import_module(_SAME[name] + spec.name.removeprefix(name))
        self.specs[spec.name] = found.__spec__
        return found

    def exec_module(self, module: ModuleType) -> None:
        """Nothing is executed twice, and a module that was found keeps its own name."""
        if module.__name__ == "lightning":
            for name in _SAME:
                setattr(module, name.rpartition(".")[2], importlib.import_module(name))
        elif module.__spec__ is not None:
            module.__spec__ = self.specs.pop(module.__spec__.name)
