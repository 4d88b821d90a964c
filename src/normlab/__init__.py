"""normlab: which normalisation should a network use, and why?"""

from importlib import import_module
from typing import Any

_HOMES = {
    "NormMonitor": "monitor.callback",
    "compare": "report.compare",
    "load_checkpoint": "models.checkpoint",
    "norm_sites": "sites.find",
    "swap_norms": "sites.swap",
    "recalibrate": "sites.recalibrate",
    "damage": "sites.recalibrate",
    "train_eval_gap": "monitor.gap",
}
__all__ = [
    "NormMonitor",
    "compare",
    "damage",
    "load_checkpoint",
    "norm_sites",
    "recalibrate",
    "swap_norms",
    "train_eval_gap",
]


def __getattr__(name: str) -> Any:
    # importing torch takes seconds, which `import normlab` alone must not
    if name in _HOMES:
        return getattr(import_module(f"normlab.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'normlab' has no attribute {name!r}")
