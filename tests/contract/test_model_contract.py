"""What every model promises; models and norms are found by their YAML."""

import inspect
import math
from functools import lru_cache
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from hydra.utils import get_class
from omegaconf import OmegaConf

from norm_sites import OURS, THOROUGH
from normlab.config.schema import InputError, Sizes
from normlab.models.base import outputs_of
from normlab.models.build import build_model
from normlab.norms.base import Norm

CONF = Path(__file__).parents[2] / "conf"
MODELS = sorted(path.stem for path in (CONF / "model").glob("*.yaml") if path.stem != "module")
NORMS = sorted(OURS)
SIZES = {
    "images": Sizes("images", (1, 8, 8), outputs=5),
    "features": Sizes("features", (6, 4), outputs=5, positions=6),
    "tokens": Sizes("tokens", (6,), outputs=5, vocabulary=9, positions=6),
    "language": Sizes("tokens", (6,), outputs=9, vocabulary=9, positions=6, causal=True),
}


def node(group: str, name: str) -> dict:
    found = OmegaConf.to_container(OmegaConf.load(CONF / group / f"{name}.yaml"))
    found.pop("defaults", None)  # the task and the optimiser that go with a model
    return found


def smaller(model: str) -> dict:
    return {**node("model", model), "width": 16}


@lru_cache
def model_class(name: str) -> type:
    return get_class(node("model", name)["_target_"])


def takes(model: str) -> list[str]:
    kinds = model_class(model).kinds
    return [name for name, sizes in SIZES.items() if sizes.kind in kinds and (name != "language" or "tokens" in kinds)]


CASES = [(model, sizes) for model in MODELS for sizes in takes(model)]


def example(sizes: Sizes, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    if sizes.kind == "tokens":
        return torch.randint(sizes.vocabulary, (4, *sizes.shape))
    return torch.randn(4, *sizes.shape, dtype=dtype)


TRIED = pytest.mark.parametrize(
    "tried",
    [
        sorted(THOROUGH & set(NORMS)),
        pytest.param(sorted(set(NORMS) - THOROUGH), marks=pytest.mark.slow),
    ],
    ids=["", "newer"],
)


def norms_for(model: str, sizes: str, tried: list[str]) -> list[str]:
    """Norms that the model accepts; the others are refused by name of what works."""
    accepted = []
    for norm in tried:
        try:
            build_model(node("norm", norm), smaller(model), SIZES[sizes])
        except InputError as error:
            assert "norm=" in str(error)  # noqa: PT017
        else:
            accepted.append(norm)
    return accepted


@pytest.mark.parametrize("model", MODELS)
def test_yaml_lists_every_option_with_its_default(model):
    parameters = inspect.signature(model_class(model).__init__).parameters.values()
    defaults = {p.name: p.default for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY}
    options = {key: value for key, value in node("model", model).items() if not key.startswith("_")}
    assert options == defaults
    assert "width" in options


@pytest.mark.parametrize("model", MODELS)
def test_declares_the_layouts_it_uses(model):
    used = {
        module.layout
        for sizes in takes(model)
        for module in build_model(node("norm", "layer"), smaller(model), SIZES[sizes]).modules()
        if isinstance(module, Norm)
    }
    assert used == set(model_class(model).layouts)


@TRIED
@pytest.mark.parametrize(("model", "sizes"), CASES)
def test_every_norm_takes_one_step(model, sizes, tried):
    accepted = norms_for(model, sizes, tried)
    assert {"none", "batch", "layer", "rms", "dyt", "derf", "scale"} & set(tried) <= set(accepted)
    for norm in accepted:
        torch.manual_seed(0)
        built = build_model(node("norm", norm), smaller(model), SIZES[sizes]).double()
        inputs = example(SIZES[sizes], torch.float64)
        logits = built(inputs)
        positions = (SIZES[sizes].shape[0],) if SIZES[sizes].causal else ()
        assert logits.shape == (4, *positions, SIZES[sizes].outputs)
        assert logits.dtype == torch.float64
        logits.logsumexp(-1).sum().backward()
        unused = [name for name, p in built.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
        assert not unused, norm


@TRIED
@pytest.mark.parametrize(("model", "sizes"), CASES)
def test_norms_share_the_initial_values_of_all_other_tensors(model, sizes, tried):
    def own(norm: str) -> dict[str, torch.Tensor]:
        torch.manual_seed(3)
        built = build_model(node("norm", norm), smaller(model), SIZES[sizes])
        inside = tuple(f"{name}." for name, module in built.named_modules() if isinstance(module, Norm))
        return {name: p for name, p in built.named_parameters() if not name.startswith(inside)}

    reference = own("none")
    for norm in norms_for(model, sizes, tried):
        values = own(norm)
        assert values.keys() == reference.keys()
        assert all(torch.equal(values[name], reference[name]) for name in reference), norm


@pytest.mark.parametrize(("model", "sizes"), CASES)
def test_says_all_its_sites(model, sizes):
    built = build_model(node("norm", "layer"), smaller(model), SIZES[sizes])
    sites = [site.norm for site in built.sites()]
    assert sorted(sites) == sorted(name for name, module in built.named_modules() if isinstance(module, Norm))
    for site in built.sites():
        assert (site.fed_by is None) == bool(site.obstacle)
        assert site.fed_by is None or built.get_submodule(site.fed_by).weight is not None


@pytest.mark.parametrize(("model", "sizes"), CASES)
def test_trains_under_autocast(model, sizes):
    built = build_model(node("norm", "layer"), smaller(model), SIZES[sizes])
    with torch.autocast("cpu", torch.bfloat16):
        logits = built(example(SIZES[sizes]))
    logits.float().logsumexp(-1).sum().backward()
    assert all(p.grad.isfinite().all() for p in built.parameters())


@pytest.mark.parametrize(("model", "sizes"), CASES)
def test_hidden_layers_are_as_many_as_the_options_say(model, sizes):
    built = build_model(node("norm", "layer"), smaller(model), SIZES[sizes])
    inputs = example(SIZES[sizes])
    with outputs_of(built.hidden_layers()) as kept:
        logits = built(inputs)
    options = smaller(model)
    depth = model_class(model).depth
    assert len(kept) == (math.prod(options[name] for name in depth) if depth else 0)
    for earlier, later in pairwise(kept):  # each is read by the next, shortcuts included
        (gradient,) = torch.autograd.grad(later.sum(), earlier, retain_graph=True)
        assert gradient.shape == earlier.shape
    if kept:
        assert torch.autograd.grad(logits.sum(), kept[-1])[0].abs().sum() > 0


@pytest.mark.parametrize(("model", "sizes"), CASES)
def test_unfused_every_norm_is_called(model, sizes):
    built = build_model(node("norm", "layer"), smaller(model), SIZES[sizes])
    before, inputs = built.facts(), example(SIZES[sizes])
    expected = built(inputs)
    norms = [module for module in built.modules() if isinstance(module, Norm)]
    with built.unfused(), outputs_of(norms) as kept:
        torch.testing.assert_close(built(inputs), expected, rtol=1e-4, atol=1e-5)
    assert len(kept) >= len(norms)
    assert built.facts() == before


@pytest.mark.parametrize(("model", "sizes"), [case for case in CASES if SIZES[case[1]].kind == "tokens"])
def test_token_vectors_are_what_tokens_become(model, sizes):
    built = build_model(node("norm", "layer"), smaller(model), SIZES[sizes])
    with outputs_of([built.token_vectors()]) as kept:
        built(example(SIZES[sizes]))
    assert kept[0].shape[:2] == (4, 6)
    assert kept[0].ndim == 3


@pytest.mark.parametrize("model", MODELS)
def test_a_models_file_names_a_task_and_an_optimiser_that_fit(model):
    defaults = OmegaConf.load(CONF / "model" / f"{model}.yaml").defaults
    chosen = {key.split("@")[0].removeprefix("override /"): name for each in defaults for key, name in each.items()}
    assert set(chosen) == {"task", "optim"}
    assert all((CONF / group / f"{name}.yaml").is_file() for group, name in chosen.items())
