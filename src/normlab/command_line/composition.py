"""Hydra's errors, explained in the user's terms."""

from __future__ import annotations

import difflib
import re
import sys
from collections.abc import Iterable
from pathlib import Path

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import ConfigCompositionException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from normlab.command_line.arguments import how_to_quote, sweeps


def words(error: Exception, conf: Path) -> str | None:
    """What is wrong with the overrides or with a file in `conf`; None if the error is of another kind."""
    if isinstance(error, MissingConfigException):
        return _unknown_choice(error)
    if isinstance(error, OverrideParseException):
        return _unreadable(str(error.override))
    if isinstance(error, ConfigCompositionException):
        return _unknown_key(error, conf)
    if isinstance(error, ValueError) and "Config group override must be" in str(error):
        return _no_choice()
    if isinstance(error, YAMLError):
        return " ".join(str(error).split())
    if isinstance(error, OmegaConfBaseException):
        return " ".join(str(error).split())
    return None


def _suggest(word: str, known: Iterable[str]) -> str:
    """` Did you mean 'layer'?` where `known` has something near `word`, otherwise nothing."""
    near = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f" Did you mean {near[0]!r}?" if near else ""


def _unknown_choice(error: MissingConfigException) -> str:
    group, _, choice = str(error.missing_cfg_file or "").rpartition("/")
    # includes those of --config-dir; for_cnn and the like are optimisers that only a model's own file chooses
    choices = sorted(name for name in error.options or [] if not name.startswith("for_"))
    if not group or not choices:
        return str(error).splitlines()[0]
    return f"there is no {group}={choice}.{_suggest(choice, choices)} Choices: {', '.join(choices)}."


def _unreadable(override: str) -> str:
    if "=" not in override and not override.startswith("~"):
        return f"{override!r} is not of the form key=value."
    return f"{override!r} contains characters that are special in Hydra: quote the value, {how_to_quote(override)}"


def _only_of_some(key: str, conf: Path) -> str:
    """For a sweep over a group: which choices have the option, and how to set it for those alone."""
    group, _, option = key.partition(".")
    chosen = sweeps(sys.argv[1:], group)
    if len(chosen) < 2 or "." in option:
        return ""
    files = {name: conf / group / f"{name}.yaml" for name in chosen}
    having = [name for name, file in files.items() if file.is_file() and option in OmegaConf.load(file)]
    if not having:
        return ""
    without = [name for name in chosen if name not in having]
    return (
        f"{key} is an option of {group}={','.join(having)}, but not of {group}={','.join(without)}: use one command "
        f"with {group}={','.join(having)} and {key}=..., and another with {group}={','.join(without)}"
    )


def _no_choice() -> str:
    """The message if a group was set to null; Hydra's ValueError doesn't name the group."""
    groups = "norm|model|task|optim|trainer|logger|measure|scale|launcher"
    asked = next((arg for arg in sys.argv[1:] if re.fullmatch(rf"({groups})=(null|None|~)?", arg)), None)
    if asked is None:
        return "a choice can't be null: give a name, such as norm=layer"
    return f"{asked}: {asked.partition('=')[0]} needs a choice; `python train.py --help` lists them."


def _unknown_key(error: ConfigCompositionException, conf: Path) -> str:
    text = str(error)
    key = re.search(r"Could not override '([^']+)'", text)
    if key is None:
        return " ".join(text.split())
    if missing := _only_of_some(key[1], conf):
        return missing
    known = _keys(conf)
    if key[1] in known:
        group = key[1].partition(".")[0]
        return f"there is no option {key[1]} with the {group} that the finding, study or experiment chooses"
    return f"there is no option {key[1]}.{_suggest(key[1], known)} `--cfg job` prints them all."


def _keys(conf: Path) -> list[str]:
    """Every key of the config that the command line's choices (norm=batch …) compose."""
    choices = [arg for arg in sys.argv[1:] if re.fullmatch(r"(norm|model|task|optim|trainer|logger|measure)=\w+", arg)]
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(conf.resolve()), version_base="1.3"):
        try:
            cfg = compose("train", overrides=choices)
        except Exception:  # a choice is wrong as well, so use the default config's keys
            cfg = compose("train")
    return list(_flatten(cfg))


def _flatten(node: DictConfig, prefix: str = "") -> Iterable[str]:
    for key in map(str, node):
        yield f"{prefix}{key}"
        if not OmegaConf.is_missing(node, key) and isinstance(child := node._get_node(key), DictConfig):
            yield from _flatten(child, f"{prefix}{key}.")
