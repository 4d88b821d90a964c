"""normlab: which normalisation should a network use, and why?"""

from typing import Any

__all__ = ["load_checkpoint"]


def __getattr__(name: str) -> Any:
    # importing torch takes seconds, which `import normlab` alone must not
    if name == "load_checkpoint":
        from normlab.models.checkpoint import load_checkpoint

        return load_checkpoint
    raise AttributeError(f"module 'normlab' has no attribute {name!r}")
