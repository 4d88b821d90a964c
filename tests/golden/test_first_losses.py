"""The first three training losses of the default models, in float64 on real data; a change must be meant.

`python tests/golden/test_first_losses.py` writes the losses of today.
"""

import json
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra

from normlab.checks.config import checked
from normlab.config.seeds import derive
from normlab.data.load import load
from normlab.data.loader import loader
from normlab.models.build import build_model
from normlab.session.task import build_task

CONF = Path(__file__).parents[2] / "conf"
GOLDEN = Path(__file__).with_suffix(".json")
CASES = [(model, norm) for model in ("cnn", "lstm", "mlp", "transformer") for norm in ("batch", "layer")]


def first_losses(model: str, norm: str, cache: Path) -> list[float]:
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = checked(compose("train", overrides=[f"model={model}", f"norm={norm}", "logger=none"]))
    data = load(config.task, cache)
    torch.manual_seed(derive(config.seed, "init"))
    task = build_task(config, build_model(config.norm, config.model, data.sizes).double(), data)
    # AdamW would blow up gradients that are 0 but for rounding, such as those of a bias before batch norm
    optimiser = torch.optim.SGD(task.model.parameters(), lr=0.1)
    losses = []
    for batch, _ in zip(loader(data.split("train"), 8, seed=derive(config.seed, "order")), range(3), strict=False):
        inputs = batch.inputs.double() if batch.inputs.is_floating_point() else batch.inputs
        loss = task.losses(task.model(inputs, batch.mask), batch) / batch.total
        losses.append(loss.item())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return losses


@pytest.mark.parametrize(("model", "norm"), CASES)
def test_first_losses_are_the_recorded_ones(model, norm, cache):
    recorded = json.loads(GOLDEN.read_text(encoding="utf-8"))[f"{model} {norm}"]
    # the loss is taken in float32 (of logits in float64), and other processors round differently
    losses = first_losses(model, norm, cache)
    # per-step batch norm of few examples turns differences of 1e-7 into some of 4e-4 within two steps
    last = 2e-3 if (model, norm) == ("lstm", "batch") else 1e-5
    assert losses[:2] == pytest.approx(recorded[:2], rel=1e-5)
    assert losses[2] == pytest.approx(recorded[2], rel=last)


if __name__ == "__main__":
    found = {f"{model} {norm}": first_losses(model, norm, Path(".cache/normlab")) for model, norm in CASES}
    GOLDEN.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
