"""A user's file that calls sys.exit, as a script without a main guard does, is an error and no run that was stopped."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from normlab.commands import check
from normlab.config.errors import InputError

NET = """
import sys
from torch import nn

class Net(nn.Module):
    def __init__(self, num_classes: int = 2):
        super().__init__()
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(WIDTH, 8), nn.LayerNorm(8), nn.Linear(8, num_classes))

    def forward(self, x):
        return self.body(x)

def pictures():
    import torch
    return torch.utils.data.TensorDataset(torch.randn(40, 784), torch.zeros(40, dtype=torch.long))

WIDTH = 784
"""
ENDS = {
    "imported": NET + "sys.exit(0)\n",
    "built": NET.replace("super()", "sys.exit(0)\n        super()"),
    "trained": NET.replace("return self", "sys.exit(0) if self.training else None\n        return self"),
}
SAYS = {
    "imported": "can't be imported: it ends the process, by sys.exit(0)",
    "built": "can't be built: it ends the process",
    "trained": "code of the run ended the process, by sys.exit(0)",
}


@pytest.mark.parametrize("when", ENDS)
def test_a_run_whose_code_ends_the_process_has_failed(when: str, train, tmp_path: Path, monkeypatch) -> None:
    (tmp_path / f"ends_{when}.py").write_text(ENDS[when], encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    options = ["++model.arguments.num_classes=data:outputs", "task=fashion_mnist", "norm=rms", "trainer.steps=2"]
    answer = train("model=module", f"model.target=ends_{when}.py:Net", *options)
    assert answer.status == 2
    assert SAYS[when] in answer.err
    assert "Ctrl-C" not in answer.err
    states = [json.loads(path.read_text())["state"] for path in tmp_path.glob("outputs/runs/*/status.json")]
    assert "finished" not in states


@pytest.mark.parametrize("when", ENDS)
def test_a_check_of_code_that_ends_the_process_finds_no_clean_bill(when: str, tmp_path: Path) -> None:
    path = tmp_path / f"checked_{when}.py"
    path.write_text(ENDS[when], encoding="utf-8")
    data = tmp_path / f"data_{when}.py"
    data.write_text(NET, encoding="utf-8")
    with pytest.raises(InputError, match="it ends the process"):
        check.main([f"{path}:Net", "--data", f"{data}:pictures", "--task", "classification", "--steps", "2"])
