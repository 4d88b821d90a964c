"""From training to files that serve: `normlab strip` on checkpoints of the pipeline."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from test_strangers_network import NET

from exactness import TINY
from normlab.commands.console import call
from normlab.config.errors import InputError
from normlab.export.artefacts import missing_for_onnx
from normlab.folder.jsonfile import read_json
from normlab.models.checkpoint import load_checkpoint

pytestmark = pytest.mark.slow


def trained(train, tmp_path: Path, *options: str) -> Path:
    output = tmp_path / "trained"
    answer = train(*options, *TINY, output=output)
    assert answer.status == 0, answer.err
    (run,) = (output / "runs").iterdir()
    return run / "checkpoints" / "best.ckpt"


def test_a_transformer(train, cache, tmp_path, capsys):
    ckpt = trained(
        train, tmp_path, "model=transformer", "model.width=16", "model.layers=1", "model.tie_embedding=false"
    )
    call(["strip", f"ckpt={ckpt}", f"cache={cache}"])
    out = capsys.readouterr().out
    folder = ckpt.parent / "best-stripped"
    report = read_json(folder / "strip.json")
    files = {"weights.pt", "model.pt2", "strip.json"} | (set() if missing_for_onnx() else {"model.onnx"})
    assert {path.name for path in folder.iterdir()} == files
    assert "blocks.0.before.0: centring moved into" in out
    assert not report["left"]
    assert set(report["checked"]["greatest_relative_difference"]) == {"folded", *files} - {"weights.pt", "strip.json"}
    assert {(row["examples"], row["network"]) for row in report["latency"]["rows"]} >= {
        (1, "checkpoint"),
        (64, "folded"),
    }
    assert all(row["ms_min"] <= row["ms"] <= row["ms_max"] for row in report["latency"]["rows"])
    inputs = torch.randint(1, 5, (3, 9))
    served = torch.export.load(folder / "model.pt2").module()(inputs)
    torch.testing.assert_close(served, load_checkpoint(ckpt)(inputs), rtol=1e-4, atol=1e-5)


def test_a_network_of_the_users_and_one_without_onnx(train, cache, tmp_path, capsys, monkeypatch):
    (tmp_path / "net_to_serve.py").write_text(NET)
    target = f"model.target={tmp_path / 'net_to_serve.py'}:Net"
    ckpt = trained(train, tmp_path, "model=module", target, "++model.arguments.num_classes=data:outputs", "norm=batch")
    with pytest.raises(InputError, match="trust"):
        call(["strip", f"ckpt={ckpt}", f"cache={cache}"])
    monkeypatch.setattr("normlab.export.strip.missing_for_onnx", lambda: ["onnx"])
    call(
        [
            "strip",
            f"ckpt={ckpt}",
            f"cache={cache}",
            f"trust=[{tmp_path / 'net_to_serve.py'}]",
            f"output={tmp_path / 'out'}",
        ]
    )
    out = capsys.readouterr().out
    assert "no model.onnx, which needs onnx: pip install normlab[export]" in out
    assert not (tmp_path / "out" / "model.onnx").exists()
    assert len(read_json(tmp_path / "out" / "strip.json")["folded"]) == 2
