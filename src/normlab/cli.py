"""What the command line answers when something is wrong: one clear message and an exit status.

0 done · 1 a defect, with its traceback · 2 the input can't work · 130 Ctrl-C · 143 SIGTERM
"""

from __future__ import annotations

import difflib
import errno
import os
import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from hydra.core.global_hydra import GlobalHydra
from hydra.errors import ConfigCompositionException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from normlab.schema import InputError

CONF = Path(__file__).parents[2] / "conf"


@contextmanager
def guard() -> Iterator[None]:
    """Word the input errors of the block for the user and exit; `debug=true` lets them through.

    It stands around Hydra, which finds mistakes in the choices, and once more inside, around the run: what left
    through Hydra would be announced by it as a failed job.
    """
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra hands its exceptions on instead of printing them
    try:
        yield
    except KeyboardInterrupt:
        print("stopped by Ctrl-C", file=sys.stderr)
        sys.exit(130)
    except Exception as error:
        message = _words(error)
        if message is None or "debug=true" in sys.argv:
            raise
        print(f"error: {message}", file=sys.stderr)
        sys.exit(2)


def print_help() -> None:
    """The help for a person; Hydra's own lists every group, which takes it a second."""
    print((CONF / "help.txt").read_text(encoding="utf-8"), end="")


def suggest(word: str, known: Iterable[str]) -> str:
    """` Did you mean 'layer'?` where `known` has something near `word`, otherwise nothing."""
    near = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f" Did you mean {near[0]!r}?" if near else ""


def _words(error: Exception) -> str | None:
    """What was wrong with the input; None for a defect of the program."""
    if isinstance(error, InputError):
        return str(error)
    if isinstance(error, MissingConfigException):
        return _unknown_choice(error)
    if isinstance(error, OverrideParseException):
        return f"{error.override!r} is not of the form key=value."
    if isinstance(error, ConfigCompositionException):
        return _unknown_key(error)
    if isinstance(error, YAMLError):
        return " ".join(str(error).split())
    if isinstance(error, OmegaConfBaseException):
        return str(error).splitlines()[0]
    if isinstance(error, OSError) and error.errno in _UNWRITABLE:
        return f"{error.strerror}: {error.filename}. Choose another folder with output=..."
    return None


_UNWRITABLE = (errno.EACCES, errno.EROFS, errno.ENOTDIR, errno.ENOSPC, errno.EDQUOT)


def _unknown_choice(error: MissingConfigException) -> str:
    group, _, choice = str(error.missing_cfg_file or "").rpartition("/")
    choices = sorted(path.stem for path in (CONF / group).glob("*.yaml"))
    if not group or not choices:
        return str(error).splitlines()[0]
    shown = [name for name in choices if not name.startswith("for_")]
    return f"there is no {group}={choice}.{suggest(choice, choices)} Choices: {', '.join(shown)}."


def _unknown_key(error: ConfigCompositionException) -> str:
    text = str(error)
    key = re.search(r"Could not override '([^']+)'", text)
    if key is None:
        return text.splitlines()[0]
    known = _keys()
    return f"there is no option {key[1]}.{suggest(key[1], known)} `--cfg job` prints them all."


def _keys() -> list[str]:
    """Every key of the config as the command line's choices (norm=batch …) compose it."""
    from hydra import compose, initialize_config_dir

    choices = [arg for arg in sys.argv[1:] if re.fullmatch(r"(norm|model|task|optim|trainer|logger|measure)=\w+", arg)]
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONF.resolve()), version_base="1.3"):
        try:
            cfg = compose("train", overrides=choices)
        except Exception:  # one of the choices is wrong as well: the default config's keys will do
            cfg = compose("train")
    return list(_flatten(cfg))


def _flatten(node: DictConfig, prefix: str = "") -> Iterable[str]:
    for key in map(str, node):
        yield f"{prefix}{key}"
        if not OmegaConf.is_missing(node, key) and isinstance(child := node._get_node(key), DictConfig):
            yield from _flatten(child, f"{prefix}{key}.")
