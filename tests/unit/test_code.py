"""A change of code makes those runs stale whose result it can change, and no other."""

import shutil
from pathlib import Path

import pytest

from normlab.runs import code
from slowly import some

RUNS = {
    f"{measure} {model}": (measure, f"normlab.norms.{norm}", f"normlab.models.{model}.{name}")
    for measure, model, norm, name in (
        ("training", "cnn", "group.GroupNorm", "CNN"),
        ("training", "lstm", "layer.LayerNorm", "LSTM"),
        ("training", "transformer", "layer.LayerNorm", "Transformer"),
        ("step_time", "cnn", "batch.BatchNorm", "CNN"),
        ("step_time", "lstm", "layer.LayerNorm", "LSTM"),
    )
}
TRAININGS = {name for name in RUNS if name.startswith("training")}
LSTMS = {name for name in RUNS if name.endswith("lstm")}
WITH_KERNELS = set(RUNS) - {"training cnn"}  # those with layer or batch norm


@pytest.fixture
def package(tmp_path, monkeypatch) -> Path:
    """A copy of the package, whose code is hashed instead."""
    copied = tmp_path / "normlab"
    shutil.copytree(code.PACKAGE, copied, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(code, "PACKAGE", copied)
    return copied


def hashes() -> dict[str, str]:
    return {name: code.code_of(*run) for name, run in RUNS.items()}


@pytest.mark.parametrize(
    ("file", "stale"),
    some(
        [
            ("norms/layer.py", set(RUNS) - {"training cnn", "step_time cnn"} | LSTMS),
            ("norms/base.py", set(RUNS)),
            ("norms/dyt.py", set()),
            ("models/cnn.py", {"training cnn", "step_time cnn"}),
            ("models/lstm.py", LSTMS),
            ("models/transformer.py", {"training transformer"}),
            ("kernels/recurrence.py", LSTMS),
            ("kernels/rows.py", WITH_KERNELS),
            ("kernels/cpu/*", WITH_KERNELS),
            ("data/loader.py", set(RUNS)),
            ("tasks/classification.py", TRAININGS),
            ("probes/inside.py", TRAININGS),
            ("session/session.py", set(RUNS)),
            ("session/fit.py", TRAININGS),
            ("session/resumption.py", TRAININGS),
            ("measures/training.py", TRAININGS),
            ("measures/step_time.py", set(RUNS) - TRAININGS),
            ("timing/blocks.py", set(RUNS) - TRAININGS),
            ("config/seeds.py", set(RUNS)),
            # what only refuses, shows, copies, stores or stops a run
            ("checks/config.py", set()),
            ("mirror/loggers.py", set()),
            ("mirror/wandb_run.py", set()),
            ("mirror/progress.py", set()),
            ("mirror/upload.py", set()),
            ("stopping/request.py", set()),
            ("folder/place.py", set()),
            ("runs/store.py", set()),
            ("report/build.py", set()),
        ]
    ),
)
def test_which_runs_a_changed_file_makes_stale(file, stale, package):
    before = hashes()
    path = next(iter(sorted(package.glob(file))))
    end = "\nCHANGED = 1\n" if path.suffix == ".py" else "\nint changed;\n"
    path.write_text(path.read_text(encoding="utf-8") + end, encoding="utf-8")
    after = hashes()
    assert {name for name in RUNS if before[name] != after[name]} == stale


def test_comments_docstrings_and_layout_make_nothing_stale(package):
    before = hashes()
    path = package / "session" / "session.py"
    path.write_text(
        "# a comment\n\n" + path.read_text(encoding="utf-8").replace("What every measure", "What each measure")
    )
    assert hashes() == before
