"""A result of `normlab doctor`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Verdict = Literal["ok", "warn", "fail"]


@dataclass(frozen=True)
class Check:
    """The result of one check.

    verdict  ok; warn: something that not everybody needs won't work; fail: runs will fail
    found    what was found
    advice   what to do about it
    """

    verdict: Verdict
    topic: str
    found: str
    advice: str = ""
