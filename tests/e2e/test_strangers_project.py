"""A stranger's Lightning project, killed and resumed: the same bits as without the interruption."""

from __future__ import annotations

from pathlib import Path

import pytest

from exactness import differences, result
from normlab.command_line.arguments import for_hydra

TESTS = Path(__file__).parents[1]
SEGMENTER = (
    *("project=lightning_project.training:LitSegmenter", "project.data=lightning_project.training:Photos"),
    *("project.arguments.width=4", "project.data_arguments.count=64", "metric=val_dice", "norm=layer"),
    *("project.trainer.accumulate_grad_batches=2", "project.trainer.gradient_clip_val=1.0"),
)
GAN = (f"project={TESTS / 'lightning_variants.py'}:Gan", "metric=distance", "norm=batch")
SEVERAL = (f"project={TESTS / 'lightning_variants.py'}:Several", "metric=val/acc", "norm=layer")
PLATEAU = (f"project={TESTS / 'lightning_variants.py'}:Plateau", "metric=val/acc", "norm=layer")
CALLBACKS = (f"project={TESTS / 'lightning_variants.py'}:OwnCallbacks", "metric=val/acc", "norm=layer")
COMMON = ("trainer.epochs=4", "trainer.threads=1", "trainer.progress=false", "logger=csv", "trainer.log_every=2")


def only_run(output: Path) -> Path:
    (folder,) = (output / "runs").iterdir()
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(
    ("choices", "steps"),
    [
        (SEGMENTER, [2, 5, 9]),
        ((*SEGMENTER, "project.data_arguments.num_workers=1"), [7]),
        (GAN, [4, 13, 22]),
        (SEVERAL, [4, 11]),
        (PLATEAU, [7, 9, 13]),
        (CALLBACKS, [8, 14]),
    ],
    ids=["segmenter", "workers", "gan", "several", "plateau", "callbacks"],
)
def test_killed_at_many_steps_and_resumed(choices, steps, zygote, cache, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(TESTS))
    command = for_hydra([*choices, *COMMON, f"cache={cache}"])
    environment = {"PYTHONPATH": str(TESTS)}
    (ended,) = zygote([*command, f"output={tmp_path / 'whole'}"], environment=environment)
    assert ended.status == 0, ended.err
    broken = [*command, f"output={tmp_path / 'broken'}", "trainer.save_steps=1"]
    for step in steps:
        (ended,) = zygote(broken, at={"step": step, "signal": "SIGKILL"}, environment=environment)
        assert ended.status == -9, ended.err
    (ended,) = zygote(broken, environment=environment)
    assert ended.status == 0, ended.err
    assert "resumed after step" in ended.out
    assert differences(result(only_run(tmp_path / "broken")), result(only_run(tmp_path / "whole"))) == []
