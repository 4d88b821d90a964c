"""What an interval of a finding counts the error of."""

from enum import StrEnum


class Scope(StrEnum):
    """Seeds, or seeds and examples; the others say why a finding about examples has an interval over seeds alone."""

    SEEDS = "seeds"  # all that the finding generalises over
    EXAMPLES = "seeds_and_examples"
    NONE_KEPT = "no_scores"  # no run kept its score on each example
    SOME_KEPT = "some_scores"  # not every run did
    DIVERGED = "diverged"  # one side counts as chance on every seed, which no example says
    FEW_EXAMPLES = "few_examples"
