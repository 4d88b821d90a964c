"""Diagnoses of activations and gradients from layer to layer."""

from __future__ import annotations

import math
from statistics import fmean

from normlab.diagnoses.diagnosis import Case, Diagnosis, Severity, diagnosed
from normlab.diagnoses.observed import Look, Observed, typical
from normlab.diagnoses.settings import COLLAPSED

PLACES = 6  # layers and norms: in fewer, nothing multiplies
FADED = 1e-3  # of the gradient between the last and the first third of the places
GROWN = 1e3  # activation between the smallest of the first and the largest of the last third
DEAD = 0.5  # of a norm's channels
ALIKE = 0.1  # of a norm's output varies; where all examples come out alike, dropout of 0.1 leaves 0.04
FALLEN = 3.0  # times less than at first: pretrained Transformers may begin with little
LOST = 0.05  # of the gradient at the first layers against the last, relative to the first look
WARMED = 0.5  # of the highest learning rate: a training that begins above it has no warm-up
WARM_UP = "LinearLR(optimizer, 0.01, total_iters=1000)  # warm-up; or pre-norm, x = x + block(norm(x)); or lr / 10"
INITIAL = "nn.init.kaiming_normal_(net.get_submodule('{site}').weight)  # and those before it; or a norm in each block"


def _late(seen: Observed) -> list[Look]:
    """The last looks at layers, in the second half of the training so far."""
    return [look for look in seen.looks if look.places and look.step >= seen.steps / 2][-8:]


def _chain(looks: list[Look]) -> list[tuple[str, float, float]]:
    """Path, activation and gradient in the order of the forward pass, typical for these looks."""
    found: dict[str, tuple[list[float], list[float]]] = {}
    for look in looks:
        for place in look.places:
            activations, gradients = found.setdefault(place.path, ([], []))
            activations.append(place.activation)
            gradients.append(place.gradient)
    return [(path, typical(a), typical(g)) for path, (a, g) in found.items()]


def _thirds(values: list[float]) -> tuple[float, float]:
    """Geometric means of the first and the last third."""
    third = max(1, len(values) // 3)
    first, last = (fmean(map(math.log, part)) for part in (values[:third], values[-third:]))
    return math.exp(first), math.exp(last)


def fading(seen: Observed) -> list[Diagnosis]:
    """Gradients that don't reach the first layers: what happened in training explains what is seen of its network."""
    return collapsed(seen) or vanishing(seen)


def collapsed(seen: Observed) -> list[Diagnosis]:
    """Gradients that reached the first layers at first and no longer do, mostly because all examples come out alike.

    Post-norm Transformers without warm-up end so (Xiong et al. 2020, arXiv:2002.04745; Dong et al. 2021,
    arXiv:2103.03404).
    """
    late = _late(seen)
    began, now = _reach([look for look in seen.looks if look.places][:1]), _reach(late)
    if not (began > FADED and now < LOST * began):
        return []
    alike = [case for site in seen.sites.values() for case in _alike(seen, site.path)]
    if not alike and now > FADED * began:
        return []
    says = "the gradient reached the first layers at first, and no longer does"
    says += ", because all examples come out of here alike" if alike else ""
    rates = [look.rate for look in seen.looks if look.rate == look.rate]
    cold = bool(rates) and min(rates[:3]) > WARMED * max(rates)  # in a loop the first may be read before it is set
    says += "; the learning rate had no warm-up" if cold else ""
    cases = [
        Case(
            case.path,
            case.harm,
            {"gradient at first over last layers": now, "at first": began, **case.evidence}
            | ({"first learning rate": rates[0]} if cold else {}),
            Severity.SEVERE,
        )
        for case in alike or [Case(late[-1].places[0].path, 1.0, {})]
    ]
    return diagnosed("collapsed_training", cases, says, WARM_UP)


def _alike(seen: Observed, path: str) -> list[Case]:
    """A norm that all examples leave alike, as they didn't at first."""
    varied = [look.varied for look in seen.of(path) if look.varied == look.varied]
    now = typical([look.varied for look in seen.late(path)])
    if not now < ALIKE or now * FALLEN > varied[0] or _zero_gain(seen, path):
        return []
    return [Case(path, 1 / max(now, 1e-30), {"varying share of the output": now, "of it at step 1": varied[0]})]


def _zero_gain(seen: Observed, path: str) -> bool:
    """Whether nothing but its bias comes out of a norm, which `zero_gain` names."""
    return typical([look.absolute for look in seen.late(path)]) < COLLAPSED


def _gradients(looks: list[Look]) -> list[tuple[str, float]]:
    """Path and gradient in the order of the forward pass, of the places that get one."""
    return [(path, g) for path, _, g in _chain(looks) if g > 0 and math.isfinite(g)]


def _reach(looks: list[Look]) -> float:
    """The gradient at the first third of the places, with that at the last as the unit; NaN where there are few."""
    gradients = _gradients(looks)
    if len(gradients) < PLACES:
        return math.nan
    first, last = _thirds([g for _, g in gradients])
    return first / last


def vanishing(seen: Observed) -> list[Diagnosis]:
    """Gradients that shrink from the output to the input, or grow."""
    chain = _gradients(_late(seen))
    if len(chain) < PLACES:
        return []
    first, last = _thirds([g for _, g in chain])
    evidence = {"gradient at the first layers": first, "at the last": last}
    if first < FADED * last:
        says = "the gradient vanishes on its way to the first layers"
        case = Case(chain[0][0], last / first, evidence, Severity.SEVERE)
        return diagnosed("vanishing_gradient", [case], says, "x = x + block(norm(x))  # residual, or a norm per layer")
    if first > last / FADED:
        case = Case(chain[0][0], first / last, evidence, Severity.SEVERE)
        says = "the gradient grows on its way to the first layers"
        return diagnosed("exploding_gradient", [case], says, "x = x + block(norm(x))  # pre-norm, or warm-up")
    return []


def growing(seen: Observed) -> list[Diagnosis]:
    """Activations that grow from layer to layer, or are not finite."""
    chain = _chain(_late(seen))
    broken = [path for path, a, _ in chain if not math.isfinite(a)]
    overflown = any(look.finite == (True, False) for site in seen.sites for look in seen.of(site))
    remedy = "optimizer = AdamW(params, lr=lr / 10)  # with warm-up; and a norm in each block"
    if broken and not overflown:
        case = Case(broken[0], len(broken), {"layers": len(broken), "of": len(chain)}, Severity.SEVERE)
        return diagnosed("not_finite", [case], "activations are not finite from here on", remedy)
    if grown := _grown(chain, Severity.SEVERE):
        return diagnosed("exploding_activation", [grown], "activations grow from layer to layer", remedy)
    # large initial weights, whose first steps may have shrunk everything, and with it what the network can learn
    if grown := _grown(_chain([look for look in seen.looks if look.places][:1]), Severity.WARNING):
        says = "activations grew from layer to layer at the first step"
        return diagnosed("exploding_activation", [grown], says, INITIAL)
    return []


def _grown(chain: list[tuple[str, float, float]], severity: Severity) -> Case | None:
    """The growth of activations along a chain, if it is large."""
    values = [a for _, a, _ in chain if a > 0 and math.isfinite(a)]
    if len(values) < PLACES:
        return None
    first, last = _thirds(values)
    if last <= GROWN * first:
        return None
    return Case(chain[-1][0], last / first, {"activation at the first layers": first, "at the last": last}, severity)


def dead_units(seen: Observed) -> list[Diagnosis]:
    """Channels whose relu is never active."""
    cases = []
    for site in seen.sites.values():
        looks = seen.late(site.path)
        dead = typical([look.dead for look in looks])
        if dead >= DEAD and not _zero_gain(seen, site.path):
            severity = Severity.SEVERE if dead >= 0.9 else Severity.WARNING
            evidence = {"dead channels": dead, "mean bias": typical([look.bias for look in looks])}
            cases.append(Case(site.path, dead, evidence, severity))
    says = "most of its channels are negative for all examples, so the relu behind it passes nothing"
    return diagnosed("dead_units", cases, says, "nn.init.zeros_(net.get_submodule('{site}').bias)")


ALL = (growing, fading, dead_units)
