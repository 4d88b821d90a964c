"""Our own runs are watched, say in three lines what was seen, and have the same id and bits as without."""

from __future__ import annotations

from pathlib import Path

import pytest

from exactness import TINY, differences, options, result

FAULT = (
    "task.batch_size=2",
    "model=cnn",
    "model.width=8",
    "norm=batch",
    *(o for o in TINY if "batch_size=16" not in o),
)


def folder(output: Path) -> Path:
    (found,) = (output / "runs").iterdir()
    return found


@pytest.mark.parametrize("kind", ["lstm", "cnn"])
def test_a_run_is_the_same_with_and_without_the_monitor(kind: str, train, cache, tmp_path: Path):
    outputs = [tmp_path / name for name in ("with", "without")]
    for output, choice in zip(outputs, ("true", "false"), strict=True):
        answer = train(*options(kind, cache, output)[:-2], f"trainer.monitor={choice}", output=output)
        assert answer.status == 0, answer.err
    one, other = map(folder, outputs)
    assert one.name == other.name
    assert differences(result(one), result(other)) == []


def test_what_it_saw_stands_in_the_closing_lines_and_in_the_folder(train, tmp_path: Path):
    said = train(*FAULT)
    assert said.status == 0, said.err
    assert "few_examples" in said.out
    assert (folder(tmp_path / "outputs") / "norms.json").exists()
