"""Other norms at some sites (`model.norm_at`), before torch and in the built model."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args, get_type_hints

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra

from normlab.checks.config import checked
from normlab.config.components import code_named
from normlab.config.errors import InputError
from normlab.config.placement import check_schedules
from normlab.config.schema import RunConfig, Sizes
from normlab.models.base import facts_of
from normlab.models.build import build_model
from normlab.models.checkpoint import describe, load_checkpoint
from normlab.models.cnn import CNN
from normlab.models.gru import GRU
from normlab.models.lstm import LSTM
from normlab.models.transformer import Transformer
from normlab.norms.base import Norm
from normlab.runs.identity import run_id

CONF = Path(__file__).parents[2] / "conf"
SIZES = {
    "cnn": Sizes("images", (1, 8, 8), outputs=3),
    "mlp": Sizes("images", (1, 8, 8), outputs=3),
    "lstm": Sizes("tokens", (5,), outputs=3, vocabulary=7, positions=5),
    "gru": Sizes("tokens", (5,), outputs=3, vocabulary=7, positions=5),
    "transformer": Sizes("tokens", (5,), outputs=3, vocabulary=7, positions=5),
}


def composed(*overrides: str) -> RunConfig:
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return checked(compose("train", overrides=[*overrides, "logger=none", "model.width=16"]))


def norms(config: RunConfig) -> dict[str, str]:
    model = build_model(config.norm, config.model, SIZES[config.model_name])
    return {path: module.name for path, module in model.named_modules() if isinstance(module, Norm)}


@pytest.mark.parametrize(
    ("model", "norm_at", "expected"),
    [
        ("mlp", "{layer1: batch, layer4: none}", {"norms.0": "batch", "norms.1": "layer", "norms.3": "none"}),
        ("cnn", "{stem: none, layer2: batch}", {"norm": "none", "blocks.0.norm1": "layer", "blocks.1.norm2": "batch"}),
        ("cnn", "{shortcut: none, norm1: rms, layer3: batch, layer3.norm1: group}",
         {"blocks.2.norm1": "group", "blocks.1.norm1": "rms", "blocks.2.norm2": "batch",
          "blocks.2.shortcut_norm": "none"}),
        ("lstm", "{cell: none}", {"layers.0.forwards.norm_c": "none", "layers.0.forwards.norm_h": "layer"}),
        ("gru", "{candidate: batch}", {"layers.0.forwards.norms_h.1": "batch", "layers.0.forwards.norms_h.0": "layer"}),
        ("transformer", "{attention: rms, layer2: dyt, final: none}",
         {"blocks.0.before.0": "rms", "blocks.1.before.0": "rms", "blocks.1.before.1": "dyt", "final_norm": "none"}),
    ],
)  # fmt: skip
def test_a_site_has_the_norm_that_is_named_for_it(model, norm_at, expected):
    config = composed(f"model={model}", "norm=layer", f"model.norm_at={norm_at}")
    found = norms(config)
    assert {path: found[path] for path in expected} == expected
    assert "layer" in found.values()
    facts = facts_of(build_model(config.norm, config.model, SIZES[model]))
    assert all(f"{path} {name}" in facts["norms"] for path, name in expected.items())


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["model=cnn", "model.norm_at={attention: batch}"], "no site attention; its sites are layer1 to layer3, stem"),
        (["model=mlp", "model.norm_at={layer5: batch}"], "no site layer5; its sites are layer1 to layer4"),
        (["model=cnn", "model.norm_at={stem: bach}"], "Did you mean batch"),
        (["model=cnn", "model.norm_at={stem: {norm: rms, epss: 1}}"], "stem: there is no option norm.epss"),
        (["model=cnn", "model.init=fixup"], "model.init=fixup is for networks without norms: use norm=none"),
        (["model=cnn", "model.init=skipinit", "norm=none", "model.norm_at={stem: rms}"], "without norms"),
        (["model=cnn", "model.norm_at=batch"], "write which norm stands at which site"),
        (["model=lstm", "model.norm_at={cell: instance}"], "cell: norm=instance is not valid"),
        (["model=mlp", "model.norm_at={layer2: batch}", "task.batch_size=1"], "norm=batch .*single example"),
        (["model=mlp", "norm=batch_renorm", "task.batch_size=1"], "norm=batch_renorm has no statistics over a single"),
        (["model=gru", "norm=frozen_batch", "task.batch_size=1"], "norm=frozen_batch has no statistics over a single"),
        (["model=mlp", "model.norm_at={layer1: {momentum: 0.2}}"], r"as in layer1: \{norm: layer, momentum: 0.2\}"),
        (["model=mlp", "model.norm_at={layer1: null}"], "layer1 has no norm; name one, as in layer1: layer"),
        (["model=mlp", "norm=batch_renorm", "measure=landscape"], "r_steps=400 is more than measure.steps=200"),
        (
            ["model=mlp", "model.norm_at={layer1: frozen_batch}", "trainer.steps=9"],
            "layer1: norm.after=500 is more than",
        ),
        (["model=mlp", "norm=unit", "norm.k=1000"], "norm.k=1000"),
        (["model=mlp", "norm=regularized_batch", "measure=step_time"], "leaves out what norm=regularized_batch adds"),
        (["model=mlp", "norm=regularized_batch", "task.batch_size=1"], "norm=regularized_batch has no statistics"),
    ],
)
def test_refused_before_torch(options, said):
    with pytest.raises(InputError, match=said):
        composed(*options)


def test_a_site_that_the_options_leave_out_is_refused():
    config = composed("model=transformer", "model.norm_at={qk: rms}")
    with pytest.raises(InputError, match=r"no norm of the model is left for qk; it has layer1.attention"):
        norms(config)


def test_a_schedule_ends_within_the_steps_that_the_data_make_of_epochs():
    config = composed("model=mlp", "model.norm_at={layer2: batch_renorm}", "trainer.steps=null", "trainer.epochs=3")
    check_schedules(config, 400)
    with pytest.raises(InputError, match=r"r_steps=400 is more than the run's 399 steps \(trainer\.epochs=3\)"):
        check_schedules(config, 399)


def test_a_blocks_time_is_measured_before_a_schedules_end():
    assert composed("model=mlp", "norm=batch_renorm", "measure=step_time")


@pytest.mark.parametrize(
    ("model", "option"),
    [(CNN, "placement"), (LSTM, "placement"), (GRU, "placement"), (Transformer, "norm_position"), (CNN, "init"),
     (Transformer, "qk_norm")],
)  # fmt: skip
def test_every_placement_is_described_with_its_source(model, option):
    """Its name in the class's docstring, or in that of what the docstring refers to, and at its place a paper."""
    values = [v for part in get_args(get_type_hints(model.__init__)[option]) for v in (get_args(part) or [part])]
    named = {value.lower() for value in values if isinstance(value, str)} - {"he"}
    doc = (model.__doc__ or "").lower()
    assert named <= set(re.findall(r"\w+", doc))
    assert "site" in doc  # over which axes its statistics are
    assert len(re.findall(r"arxiv:\d{4}\.\d{4,5}", doc)) >= 2


def test_frozen_statistics_need_no_second_example():
    assert composed("model=mlp", "norm=frozen_batch", "norm.after=0", "task.batch_size=1")


def test_norms_by_site_are_part_of_a_runs_identity_and_code():
    plain, other, written = (
        composed("model=mlp", *more)
        for more in ([], ["model.norm_at={layer1: batch}"], ["model.norm_at={layer1: {norm: batch}}"])
    )
    assert run_id(plain, "") != run_id(other, "") == run_id(written, "")
    assert "normlab.norms.batch.BatchNorm" in code_named(other.norm, other.model)
    assert checked_again(other).model == other.model


def checked_again(config: RunConfig) -> RunConfig:
    return RunConfig.model_validate_json(config.model_dump_json())


def test_a_checkpoint_brings_its_norms_and_may_name_only_ours(tmp_path):
    config = composed("model=gru", "norm=layer", "model.norm_at={gates: batch}", "model.weights=weight_norm")
    model = build_model(config.norm, config.model, SIZES["gru"]).eval()
    state = {f"model.{name}": value for name, value in model.state_dict().items()}
    record = describe(config, SIZES["gru"], {})
    torch.save({"normlab": record, "state_dict": state}, tmp_path / "a.ckpt")
    tokens = torch.randint(7, (4, 5))
    torch.testing.assert_close(load_checkpoint(tmp_path / "a.ckpt")(tokens), model(tokens))
    record["config"]["model"]["norm_at"]["gates"]["_target_"] = "os.path.Evil"
    torch.save({"normlab": record, "state_dict": state}, tmp_path / "b.ckpt")
    with pytest.raises(InputError, match="would run code"):
        load_checkpoint(tmp_path / "b.ckpt")
