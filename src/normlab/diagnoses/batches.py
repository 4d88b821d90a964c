"""Diagnoses of what batch statistics are taken over, and of the running ones."""

from __future__ import annotations

import math
from statistics import fmean, median

from normlab.diagnoses.diagnosis import Case, Diagnosis, Severity, diagnosed
from normlab.diagnoses.observed import Observed, SiteLook

FEW = 4  # examples: the deviation of a batch mean is half of a value's (Wu and He 2018, arXiv:1803.08494, fig. 1)
PAIR = 2  # examples: each value decides the statistics that it is normalised with
SHIFT = 0.5  # batch deviations between running and mean batch mean, averaged over looks
RATIO = math.log(2)  # between running and batch variance
EVALUATED = 2  # batches: one may be of a single class
LOOKS = 4  # fewer don't distinguish a lag from noise
YOUNG = 30  # steps: before, the default momentum of 0.1 has left more than 4 % of the initial statistics
NOISE = 0.09  # batch deviations of the running mean; momentum 0.1 has 0.085 with 5 independent examples per batch
ORDERED = 4.0  # times the variance between batches that independent examples have; its own deviation is below 1
ORDERED_LOOKS = 6
ORDERED_MOST = 64  # looks: enough to compare, and the same time however long a training is
PADDED = 0.1  # of the positions: a tenth of constant values changes the variance by a tenth


def few_examples(seen: Observed) -> list[Diagnosis]:
    """Batch norm over a handful of examples."""
    cases = []
    for site in seen.named("batch"):
        counts = [look.examples for look in seen.late(site.path) if look.training and look.values]
        if counts and median(counts) <= FEW:
            pair = median(counts) <= PAIR
            severity = Severity.SEVERE if pair else Severity.WARNING
            if seen.processes > 1 and not site.synchronised:
                continue  # which `unsynchronised` names
            cases.append(Case(site.path, 1 / median(counts), {"examples per batch": median(counts)}, severity))
    says = "statistics over so few examples are noisy, the more so the fewer positions an example has"
    return diagnosed("few_examples", cases, says, 'normlab.swap_norms(net, "group", example, groups=8)')


def unsynchronised(seen: Observed) -> list[Diagnosis]:
    """Batch norm over one process's handful of examples, although the others have more."""
    cases = []
    for site in seen.named("batch"):
        counts = [look.examples for look in seen.late(site.path) if look.training and look.values]
        if seen.processes > 1 and not site.synchronised and counts and median(counts) <= FEW:
            evidence = {"examples per process": median(counts), "processes": seen.processes}
            severity = Severity.SEVERE if median(counts) <= PAIR else Severity.WARNING
            cases.append(Case(site.path, 1 / median(counts), evidence, severity))
    says = "each process normalises its few examples alone, and only the first one's running statistics are kept"
    remedy = "net = nn.SyncBatchNorm.convert_sync_batchnorm(net)  # before DistributedDataParallel"
    return diagnosed("unsynchronised_statistics", cases, says, remedy)


def shifted_data(seen: Observed) -> list[Diagnosis]:
    """Evaluated batches whose statistics all differ in the same way from the running ones, which training's don't."""
    for site in seen.named("batch"):
        evaluated = [look for look in seen.evaluated.get(site.path, ()) if look.shift and not look.training][-8:]
        trained = [look for look in seen.late(site.path) if look.training and look.shift]
        if len(evaluated) < EVALUATED or len(trained) < LOOKS or site.frozen:
            continue
        (shift, ratio), (own, _) = _lag(evaluated), _lag(trained[-LOOKS:])
        if shift > SHIFT and shift > 2 * own:
            evidence = {"shift in evaluation": shift, "in training": own, "variance ratio": math.exp(ratio)}
            says = "evaluated data differ from those of training, and its running statistics are the training data's"
            remedy = (
                "normlab.recalibrate(copy.deepcopy(net), evaluated_batches)  # better? the data are prepared otherwise"
            )
            return diagnosed("shifted_data", [Case(site.path, shift, evidence)], says, remedy)
        return []  # later norms also see other classes, where the evaluated batches are sorted
    return []


def _lag(looks: list[SiteLook]) -> tuple[float, float]:
    """RMS over channels of the mean shift, beyond what as many independent looks would have; mean log ratio."""
    size = min(len(look.shift) for look in looks)
    means = [fmean(look.shift[i] for look in looks) for i in range(size)]
    noise = looks[-1].chance ** 2 * math.pi / 2 / len(looks)
    shift = math.sqrt(max(0.0, fmean(mean * mean for mean in means) - noise))
    return shift, fmean(fmean(look.log_ratio[:size]) for look in looks)


def stale(seen: Observed) -> list[Diagnosis]:
    """Running statistics that all batches differ from in the same direction."""
    cases = []
    for site in seen.named("batch"):
        looks = [look for look in seen.late(site.path) if look.training and look.shift]
        if seen.steps < YOUNG or len(looks) < LOOKS or site.frozen:
            continue
        shift, ratio = _lag(looks[-LOOKS:])
        if shift > SHIFT or abs(ratio) > RATIO:
            left = (1 - site.momentum) ** seen.steps if site.momentum else 0.0
            evidence = {"shift": shift, "variance ratio": math.exp(ratio), "initial weight left": left}
            harsh = shift > 2 * SHIFT or abs(ratio) > 2 * RATIO
            severity = Severity.SEVERE if harsh else Severity.WARNING
            cases.append(Case(site.path, shift / SHIFT + abs(ratio) / RATIO, evidence, severity))
    says = "running statistics lag behind the batches', so eval mode is another network"
    return diagnosed("stale_statistics", cases, says, "normlab.recalibrate(net, batches)  # or a larger momentum")


def noisy(seen: Observed) -> list[Diagnosis]:
    """Running statistics that are those of the last few batches."""
    cases = []
    for site in seen.named("batch"):
        looks = [look for look in seen.late(site.path) if look.training and look.shift]
        if len(looks) < LOOKS or not site.momentum:
            continue
        mean = median(fmean(map(abs, look.shift)) for look in looks)
        deviation = median(fmean(map(abs, look.log_ratio)) for look in looks) / 2
        # what is beyond chance is a lag; behind another batch norm the means hardly vary, but the deviations do
        noise = min(max(mean, deviation), looks[-1].chance) * math.sqrt(site.momentum / (2 - site.momentum))
        if noise > NOISE and looks[-1].examples > FEW:  # otherwise the batch is what is wrong
            cases.append(Case(site.path, noise, {"noise": noise, "momentum": site.momentum}))
    says = "running statistics follow single batches"
    return diagnosed("noisy_statistics", cases, says, "net.get_submodule('{site}').momentum = 0.1")


def ordered(seen: Observed) -> list[Diagnosis]:
    """Batches whose inputs differ more than independent examples would."""
    live = [site.path for site in seen.named("batch") if any(look.training for look in seen.late(site.path))]
    inputs = [look.inputs for look in seen.looks[-ORDERED_MOST:] if look.inputs is not None and look.training]
    inputs = [found for found in inputs if found[2] == inputs[-1][2] and len(found[0]) == len(inputs[-1][0])]
    if not live or len(inputs) < ORDERED_LOOKS:
        return []
    between = sum(_variance(column) for column in zip(*(mean for mean, _, _ in inputs), strict=True))
    within = fmean(sum(var) for _, var, _ in inputs)
    ratio = inputs[-1][2] * between / within if within > 0 else 0.0
    if not ratio > ORDERED:
        return []
    evidence = {"variance between batches / independent examples": ratio}
    case = Case(live[0], ratio, evidence, Severity.SEVERE)
    says = "batches are no random samples, so each is normalised with statistics of its own kind"
    return diagnosed("ordered_batches", [case], says, "DataLoader(data, batch_size=…, shuffle=True)")


def _variance(values: tuple[float, ...]) -> float:
    mean = sum(values) / len(values)  # the statistics module is exact, and a hundred times as slow
    return sum((value - mean) ** 2 for value in values) / (len(values) - 1)


def padding(seen: Observed) -> list[Diagnosis]:
    """Constant ends of sequences inside batch statistics."""
    cases = []
    for site in seen.named("batch"):
        shares = [look.padded for look in seen.late(site.path) if look.training]
        if shares and median(shares) >= PADDED:
            severity = Severity.SEVERE if median(shares) >= 0.5 else Severity.WARNING
            cases.append(Case(site.path, median(shares), {"share of padding": median(shares)}, severity))
    says = "padding counts in the batch statistics, so an example's output depends on its neighbours' lengths"
    remedy = "y = norm(x, mask)  # a norm of normlab, or flatten the real positions: norm(x.transpose(1, 2)[mask])"
    return diagnosed("padding_in_statistics", cases, says, remedy)


def double_update(seen: Observed) -> list[Diagnosis]:
    """The same batch counts twice in the running statistics."""
    cases = []
    for site in seen.named("batch"):
        looks = [look for look in seen.of(site.path) if look.training and site.tracked]
        twice = [look for look in looks if look.repeated or look.updates > 0]
        if looks and len(twice) >= len(looks) / 2:
            late = fmean(look.updates for look in looks)
            cases.append(Case(site.path, late, {"looks": len(looks), "updates after the forward pass": late}))
    says = "running statistics are updated twice with the same batch (checkpointing, or a second forward pass)"
    return diagnosed("double_update", cases, says, "norm.momentum = 1 - (1 - norm.momentum) ** 0.5")


ALL = (few_examples, unsynchronised, ordered, stale, padding, shifted_data, noisy, double_update)
