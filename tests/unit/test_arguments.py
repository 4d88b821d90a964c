"""Any path can be given, flags stand in any order, names become valid ids, and odd values get one line."""

import json
import math
import os
import string
import subprocess
import sys
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import example, given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from normlab.checks.config import _check_folder, checked
from normlab.command_line import arguments
from normlab.command_line.arguments import for_hydra, how_to_quote, quoted
from normlab.config.errors import InputError
from normlab.config.names import LONGEST, check_file_name, check_name, shortened, slug
from normlab.config.shipped import CONF

ROOT = Path(__file__).parents[2]
# what people's paths hold, Hydra's own characters often
PATHS = st.text(st.sampled_from(string.printable[:95] + "äß😀한\u0301"), min_size=1, max_size=20)


def read_back(choice: str) -> object:
    """The value of a choice after Hydra's grammar and OmegaConf's resolution."""
    (override,) = OverridesParser.create().parse_overrides([choice])
    return OmegaConf.to_container(OmegaConf.create({"value": override.value()}), resolve=True)["value"]


@settings(max_examples=300, deadline=None)
@given(PATHS)
@example("a=b.csv")
@example("a,b.csv")
@example("it's.csv")
@example("${x}.csv")
@example("\\'")
@example("'a.csv'")
@example("1e5")
@example("null")
@example("data[1].csv")
@example("glob(*)")
def test_an_existing_file_is_itself_whatever_its_name(path):
    before = arguments._exists
    arguments._exists = lambda _: True
    try:
        (choice,) = for_hydra([f"task.path={path}"])
    finally:
        arguments._exists = before
    assert read_back(choice) == path


@settings(max_examples=200, deadline=None)
@given(PATHS)
def test_quoting_is_undone_by_hydra(text):
    assert read_back(f"key={quoted(text)}") == text


@pytest.mark.parametrize(
    "choice",
    [
        "task.path=a.csv,b.csv",
        "task.path='a,b.csv'",
        "output=${oc.env:HOME}/x",
        "ckpt=null",
        "norm=batch",
        "output=x/y",
    ],
)
def test_what_hydra_can_read_keeps_its_meaning(choice):
    assert for_hydra([choice]) == [choice]


@pytest.mark.parametrize("path", ["copy(1).csv", "a=b.csv", "données.csv", "x#1.csv", "[b].csv", "a&b;c.csv"])
def test_a_path_that_is_not_there_yet_is_taken_too(path):
    (choice,) = for_hydra([f"output={path}"])
    assert read_back(choice) == path


def test_what_can_not_be_read_is_shown_as_the_shell_takes_it():
    done = subprocess.run(
        ["sh", "-c", f"printf %s {how_to_quote('x=a(b')}"], capture_output=True, text=True, check=True
    )
    assert read_back(done.stdout) == "a(b"


@given(st.permutations([("norm=batch,layer",), ("seed=0,1",), ("-m",), ("--config-dir", str(ROOT)), ("--cfg", "job")]))
def test_flags_stand_anywhere(parts):
    found = for_hydra([word for part in parts for word in part])
    assert sorted(found[:2]) == ["norm=batch,layer", "seed=0,1"]
    assert found[found.index("--config-dir") + 1] == str(ROOT)
    assert found[found.index("--cfg") + 1] == "job"
    assert len(found) == 7


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--norm", "layer"], "written without dashes: norm=layer"),
        (["--norm=layer"], "written without dashes: norm=layer"),
        (["model=cnn", "--seed"], "written without dashes: seed=VALUE"),
        (["-norm", "-m"], "written without dashes: norm=VALUE"),
        (["--cfg", "jobs"], "choose job, hydra or all"),
        (["--config-dir", "/nowhere"], "no such folder"),
        (["seed =1"], "write seed=1, without spaces"),
        (["'seed=1'"], "write seed=1, without spaces"),
        (["seed", "=", "1"], "write key=value, without spaces"),
        (["-m", "seed=0,1", "plan=x.json"], "leave it out"),
        (["norm=[layer,batch]"], "would be merged into one; give one, norm=NAME, and -m norm=layer,batch makes a run"),
        (["-m", "seed=0,1", "optim=[adamw,sgd]"], "merged into one; give one, optim=NAME, and -m optim=adamw,sgd"),
        (["+trainer=[cpu]"], "merged into one"),
        (["experiment=[depth,cnn_norms]"], "merged into one; give one, experiment=NAME"),
        (["norm=layer", "--resolve"], "write --cfg job --resolve"),
    ],
)
def test_what_is_written_as_for_other_programs_is_answered_in_one_line(arguments, message):
    with pytest.raises(InputError, match=message) as error:
        for_hydra(arguments)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("flag", ["-h", "--version", "--multi", "--info", "-sc", "--hydra-help"])
def test_flags_of_hydra_reach_it(flag):
    assert for_hydra([flag, "seed=1"]) == ["seed=1", flag]


def test_several_loggers_and_a_resolved_config_are_asked_for_as_hydra_has_it():
    assert for_hydra(["logger=[wandb,csv]"]) == ["logger=[wandb,csv]"]
    assert for_hydra(["--cfg", "job", "--resolve"]) == ["--cfg", "job", "--resolve"]


@settings(max_examples=200)
@given(st.text(max_size=230))
@example("../../escaped")
@example("someone/reviews")
@example("a" * 69)
@example("a:b")
@example("..")
def test_a_name_is_refused_or_makes_valid_ids(name):
    try:
        assert check_name("task.name", name) == name
    except InputError as error:
        refused = str(error)
    else:
        refused = ""
    assert len(refused.splitlines()) <= 1
    if refused:
        return
    assert len(name) <= LONGEST
    part = slug(name, 40)
    assert 0 < len(part) <= 40
    assert set(part) <= {*string.ascii_letters, *string.digits, *"-_."}
    assert not part.startswith(".")
    assert 0 < len(shortened(name)) <= 64


def test_long_names_stay_apart():
    assert shortened("a" * 70 + "b") != shortened("a" * 70 + "c")
    assert shortened("short") == "short"


@pytest.mark.parametrize("name", ["a/b", "a b", "", "..", "x" * 65, "a:b"])
def test_names_of_files_are_taken_as_they_are_or_refused(name):
    with pytest.raises(InputError):
        check_file_name("study.name", name)
    assert check_file_name("study.name", "my-study_2.1") == "my-study_2.1"


@pytest.fixture(scope="module")
def values():
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = compose("train", overrides=["model=lstm", "logger=wandb"])
    return json.dumps(OmegaConf.to_container(cfg, resolve=True))


ODD = st.one_of(
    st.sampled_from(
        [math.inf, -math.inf, math.nan, 0, -1, 2**31, 2**63, 10**30, 1e300, 1e-320, "", " ", "null", "a/../b"]
    ),
    st.sampled_from([True, None, [], {}, "/dev/null", "/proc/x", "a" * 300, "a\nb", "ü" * 200, "\ud800"]),
    st.integers(),
    st.floats(),
    st.text(max_size=10),
)
OPTIONS = st.sampled_from(
    [
        *(
            "seed",
            "output",
            "cache",
            "ckpt",
            "on_error",
            "task.name",
            "task.batch_size",
            "task.max_length",
            "task.steps",
        ),
        *(
            "task.validation",
            "task.epochs",
            "optim.lr",
            "optim.weight_decay",
            "optim.warmup",
            "optim.final",
            "optim.drop",
        ),
        *("optim.clip", "optim.betas", "trainer.minutes", "trainer.save_minutes", "trainer.steps", "trainer.devices"),
        *("trainer.nodes", "trainer.threads", "trainer.patience", "logger.wandb.project", "logger.wandb.timeout"),
        *("logger.wandb.tags", "logger.wandb.group", "model.width", "model.layers", "measure.name", "norm", "model"),
    ]
)


@settings(max_examples=150, deadline=None)
@given(option=OPTIONS, value=ODD)
def test_an_odd_value_passes_the_checks_or_gets_one_line(values, option, value):
    whole = json.loads(values)
    *path, last = option.split(".")
    node = whole
    for key in path:
        node = node[key]
    node[last] = value
    try:
        config = checked(OmegaConf.create(whole))
    except InputError as error:
        refused = str(error)
    else:
        refused = ""
    assert len(refused.splitlines()) <= 1
    assert len(refused) < 1000
    if refused:
        return
    for number in (config.optim.lr, config.optim.weight_decay, config.trainer.save_minutes):
        assert math.isfinite(number)
    assert config.seed < 2**63


@pytest.mark.parametrize("named", [{"PYTHONIOENCODING": "ascii"}, {"PYTHONIOENCODING": "latin-1"}, {"LC_ALL": "C"}])
def test_a_terminal_without_utf8_ends_nothing(named, tmp_path):
    """Nor does a lone surrogate, which occurs in file names that are not UTF-8."""
    code = (
        "from normlab.command_line.guard import guard\n"
        "from normlab.stopping.program import begin\n"
        "from rich.console import Console\n"
        "begin(__name__)\n"
        "with guard():\n"
        "    print('norm · model … \\ud800'); Console().print('█ ü [b]', markup=False)\n"
        "    raise ValueError('a defect · shown')\n"
    )
    environment = {**os.environ, **named, "PYTHONUTF8": "0"}
    (tmp_path / "said.py").write_text(code, encoding="utf-8")
    done = subprocess.run([sys.executable, tmp_path / "said.py"], capture_output=True, env=environment, check=False)
    assert b"norm" in done.stdout
    assert b"UnicodeEncodeError" not in done.stderr
    assert b"a defect" in done.stderr


@pytest.mark.parametrize("inner", ["", "below"])
def test_a_folder_behind_a_broken_link_is_named_with_the_link(tmp_path, inner):
    (tmp_path / "outputs").symlink_to(tmp_path / "scratch")
    with pytest.raises(InputError, match=r"outputs is a link to .*/scratch, which does not exist: make that folder"):
        _check_folder("output", str(tmp_path / "outputs" / inner))
    (tmp_path / "scratch").mkdir()
    _check_folder("output", str(tmp_path / "outputs" / inner))
