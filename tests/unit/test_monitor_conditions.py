"""NormMonitor under mixed precision, accumulation, checkpointing, compilation, two processes, and its own errors."""

from __future__ import annotations

import time
from html.parser import HTMLParser
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn
from torch.utils.checkpoint import checkpoint
from torch.utils.data import DataLoader, TensorDataset

from normlab.diagnoses.observed import Observed
from normlab.monitor import look, recorder
from normlab.monitor.callback import NormMonitor
from normlab.monitor.report import Report


def net(dtype: torch.dtype = torch.float32) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv1d(3, 40, 3, bias=False), nn.BatchNorm1d(40), nn.ReLU(), nn.Flatten(), nn.Linear(40 * 30, 8),
        nn.LayerNorm(8), nn.ReLU(), nn.Linear(8, 2),
    ).to(dtype)  # fmt: skip


class Lit(pl.LightningModule):
    def __init__(self, checkpoints: bool = False) -> None:
        super().__init__()
        self.net, self.checkpoints = net(), checkpoints

    def training_step(self, batch, _):
        x = checkpoint(self.net[:3], batch[0], use_reentrant=False) if self.checkpoints else self.net[:3](batch[0])
        return nn.functional.cross_entropy(self.net[3:](x), batch[1])

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.05)


def fitted(monitor: NormMonitor | None, folder: Path, checkpoints: bool = False, **options) -> nn.Module:
    task = Lit(checkpoints)
    torch.manual_seed(1)
    data = TensorDataset(torch.randn(96, 3, 32), torch.randint(0, 2, (96,)))
    trainer = pl.Trainer(
        accelerator="cpu", max_epochs=1, callbacks=[] if monitor is None else [monitor], logger=False,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False, default_root_dir=folder,
        **options,
    )  # fmt: skip
    trainer.fit(task, DataLoader(data, 16))
    return task


@pytest.mark.parametrize(
    "options",
    [{"precision": "bf16-mixed"}, {"accumulate_grad_batches": 3}, {"precision": "64-true"}, {"checkpoints": True}],
    ids=lambda options: next(iter(options)) + str(next(iter(options.values()))),
)
def test_training_is_bit_identical(options, tmp_path: Path):
    said: list[str] = []
    monitor = NormMonitor(every=1, budget=1.0, say=said.append)
    watched, plain = fitted(monitor, tmp_path, **options), fitted(None, tmp_path, **options)
    assert len(monitor.report().seen.looks) == 6
    assert not monitor.failed
    assert all(
        torch.equal(a, b) for a, b in zip(watched.state_dict().values(), plain.state_dict().values(), strict=True)
    )
    assert ("double_update" in monitor.report().causes) == ("checkpoints" in options)
    dtypes = {site.path: site.dtype for site in monitor.report().seen.looks[-1].sites}
    assert dtypes["net.1"] == {"bf16-mixed": "bfloat16", "64-true": "float64"}.get(options.get("precision"), "float32")


def test_in_a_compiled_network_it_says_what_it_cannot_see():
    said: list[str] = []
    compiled = torch.compile(net(), backend="eager")
    monitor = NormMonitor(say=said.append).watch(compiled)
    optimizer = torch.optim.SGD(compiled.parameters(), 0.1)
    for _ in range(3):
        compiled(torch.randn(8, 3, 32)).sum().backward()
        optimizer.step()
    assert monitor.report().seen.looks == []
    assert len([line for line in said if "compiled" in line]) == 1


@pytest.mark.parametrize(
    ("where", "name"),
    [(look, "before"), (look, "after"), (look, "gradient"), (look, "site_look"), (recorder, "Looking")],
)
def test_an_error_anywhere_inside_it_is_said_once_and_changes_nothing(where, name, monkeypatch, tmp_path: Path):
    plain = fitted(None, tmp_path)

    def broken(*_, **__):
        raise ZeroDivisionError("of the monitor")

    monkeypatch.setattr(where, name, broken)
    said: list[str] = []
    watched = fitted(NormMonitor(say=said.append), tmp_path)
    assert [line for line in said if "of the monitor" in line] == said
    assert len(said) == 1
    assert all(
        torch.equal(a, b) for a, b in zip(watched.state_dict().values(), plain.state_dict().values(), strict=True)
    )
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in watched.modules())


def _process(rank: int, file: str, synchronised: bool, batch: int) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{file}", rank=rank, world_size=2)
    body = nn.Sequential(nn.Linear(6, 8, bias=False), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 2))
    if synchronised:  # torch's own refuses CPUs
        body[1].sync = True
    model = nn.parallel.DistributedDataParallel(body)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    monitor = NormMonitor(say=lambda _: None).watch(model, optimizer)
    torch.manual_seed(rank)
    for _ in range(12):
        optimizer.zero_grad()
        model(torch.randn(batch, 6)).square().mean().backward()
        optimizer.step()
    Path(f"{file}.{rank}").write_text(" ".join(monitor.report().causes), encoding="utf-8")
    time.sleep(0.5)  # torch deadlocks if the network is freed in the moment in which its last all-reduce ends
    dist.destroy_process_group()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("synchronised", "batch", "causes"),
    [(False, 2, "unsynchronised_statistics"), (False, 32, ""), (True, 2, "few_examples")],
)
def test_tiny_shares_of_two_processes_are_named(synchronised, batch, causes, tmp_path: Path):
    file = str(tmp_path / "meeting")
    mp.spawn(_process, (file, synchronised, batch), nprocs=2)
    assert {Path(f"{file}.{rank}").read_text(encoding="utf-8") for rank in range(2)} == {causes}


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []

    def handle_starttag(self, tag, attributes):
        self.seen.append(tag)
        if tag not in ("meta",):
            self.open.append(tag)
        if tag == "th":
            assert dict(attributes)["scope"] in ("row", "col")
        if tag == "html":
            assert dict(attributes)["lang"] == "en"

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_page_is_well_formed_and_names_severity_in_words(tmp_path: Path):
    monitor = NormMonitor(say=lambda _: None)
    fitted(monitor, tmp_path, checkpoints=True)
    report = monitor.report()
    page, parsed = report.to_html(), Tags()
    parsed.feed(page)
    assert parsed.open == []
    assert [parsed.seen.count(tag) for tag in ("h1", "title", "main", "table", "caption")] == [1] * 5
    assert "warning: double_update" in page
    assert "<script" not in page
    assert report._repr_html_() in page
    assert "Nothing was found" in Report(Observed(), ()).to_html()
    assert len(report.brief()) <= 3
