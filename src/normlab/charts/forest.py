"""The six claims in one forest plot: each interval in multiples of the margin that its finding fixed in advance.

Claims are about points, factors and ratios; divided by their margins they share an axis, and the shaded band is the
same for all. The axis is compressed like a logarithm away from zero, so that a claim at 80 margins leaves the others
readable.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from html import escape

from normlab.charts.colours import INKS
from normlab.findings.estimates import margin_of
from normlab.findings.finding import Finding
from normlab.findings.verdict import Estimate, Verdict
from normlab.findings.wording import interval_words, level_words, margin_words, said_words
from normlab.results.words import MARKS

STATES = {  # verdict → its colour on light and on dark
    "supported": ("#0a6640", "#7fdcae"),
    "contradicted": ("#9c1c28", "#ff9ea4"),
    "undecided": ("#6b4e00", "#f3cf6b"),
}


@dataclass(frozen=True)
class Bar:
    """A contrast's interval and mean on the axis, in per cent of its width; `decides`: the verdict is its."""

    low: float
    mean: float
    high: float
    decides: bool
    told: str


@dataclass(frozen=True)
class Claim:
    """A row of the plot.

    said     the claim's number in a sentence
    detail   interval and number of seeds
    more     margin, and which contrast it is if several must hold
    bars     none if there is no interval: an exact claim, or nothing was run
    """

    number: int
    finding: str
    question: str
    state: str
    mark: str
    said: str
    detail: str
    more: str
    bars: Sequence[Bar]


@dataclass(frozen=True)
class Forest:
    """The rows, and the shaded band and zero in per cent of the axis."""

    claims: Sequence[Claim]
    band: tuple[float, float]
    zero: float


def deciding_findings(found: Iterable[tuple[Finding, Verdict | None]]) -> list[tuple[Finding, Verdict | None]]:
    """One primary for each claim: its last successor that has a verdict; without any, the one that came first."""
    claims: dict[int, list[tuple[Finding, Verdict | None]]] = {}
    for finding, verdict in found:
        if finding.primary and finding.claim is not None:
            claims.setdefault(finding.claim, []).append((finding, verdict))
    chosen = []
    for claim in sorted(claims):
        earlier_first = sorted(claims[claim], key=lambda pair: pair[0].succeeded_by is None)
        judged = [pair for pair in earlier_first if pair[1] is not None]
        chosen.append(judged[-1] if judged else earlier_first[0])
    return chosen


def forest(found: Iterable[tuple[Finding, Verdict | None]]) -> Forest:
    """The finding that decides each claim, in the claims' order."""
    claims = [_claim(finding, verdict) for finding, verdict in deciding_findings(found)]
    ends = [end for claim in claims for bar in claim.bars for end in (bar.low, bar.high)]
    low, high = _squeezed(min([*ends, -2.0])), _squeezed(max([*ends, 2.0]))

    def at(multiple: float) -> float:
        return round(2 + 96 * (_squeezed(multiple) - low) / (high - low), 2)

    placed = [
        replace(claim, bars=[replace(b, low=at(b.low), mean=at(b.mean), high=at(b.high)) for b in claim.bars])
        for claim in claims
    ]
    return Forest(placed, (at(-1), at(1)), at(0))


def _claim(finding: Finding, verdict: Verdict | None) -> Claim:
    asked = finding.question or finding.title
    if verdict is None:
        return Claim(
            number=finding.claim or 0,
            finding=finding.name,
            question=asked,
            state="none",
            mark=MARKS["none"],
            said="Not run yet.",
            detail="",
            more="",
            bars=[],
        )
    bars = [] if finding.rule == "exact" else [b for e in verdict.estimates if (b := _bar(finding, verdict, e))]
    return Claim(
        number=finding.claim or 0,
        finding=finding.name,
        question=asked,
        state=verdict.state,
        mark=MARKS[verdict.state],
        said=said_words(finding, verdict),
        detail=_detail(verdict),
        more=_more(finding, verdict),
        bars=bars,
    )


def _detail(verdict: Verdict) -> str:
    estimate = verdict.deciding
    if estimate is None:
        return _unbroken(f"exact, n = {min((arm.n for arm in verdict.arms), default=0)}")
    return f"{_unbroken(interval_words(estimate))}, {_unbroken(f'n = {len(estimate.seeds)}')}"


def _unbroken(text: str) -> str:
    return text.replace(" ", "\N{NO-BREAK SPACE}")


def _more(finding: Finding, verdict: Verdict) -> str:
    if verdict.deciding is None:
        return ""
    several = f"; the weakest of {len(verdict.estimates)}" if len(verdict.estimates) > 1 else ""
    if finding.at_least is not None:
        several += f", of which {verdict.facts.get('supported', 0)} hold and {finding.at_least} must"
    return f", margin {margin_words(finding, finding.metric)}{several}"


def _bar(finding: Finding, verdict: Verdict, estimate: Estimate) -> Bar | None:
    """In multiples of the margin; None without a finite interval."""
    if estimate.interval is None or not math.isfinite(estimate.interval.low):
        return None
    margin = margin_of(finding)
    level = level_words(estimate.interval.level)
    return Bar(
        low=estimate.interval.low / margin,
        mean=estimate.mean / margin,
        high=estimate.interval.high / margin,
        decides=estimate.name == verdict.decides,
        told=f"{said_words(finding, verdict, estimate)} {level} interval {interval_words(estimate)}",
    )


def _squeezed(multiple: float) -> float:
    return math.copysign(math.log1p(abs(multiple)), multiple)


def picture(shown: Forest) -> str:
    """The plot as an SVG of its own, for README and slides: readable on light and on dark, text as text."""
    width, left, right, top, step = 860, 500, 840, 54, 66
    height = top + step * len(shown.claims) + 34

    def x(share: float) -> float:
        return round(left + (right - left) * share / 100, 1)

    low, high = map(x, shown.band)
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" '
        'font-family="system-ui, -apple-system, Segoe UI, Roboto, DejaVu Sans, sans-serif">',
        f"<title>Six textbook claims about batch norm and layer norm, tested</title><style>{_style()}</style>",
        f'<rect class="page" width="{width}" height="{height}"/>',
        '<text class="ink head" x="16" y="32">Six textbook claims, tested</text>',
        f'<rect class="band" x="{low}" y="{top - 8}" width="{high - low:.1f}" height="{height - top - 24}"/>',
        f'<line class="zero" x1="{x(shown.zero)}" x2="{x(shown.zero)}" y1="{top - 8}" y2="{height - 32}"/>',
        f'<text class="muted" x="{(low + high) / 2:.1f}" y="{height - 14}" text-anchor="middle">'
        "too small to matter</text>",
        f'<text class="muted" x="{right}" y="{height - 14}" text-anchor="end">for the claim →</text>',
    ]
    for index, claim in enumerate(shown.claims):
        lines += _row(claim, top + step * index, x, right)
    return "\n".join([*lines, "</svg>"]) + "\n"


def _row(claim: Claim, y: float, x: Callable[[float], float], right: float) -> list[str]:
    lines = [f'<text class="{claim.state} badge" x="16" y="{y + 14}">{claim.mark} {claim.state}</text>']
    words = textwrap.wrap(claim.said, 46, max_lines=3, placeholder=" …")
    lines += [
        f'<text class="ink" x="136" y="{y + 14 + 19 * n}">{escape(line, quote=False)}</text>'
        for n, line in enumerate(words)
    ]
    for n, bar in enumerate(claim.bars):
        at = y + 20 + 16 * (n - (len(claim.bars) - 1) / 2)
        weight = 4 if bar.decides else 2
        lines.append(
            f'<line class="{claim.state} bar" stroke-width="{weight}" x1="{x(bar.low)}" x2="{x(bar.high)}" y1="{at}" '
            f'y2="{at}"/><circle class="{claim.state} dot" cx="{x(bar.mean)}" cy="{at}" r="{weight + 1.5}"/>'
        )
    if not claim.bars:
        lines.append(f'<text class="muted" x="{right}" y="{y + 24}" text-anchor="end">exact: no interval</text>')
    return lines


def _style() -> str:
    def theme(dark: bool) -> str:
        page = "#14171c" if dark else "#ffffff"
        rules = [f".page{{fill:{page}}}", f".ink{{fill:{INKS['ink'][dark]}}}", f".muted{{fill:{INKS['muted'][dark]}}}"]
        rules += [f".band{{fill:{INKS['band'][dark]}}}", f".zero{{stroke:{INKS['muted'][dark]}}}"]
        for state, colours in [*STATES.items(), ("none", INKS["muted"])]:
            rules.append(f".{state}{{fill:{colours[dark]};stroke:{colours[dark]}}}")
        return "".join(rules)

    fixed = "text{font-size:14px;stroke:none!important}.head{font-size:20px;font-weight:700}.badge{font-weight:600}"
    return f"{theme(False)}@media(prefers-color-scheme:dark){{{theme(True)}}}{fixed}"
