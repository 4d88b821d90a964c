"""Diagnoses of training and eval mode."""

from __future__ import annotations

from normlab.diagnoses.diagnosis import Case, Diagnosis, Severity, diagnosed
from normlab.diagnoses.observed import Observed

MOST = 0.8  # of the looks: a validation pass that computes gradients may be among them


def training_at_evaluation(seen: Observed) -> list[Diagnosis]:
    """Norms in training mode while the network is evaluated."""
    cases = [
        Case(path, count, {"evaluated batches": count, "of": seen.evaluations}, Severity.SEVERE)
        for path, count in seen.unset.items()
    ]
    says = "evaluation normalises with the evaluated batch and changes the running statistics"
    return diagnosed("training_mode_at_evaluation", cases, says, "net.eval()  # before evaluation; net.train() after")


def updated_by_evaluation(seen: Observed) -> list[Diagnosis]:
    """Running statistics that an evaluation changed although the norms began it in eval mode."""
    cases = [
        Case(path, count, {"evaluations": count}, Severity.SEVERE)
        for path, count in seen.leaked.items()
        if path not in seen.unset
    ]
    says = "evaluation changes the running statistics"
    return diagnosed("statistics_from_evaluation", cases, says, "net.eval()  # and no train() in validation_step")


def evaluated_in_training(seen: Observed) -> list[Diagnosis]:
    """Norms in eval mode while the network is trained."""
    cases = []
    for site in seen.named("batch"):
        looks = seen.late(site.path)
        still = sum(not look.training for look in looks)
        if not site.tracked or site.frozen or not looks or still < MOST * len(looks):
            continue
        before = any(look.training for look in seen.of(site.path))
        evidence = {"looks in eval mode": still, "of": len(looks)}
        severity = Severity.SEVERE if before else Severity.WARNING
        cases.append(Case(site.path, still, evidence, severity))
    says = "it is in eval mode during training, so its running statistics no longer follow"
    return diagnosed("eval_mode_in_training", cases, says, "net.train()  # after each evaluation")


def frozen_but_live(seen: Observed) -> list[Diagnosis]:
    """Frozen parameters, and running statistics that still change."""
    cases = []
    for site in seen.named("batch"):
        live = [look for look in seen.late(site.path) if look.training]
        if site.frozen and site.tracked and live:
            cases.append(Case(site.path, len(live), {"looks in training mode": len(live)}))
    says = "its parameters are frozen, but its running statistics change with every batch"
    return diagnosed("frozen_but_live", cases, says, "net.get_submodule('{site}').eval()  # after each net.train()")


ALL = (training_at_evaluation, updated_by_evaluation, evaluated_in_training, frozen_but_live)
