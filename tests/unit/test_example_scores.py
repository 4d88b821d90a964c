"""Scores per example: their file, their order, and that they are what the run's test metric is the mean of."""

import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from normlab.config.schema import InputError
from normlab.data.loader import loader
from normlab.data.splits import Examples, Windows
from normlab.folder.example_scores import decode, encode, read_example_scores, read_lines, write_example_scores
from normlab.folder.jsonfile import read_json
from normlab.folder.run_folder import RunFolder
from normlab.folder.study_folder import StudyFolder
from normlab.session.example_scores import gathered

TINY = ("trainer.steps=3", "trainer.threads=1", "logger=none", "test=true")


@given(st.lists(st.booleans(), min_size=1, max_size=70))
def test_answers_are_read_back_as_they_were(right):
    found = decode(json.loads(json.dumps(encode("accuracy", "split", right))))
    assert found["values"].tolist() == [float(each) for each in right]
    assert (found["metric"], found["split"], found["sizes"]) == ("accuracy", "split", None)


@given(arrays(np.float32, st.integers(1, 50), elements=st.floats(0, 1e6, width=32)))
def test_losses_are_read_back_as_they_were(losses):
    found = decode(encode("loss", "split", losses, np.arange(len(losses)) + 1))
    np.testing.assert_array_equal(found["values"], losses)
    np.testing.assert_array_equal(found["sizes"], np.arange(len(losses)) + 1)


def test_ten_thousand_answers_are_small():
    assert len(json.dumps(encode("accuracy", "s" * 64, np.ones(10_000)))) < 2000


@pytest.mark.parametrize(("metric", "values"), [("accuracy", [0.5]), ("accuracy", [2]), ("loss", [np.nan, 1])])
def test_what_is_no_score_is_refused(metric, values):
    with pytest.raises(ValueError, match="a score"):
        encode(metric, "split", values)


@pytest.mark.parametrize("change", [{"values": "////"}, {"examples": 15}, {"split": "other"}, {"sha256": "0"}])
def test_damage_is_seen(tmp_path, change):
    record = encode("accuracy", "split", np.ones(16))
    write_example_scores(tmp_path / "a.json", record | change)
    assert read_example_scores(tmp_path / "a.json") == {}
    with pytest.raises(ValueError, match="not what the run wrote"):
        decode(record | change)
    folder = StudyFolder(tmp_path)
    folder.write_example_scores({"whole": record, "changed": record | change})
    with pytest.raises(InputError, match="line 2 is damaged"):
        folder.read_example_scores()


def test_a_studys_file_holds_a_line_per_run(tmp_path):
    folder = StudyFolder(tmp_path)
    assert folder.read_example_scores() == {}
    records = {f"run-{n}": encode("accuracy", "split", np.arange(9) % 2 == n) for n in range(2)}
    folder.write_example_scores(records)
    assert read_lines(folder.example_scores_file) == records
    folder.write_example_scores({})
    assert not folder.example_scores_file.exists()


class OneOf:
    """What stands for the trainer of one of several processes: their tables are summed up."""

    def __init__(self, tables=None):
        self.strategy, self.tables = self, tables

    def reduce(self, table, reduce_op):
        assert reduce_op == "sum"
        return table if self.tables is None else self.tables.append(table) or table


EXAMPLES = Examples(
    torch.zeros(103, 1, 2, 2, dtype=torch.uint8), torch.arange(103), mean=torch.zeros(1), std=torch.ones(1)
)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 40), st.integers(1, 3), st.sampled_from([EXAMPLES, Windows(torch.arange(500), 7)]))
def test_the_order_depends_on_neither_batch_size_nor_processes(batch, processes, split):
    """Each example is scored by its own number, in whatever batch and process it comes."""
    tables = []
    for rank in range(processes):
        batches = loader(split, processes * batch, rank=rank, world_size=processes)
        own = [b.targets if isinstance(split, Examples) else b.inputs[:, 0] for b in batches]
        gathered(OneOf(tables), torch.cat(own), batches)
    scores, counts = sum(tables)
    assert (counts == 1).all()
    assert scores.tolist() == split.in_order().tolist()


def test_of_a_test_cut_short_the_first_examples_are_kept():
    batches = loader(EXAMPLES, 10)
    own = torch.cat([batch.targets for batch in batches])[:30]
    scores, places = gathered(OneOf(), own, batches)
    assert scores.tolist() == places.tolist() == list(range(30))


def kept(output) -> tuple[dict, dict]:
    (folder,) = (output / "runs").iterdir()
    run = RunFolder(folder)
    assert run.changed(run.read_status()) == ""
    return decode(read_example_scores(run.example_scores_file)), run.read_summary()


@pytest.mark.parametrize(
    "model",
    [
        ("model=mlp", "model.width=8"),
        pytest.param(("model=cnn", "model.width=4"), marks=pytest.mark.slow),
        pytest.param(("model=lstm", "model.width=8"), marks=pytest.mark.slow),
        pytest.param(("model=transformer", "task=author", "model.width=8", "model.heads=2"), marks=pytest.mark.slow),
    ],
    ids=lambda options: options[0],
)
def test_the_mean_of_a_runs_answers_is_its_accuracy(train, tmp_path, model):
    found = []
    for size in (64, 37):
        assert train(*model, *TINY, f"task.eval_batch_size={size}", output=tmp_path / str(size)).status == 0
        scores, summary = kept(tmp_path / str(size))
        right, count = np.float32(scores["values"].sum()), np.float32(len(scores["values"]))
        assert float(right / count) == summary["test/accuracy"]
        found.append(scores["values"])
    np.testing.assert_array_equal(*found)


@pytest.mark.slow
def test_the_mean_of_a_texts_windows_is_its_loss(train, tmp_path):
    assert train("model=transformer", "task=union", "model.width=8", "model.heads=2", *TINY).status == 0
    scores, summary = kept(tmp_path / "outputs")
    assert np.average(scores["values"], weights=scores["sizes"]) == pytest.approx(summary["test/loss"], rel=1e-6)


def test_without_a_test_nothing_is_kept_and_a_changed_file_makes_the_run_damaged(train, tmp_path):
    options = ("model=mlp", "model.width=8", *TINY[:3])
    assert train(*options, output=tmp_path / "none").status == 0
    (folder,) = (tmp_path / "none" / "runs").iterdir()
    assert not RunFolder(folder).example_scores_file.exists()
    assert "example_scores" not in read_json(folder / "status.json")
    assert train(*options, "test=true").status == 0
    (folder,) = (tmp_path / "outputs" / "runs").iterdir()
    before = RunFolder(folder).example_scores_file.read_bytes()
    RunFolder(folder).example_scores_file.write_text("{}")
    answer = train(*options, "test=true")
    assert "example_scores.json is not what the run wrote; it was set aside" in answer.out
    assert RunFolder(folder).example_scores_file.read_bytes() == before
