"""A monitor's report as HTML: a part of a notebook, or a page that stands alone."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from normlab.diagnoses.diagnosis import Diagnosis

if TYPE_CHECKING:
    from normlab.monitor.report import Report

_STYLE = """
.norm-monitor { font: 16px/1.5 system-ui, sans-serif; max-width: 72em; }
.norm-monitor article { border-left: .4em solid #555; padding: .1em 1em; margin: 1em 0; }
.norm-monitor article.severe { border-color: #a00000; }
.norm-monitor article.warning { border-color: #8a5a00; }
.norm-monitor pre { white-space: pre-wrap; padding: .6em; border: 1px solid #767676; }
.norm-monitor table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
.norm-monitor caption { text-align: left; font-weight: bold; }
.norm-monitor th, .norm-monitor td { padding: .2em .8em; text-align: right; border-bottom: 1px solid #767676; }
.norm-monitor th:first-child { text-align: left; }
.norm-monitor .wide { overflow-x: auto; }
"""


def fragment(report: Report) -> str:
    """The report for a page that has its own headings of the first level, as a notebook's."""
    heads, rows = report.table()
    header = "".join(f'<th scope="col">{escape(head)}</th>' for head in heads)
    body = "\n".join(
        f'<tr><th scope="row">{escape(path)}</th>{"".join(f"<td>{escape(cell)}</td>" for cell in cells)}</tr>'
        for path, *cells in rows
    )
    caption = "The norms at the last look"
    table = (
        f'<div class="wide" role="region" aria-label="{caption}" tabindex="0"><table><caption>{caption}</caption>'
        f"<thead><tr>{header}</tr></thead><tbody>{body}</tbody></table></div>"
    )
    gap = f"<h3>From training to evaluation</h3><pre>{escape(str(report.gap))}</pre>" if report.gap is not None else ""
    found = "\n".join(map(_article, report)) or "<p>Nothing was found.</p>"
    return (
        f'<style>{_STYLE}</style><section class="norm-monitor"><h2>What NormMonitor found</h2>'
        f"<p>{escape(report.head())}</p>{found}{table if rows else ''}{gap}</section>"
    )


def _article(diagnosis: Diagnosis) -> str:
    sites = ", ".join(f"<code>{escape(site)}</code>" for site in diagnosis.sites)
    evidence = "".join(f"<li>{escape(name)}: {value:.3g}</li>" for name, value in diagnosis.evidence.items())
    severity = diagnosis.severity.name.lower()
    studied = f"<p>Studied: {escape(diagnosis.studied)}.</p>" if diagnosis.studied else ""
    return (
        f'<article class="{severity}"><h3>{severity}: {escape(diagnosis.cause)}</h3><p>{escape(diagnosis.says)}.</p>'
        f"{f'<p>At {sites}.</p>' if sites else ''}<ul>{evidence}</ul><pre><code>{escape(diagnosis.remedy)}</code></pre>"
        f"{studied}</article>"
    )


def page(report: Report) -> str:
    """A page that needs no other file."""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>NormMonitor</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1"></head>'
        f"<body><main><h1>NormMonitor</h1>{fragment(report)}</main></body></html>\n"
    )
