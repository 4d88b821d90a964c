"""trainer.compile=true trains and evaluates every model, or is refused without a compiler."""

import json

import pytest
from test_train import only_run

SMALL = {
    "cnn": ("model.width=4", "model.stages=1", "model.depth=1"),
    "lstm": ("model.width=4",),
    "mlp": ("model.width=8", "model.depth=2"),
    "transformer": ("model.width=8", "model.heads=2", "model.layers=1"),
}
TINY = ("logger=none", "trainer.threads=1", "trainer.steps=2", "trainer.batches=2", "trainer.validations=1")


@pytest.mark.slow
@pytest.mark.timeout(1800)  # the first compilation precompiles headers, which takes minutes on a busy machine
@pytest.mark.parametrize("model", SMALL)
def test_compiled_training_and_evaluation_equal_the_plain_ones(model, train, tmp_path):
    found = {}
    for compiled in ("false", "true"):
        output = tmp_path / compiled
        options = (*SMALL[model], *TINY, "task.batch_size=8", f"trainer.compile={compiled}")
        answer = train(f"model={model}", "norm=layer", *options, output=output / "trained")
        assert answer.status == 0, answer.err
        folder = only_run(output / "trained")
        checkpoint = folder / "checkpoints" / "best.ckpt"
        options = ("trainer.threads=1", "logger=none", "trainer.batches=2", f"trainer.compile={compiled}")
        answer = train("measure=evaluate", f"ckpt={checkpoint}", *options, output=output / "tested")
        assert answer.status == 0, answer.err
        for kind, run in (("trained", folder), ("tested", only_run(output / "tested"))):
            found[compiled, kind] = json.loads((run / "summary.json").read_text())["validation/loss"]
    for kind in ("trained", "tested"):
        assert found["true", kind] == pytest.approx(found["false", kind], rel=1e-3)
        assert found["true", kind] > 0


def test_without_a_compiler_it_is_refused_in_one_line(train, tmp_path, monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    answer = train("model=mlp", "trainer.compile=true", *TINY, output=tmp_path / "outputs")
    assert answer.status == 2
    assert "trainer.compile=true needs a C++ compiler, but there is no no-such-compiler here" in answer.err
    assert not list((tmp_path / "outputs").glob("runs/*"))
