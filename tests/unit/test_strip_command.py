"""`normlab strip`: its arguments, the files that it writes, and what it refuses."""

from __future__ import annotations

import copy
import importlib.util
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest
import torch
from test_hostile_files import made, named, put

from normlab.commands.strip import flag, modules, number, options, table
from normlab.config.errors import InputError
from normlab.config.schema import Sizes
from normlab.data.splits import Examples
from normlab.export import artefacts
from normlab.export.artefacts import Signature, exported, padded_to, read_onnx, read_pt2, write_onnx, write_pt2
from normlab.export.compared import Feed, difference
from normlab.export.fold import strip
from normlab.export.strip import signature_of
from normlab.models.gru import GRU
from normlab.models.mlp import MLP
from normlab.models.transformer import Transformer
from normlab.norms.layer import LayerNorm

TOKENS = Sizes("tokens", (6,), outputs=3, vocabulary=7, positions=6)
IMAGES = Sizes("images", (1, 4, 4), outputs=3)
needs_onnx = pytest.mark.skipif(bool(artefacts.missing_for_onnx()), reason="needs pip install normlab[export]")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["best.ckpt"], "'best.ckpt': the options of strip are ckpt=, output="),
        (["ckpt=a", "norm=layer"], "'norm=layer': the options of strip are"),
        (["ckpt=a", "ckpt=b"], "ckpt= is given twice"),
        ([], "strip needs a checkpoint: normlab strip ckpt="),
        (["ckpt="], "strip needs a checkpoint"),
        (["ckpt=nowhere.ckpt"], "ckpt='nowhere.ckpt': there is no such file"),
        (["ckpt=."], "this is a folder; give a file"),
        (["ckpt=a\0b"], "there is no such file"),
    ],
)
def test_bad_arguments_are_refused_without_torch(arguments, message, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "normlab.export.strip", None)  # importing it would fail
    from normlab.commands.strip import main

    with pytest.raises(InputError) as caught:
        main(arguments)
    assert message in str(caught.value)


@pytest.mark.parametrize("text", ["0", "-1", "two", "1.5", "٣", "99999"])
def test_threads_are_a_whole_number(text):
    with pytest.raises(InputError, match="whole number"):
        number({"threads": text})


def test_values():
    assert options(["ckpt=a=b.ckpt", "fold=False"]) == {"ckpt": "a=b.ckpt", "fold": "False"}
    assert flag({"fold": "False"}) is False
    assert modules({"trust": "[mine, yours]"}) == ("mine", "yours")
    with pytest.raises(InputError, match="fold=yes: true or false"):
        flag({"fold": "yes"})


def test_an_output_that_is_a_file_is_refused(tmp_path):
    from normlab.commands.strip import main

    file = tmp_path / "best.ckpt"
    file.write_bytes(b"x")
    with pytest.raises(InputError, match="this is a file; name a folder"):
        main([f"ckpt={file}", f"output={file}"])


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"\x80\x04."])
def test_what_is_no_checkpoint_is_refused(tmp_path, content):
    from normlab.commands.strip import main

    file = tmp_path / "best.ckpt"
    file.write_bytes(content)
    with pytest.raises(InputError, match=r"damaged|not a checkpoint"):
        main([f"ckpt={file}", f"output={tmp_path / 'out'}"])
    assert not (tmp_path / "out").exists()


def test_the_table_has_a_row_for_each_size():
    row = {"ms": 2.0, "ms_min": 1.0, "ms_max": 3.0, "ratio": 0.5}
    rows = [{"examples": size, "network": name, **row} for size in (1, 8) for name in ("checkpoint", "folded")]
    lines = list(table({"threads": 2, "repeats": 5, "rows": rows}))
    assert lines[0].startswith("milliseconds per batch on 2 CPU threads: median (range) of 5 repeats")
    assert [line.split() for line in lines[1:]] == [
        ["examples", "checkpoint", "folded"],
        ["1", "2", "(1-3)", "2", "(1-3)", "0.50"],
        ["8", "2", "(1-3)", "2", "(1-3)", "0.50"],
    ]


def sequences(lengths: list[int]) -> Examples:
    torch.manual_seed(0)
    count = len(lengths)
    return Examples(torch.randint(1, 7, (count, 6)), torch.zeros(count, dtype=torch.long), torch.tensor(lengths))


def test_a_mask_is_an_argument_if_any_sequence_is_shorter():
    assert signature_of(sequences([6, 6])).names == ["inputs"]
    assert signature_of(sequences([6] * 9 + [3])).names == ["inputs", "mask"]
    assert signature_of(sequences([4, 5])).longest == 5
    inputs, mask = padded_to(torch.ones(2, 3, dtype=torch.long), torch.ones(2, 3, dtype=torch.bool), 5)
    assert inputs.tolist() == [[1, 1, 1, 0, 0]] * 2
    assert mask.sum(1).tolist() == [3, 3]


def test_a_difference_at_real_steps_is_found():
    split = sequences([6, 2, 4])
    model = MLP(partial(LayerNorm), IMAGES, width=4).eval()
    images = Examples(torch.randn(5, 1, 4, 4), torch.zeros(5, dtype=torch.long))
    images = Examples(images.inputs, images.targets, mean=torch.zeros(1, 1, 1), std=torch.ones(1, 1, 1))
    assert difference(model, model, Feed(images, False)) == (0.0, 5)
    wrong, _ = difference(model, lambda x: model(x) * 1.1, Feed(images, False))
    assert wrong == pytest.approx(0.1, rel=1e-4)
    nan, _ = difference(model, lambda x: model(x) * float("nan"), Feed(images, False))
    assert nan == float("inf")
    assert len(Feed(split, True).filled(8).inputs) == 8


def written(model, split, folder: Path, onnx: bool):
    """The folded network's files, read again."""
    signature = signature_of(split)
    folded = strip(model, signature.inputs, padded=signature.mask is not None).model
    made = exported(folded, signature)
    write_pt2(made, folder / "model.pt2")
    calls = [read_pt2(folder / "model.pt2")]
    if onnx:
        fitted = signature if made.fixed is None else signature.fitted(made.fixed)
        write_onnx(made, fitted, folder / "model.onnx")
        calls.append(read_onnx(folder / "model.onnx", signature.names, 1))
    return made, calls


@pytest.mark.slow
@needs_onnx
@pytest.mark.parametrize(("encoding", "length"), [("rotary", "any"), ("learned", "up to 6")])
def test_files_of_a_transformer(encoding, length, tmp_path):
    model = Transformer(
        partial(LayerNorm), TOKENS, width=8, layers=1, heads=2, qk_norm=True, position_encoding=encoding
    ).eval()
    split = sequences([6, 3, 1, 5, 2, 6, 4])
    program, calls = written(model, split, tmp_path, True)
    assert program.length == length
    for call in calls:
        apart, count = difference(model, call, Feed(split, True))
        assert apart <= 1e-5
        assert count == 7
    if length == "any":
        longer = (torch.randint(1, 7, (3, 11)), torch.ones(3, 11, dtype=torch.bool))
        for call in calls:
            torch.testing.assert_close(call(*longer), model(*longer), rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@needs_onnx
def test_files_of_a_recurrence_take_one_length(tmp_path):
    model = GRU(partial(LayerNorm), TOKENS, width=4).eval()
    split = sequences([6, 3, 1, 5, 2])
    program, calls = written(model, split, tmp_path, True)
    assert program.length == 6
    for call in calls:
        assert difference(model, call, Feed(split, True, 6))[0] <= 1e-5


@pytest.mark.slow
def test_a_program_takes_one_example(tmp_path):
    model = MLP(partial(LayerNorm), IMAGES, width=4, depth=2).eval()
    images = torch.randn(3, 1, 4, 4)
    made = exported(model, Signature(images, None, None))
    write_pt2(made, tmp_path / "model.pt2")
    call = read_pt2(tmp_path / "model.pt2")
    for count in (1, 2, 3):
        torch.testing.assert_close(call(images[:count]), model(images[:count]), rtol=1e-5, atol=1e-6)


def test_what_is_missing_for_onnx_is_named(monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "onnxruntime" else found(name))
    assert "onnxruntime" in artefacts.missing_for_onnx()


def test_a_failure_leaves_no_folder_that_was_not_there(tmp_path):
    from normlab.export.strip import _scratch

    (tmp_path / "known").mkdir()
    for name in ("known", "new"):
        with suppress(InputError), _scratch(tmp_path / name) as scratch:
            (scratch / "model.pt2").write_text("half")
            raise InputError("an output differs")
    assert [path.name for path in tmp_path.rglob("*")] == ["known"]


HOSTILE = {
    "a foreign norm": (named("norm", "os.system"), "os"),
    "a foreign model": (named("model", "evil_package.inner.Evil"), "evil_package"),
    "no norm": (named("norm", 3), "damaged"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_checkpoint_is_refused(name, tmp_path):
    from normlab.commands.strip import main

    change, message = HOSTILE[name]
    values = copy.deepcopy(made())
    change(values)
    file = put(tmp_path / "best.ckpt", values)
    with pytest.raises(InputError, match=message):
        main([f"ckpt={file}", f"output={tmp_path / 'out'}"])
    assert not (tmp_path / "out").exists()
