"""A network of the user's: importing what `model.target` names, and calling it with `model.arguments`."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import sys
from functools import reduce
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn

from normlab.config.errors import InputError
from normlab.config.modules import is_file, module_of
from normlab.config.schema import Sizes


def built(target: str, arguments: dict[str, Any], sizes: Sizes) -> nn.Module:
    """The network, with initial values from torch's global generator.

    Args:
        target: `package.module:name` or `file.py:name`, of a class or a function.
        arguments: its arguments; `data:outputs` and the like are replaced by the number.
        sizes: of the data.

    Raises:
        InputError: it can't be imported, can't be called like that, or what it returns is no network.
    """
    made = called("model.target", target, from_data(arguments, sizes), "model.arguments")
    if not isinstance(made, nn.Module):
        raise InputError(f"model.target={target} gives a {type(made).__name__}, not a torch.nn.Module")
    return made


def called(option: str, target: str, values: dict[str, Any], arguments: str) -> Any:
    """What a class or function of the user's gives.

    Args:
        option: that names it, for messages; `arguments` is the one of its arguments.
        target: `package.module:name` or `file.py:name`.
        values: its arguments.

    Raises:
        InputError: it can't be imported, or can't be called like that.
    """
    make = callable_of(option, target)
    try:
        inspect.signature(make).bind(**values)
    except TypeError as error:
        raise InputError(f"{option}={target}: {error}; set it with {arguments}.NAME=...") from None
    except ValueError:  # a signature that isn't known, as of compiled code
        pass
    try:
        return make(**values)
    except InputError:
        raise
    except (Exception, SystemExit) as error:
        raise InputError(f"{option}={target} can't be built: {said(error)}") from error


def from_data(value: Any, sizes: Sizes) -> Any:
    """The value with every `data:NAME` in it replaced by the number."""
    if isinstance(value, dict):
        return {key: from_data(item, sizes) for key, item in value.items()}
    if isinstance(value, list):
        return [from_data(item, sizes) for item in value]
    if not isinstance(value, str) or not value.startswith("data:"):
        return value
    axes = {
        "images": ("channels", "height", "width"),
        "features": ("length", "features"),
        "tokens": ("length",),
        "table": ("features",),
    }
    known = dict(zip(axes[sizes.kind], sizes.shape, strict=True))
    return {**known, "outputs": sizes.outputs, "vocabulary": sizes.vocabulary}[value.removeprefix("data:")]


def said(error: BaseException) -> str:
    """An error of the user's code: its kind, and the first line."""
    if isinstance(error, SystemExit):
        return (
            f"it ends the process, by sys.exit({error.code!r}): put what is a script's below if __name__ == '__main__'"
        )
    return f"{type(error).__name__}: {(str(error).strip().splitlines() or ['without a message'])[0][:300]}"


def callable_of(option: str, target: str) -> Any:
    """The class or function itself; see `called`."""
    module, _, name = target.rpartition(":")
    try:
        found = reduce(getattr, name.split("."), imported(module_of(target)))
    except InputError:
        raise
    except AttributeError as error:
        raise InputError(f"{option}={target}: {module} has no {name} ({error})") from None
    except (Exception, SystemExit) as error:
        relative = "attempted relative import" in str(error) and is_file(module)
        hint = "; name a file of a package as a module, as in my_package.training:NAME" if relative else ""
        raise InputError(f"{option}={target}: {module} can't be imported: {said(error)}{hint}") from error
    if not callable(found) or isinstance(found, nn.Module):
        raise InputError(f"{option}={target} is a {type(found).__name__}; name the class, or a function, instead")
    return found


def imported(module: str) -> ModuleType:
    """The module, which runs its code. As in a script, a file can import other files of its folder.

    Raises:
        InputError: a file has the name of another module that has been imported.
    """
    if not is_file(module):
        if (here := str(Path.cwd())) not in sys.path:
            sys.path.append(here)
        return importlib.import_module(module)
    path = Path(module).resolve()
    known = sys.modules.get(path.stem)
    if known is not None and Path(getattr(known, "__file__", None) or "").resolve() == path:
        return known
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if known is not None or spec is None or spec.loader is None:
        raise InputError(f"{module} has the name of another module, {path.stem}: rename the file")
    if str(path.parent) not in sys.path:
        sys.path.insert(0, str(path.parent))
    sys.modules[path.stem] = made = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(made)
    except BaseException:
        del sys.modules[path.stem]
        raise
    return made
