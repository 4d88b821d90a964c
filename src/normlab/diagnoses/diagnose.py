"""All diagnoses of a training, sorted by harm."""

from __future__ import annotations

from normlab.diagnoses import batches, modes, settings, signals
from normlab.diagnoses.diagnosis import Diagnosis
from normlab.diagnoses.observed import Observed

# in the order in which one of them makes those behind it likely
_FIRST = (*modes.ALL, *settings.ALL, *batches.ALL, *signals.ALL)


def diagnose(seen: Observed) -> list[Diagnosis]:
    """What is wrong, the most harmful first; empty where nothing was found."""
    found = [diagnosis for check in _FIRST for diagnosis in check(seen)]
    return sorted(found, key=lambda diagnosis: -diagnosis.severity)
