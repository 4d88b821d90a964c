"""Diagnoses of a norm's place, axes, eps, gain and bias."""

from __future__ import annotations

from normlab.diagnoses.diagnosis import Case, Diagnosis, Severity, diagnosed
from normlab.diagnoses.observed import Observed, typical

EPS = 1.0  # eps / variance: the output's deviation is 1 / √2 of what the gain says
COLLAPSED = 1e-3  # mean |gain|: nothing but the bias comes out
SETTLED = 20  # steps: a gain that starts at 0 on purpose has left it by then
SHRUNK = 0.5  # of the mean |gain| at the first look


def overflow(seen: Observed) -> list[Diagnosis]:
    """Statistics that are not finite although the input is."""
    cases = []
    for site in seen.sites.values():
        looks = seen.of(site.path)
        bad = [look for look in looks if look.finite == (True, False)]
        half = [look for look in looks if look.constant]
        if bad or half:
            evidence = {"looks": len(looks), "not finite": len(bad), "constant in float16": len(half)}
            cases.append(Case(site.path, len(bad) + len(half), evidence, Severity.SEVERE))
    says = "its statistics overflow: squares above 65,504 are infinite in float16"
    return diagnosed("overflow", cases, says, "y = norm(x.float()).to(x.dtype)")


def one_value(seen: Observed) -> list[Diagnosis]:
    """Statistics of one or two values."""
    cases = []
    for site in seen.named("group", "instance", "layer"):
        values = min((look.values for look in seen.of(site.path) if look.values), default=0)
        if values in (1, 2):
            severity = Severity.SEVERE if values == 1 else Severity.WARNING
            cases.append(Case(site.path, 1 / values, {"values per statistic": values}, severity))
    says = "minus its own mean, a single value is 0; two are +1 and -1 whatever they are"
    return diagnosed("one_value", cases, says, "nn.GroupNorm(num_channels // 8, num_channels)  # 8 channels per group")


def wrong_axis(seen: Observed) -> list[Diagnosis]:
    """Layer norm over positions."""
    cases = [Case(site.path, 1.0, {}, Severity.SEVERE) for site in seen.sites.values() if site.crosses]
    over = next((site.crosses for site in seen.sites.values() if site.crosses), "")
    remedy = "norm(x.movedim(1, -1)).movedim(-1, 1)  # with nn.LayerNorm(channels)"
    return diagnosed("wrong_axis", cases, f"it normalises over {over}", remedy)


def large_eps(seen: Observed) -> list[Diagnosis]:
    """A variance below eps."""
    cases = []
    for site in seen.sites.values():
        variance = typical([look.variance for look in seen.late(site.path)])
        if site.eps > 0 and variance > 0 and site.eps / variance > EPS:
            severity = Severity.SEVERE if site.eps / variance > 10 * EPS else Severity.WARNING
            cases.append(Case(site.path, site.eps / variance, {"eps": site.eps, "variance": variance}, severity))
    says = "eps is larger than the variance, so it scales and no longer normalises"
    return diagnosed("large_eps", cases, says, "net.get_submodule('{site}').eps = 1e-5  # or a larger input")


def zero_gain(seen: Observed) -> list[Diagnosis]:
    """Gains that let nothing through."""
    cases = []
    for site in seen.sites.values():
        gain = typical([look.absolute for look in seen.late(site.path)])
        if seen.steps >= SETTLED and gain < COLLAPSED:
            cases.append(Case(site.path, 1 - gain, {"mean |gain|": gain}, Severity.SEVERE))
    says = "its gain is 0, so its output is its bias"
    return diagnosed("zero_gain", cases, says, "nn.init.ones_(net.get_submodule('{site}').weight)")


def decayed_gain(seen: Observed) -> list[Diagnosis]:
    """Weight decay that has shrunk the gains."""
    cases = []
    for site in seen.sites.values():
        gains = [look.absolute for look in seen.of(site.path) if look.absolute == look.absolute]  # in whole looks
        if site.decay > 0 and gains and gains[-1] < SHRUNK * gains[0]:
            evidence = {"mean |gain|": gains[-1], "at first": gains[0], "weight decay": site.decay}
            cases.append(Case(site.path, gains[0] - gains[-1], evidence))
    says = "weight decay pulls its gain to 0"
    remedy = "AdamW([{'params': weights}, {'params': gains_and_biases, 'weight_decay': 0.0}])"
    return diagnosed("decayed_gain", cases, says, remedy)


def last_norm(seen: Observed) -> list[Diagnosis]:
    """A norm that makes the network's output."""
    cases = [Case(site.path, 1.0, {"channels": site.channels}) for site in seen.sites.values() if site.last]
    says = "it makes the network's output: if these are logits or predictions, their size is fixed"
    return diagnosed("norm_last", cases, says, "nn.Sequential(…, norm, nn.Linear(width, outputs))  # the layer last")


def cancelled_bias(seen: Observed) -> list[Diagnosis]:
    """A bias that the next norm subtracts."""
    found = [site for site in seen.sites.values() if site.cancels]
    cases = [Case(site.cancels, 1.0, {"norms": len(found)}, Severity.NOTE) for site in found]
    says = "the norm behind it subtracts its bias, which learns nothing"
    return diagnosed("cancelled_bias", cases, says, "bias=False  # in {site}")


ALL = (overflow, one_value, zero_gain, wrong_axis, large_eps, decayed_gain, last_norm, cancelled_bias)
