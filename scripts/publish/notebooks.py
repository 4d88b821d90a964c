"""Run notebooks and write them into docs/notebooks as pages of their own: answers can be opened, nothing is loaded."""

from __future__ import annotations

import re
import sys
import time
from pathlib import Path

import nbformat
from nbconvert import HTMLExporter
from nbconvert.preprocessors import ExecutePreprocessor

ROOT = Path(__file__).parents[2]
PAGES = ROOT / "docs/notebooks"
MOST_BYTES = 1_000_000
STYLE = """<meta name="viewport" content="width=device-width, initial-scale=1"><style>
:root { color-scheme: light dark; --page: #fff; --ink: #1b1f26; --code: #f3f5f8; --link: #0b57a4; }
@media (prefers-color-scheme: dark) { :root { --page: #14171c; --ink: #e8eaee; --code: #20252d; --link: #7fb6f5; } }
body { background: var(--page); color: var(--ink); font: 16px/1.5 system-ui, sans-serif; max-width: 52rem;
  margin: 2rem auto; padding: 0 1rem; }
a { color: var(--link); }
pre { background: var(--code); color: var(--ink); padding: 0.6rem 0.8rem; overflow-x: auto; font-size: 0.85rem; }
img { max-width: 100%; background: #fff; }
details { border: 1px solid; border-radius: 6px; padding: 0.4rem 0.8rem; margin: 1rem 0; }
summary { cursor: pointer; color: var(--link); }
table { border-collapse: collapse; display: block; overflow-x: auto; }
td, th { padding: 0.2rem 0.6rem; text-align: right; }
.anchor-link, .prompt, .jp-InputPrompt, .jp-OutputPrompt { display: none; }
</style>"""


def linked(body: str) -> str:
    """Links of a notebook, as the site has them: to pages of docs/, and to files of the repository."""
    body = re.sub(r'href="\.\./docs/([\w./-]+)\.md', r'href="../\1.html', body)
    body = re.sub(r'href="(\w+)\.ipynb', r'href="\1.html', body)
    return re.sub(r'href="\.\./(?!\w+[\w./-]*\.html)', 'href="../../', body)


def published(path: Path) -> Path:
    """Execute a notebook, and write its page.

    Raises:
        SystemExit: the page is too large to ship.
    """
    made = HTMLExporter(template_name="basic")  # first, so that a missing template costs no run
    book = nbformat.read(path, as_version=4)
    ExecutePreprocessor(timeout=1800).preprocess(book, {"metadata": {"path": str(path.parent)}})
    for cell in (each for each in book.cells if each.cell_type == "code"):
        # warnings of libraries name folders of this machine
        cell["outputs"] = [each for each in cell.get("outputs", []) if each.get("name") != "stderr"]
    body, _ = made.from_notebook_node(book)
    body = linked(body)
    body = re.sub(r"(?<=[ >=])/[^\s<]*?(?=/(outputs|notebooks|src)/)", ".", body)  # no folder of this machine
    title = path.stem[3:].replace("_", " ").capitalize()
    page = PAGES / f"{path.stem}.html"
    page.parent.mkdir(parents=True, exist_ok=True)
    head = f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title>{STYLE}</head>'
    page.write_text(f"{head}<body><main>{body}</main></body></html>\n", encoding="utf-8")
    if page.stat().st_size > MOST_BYTES:
        sys.exit(f"{page} has {page.stat().st_size:,} bytes: at most {MOST_BYTES:,} are shipped")
    return page


if __name__ == "__main__":
    for name in sys.argv[1:]:
        print(f"running {name} …", flush=True)
        began = time.monotonic()
        made = published(Path(name).resolve())
        print(f"{made.relative_to(ROOT)}: {made.stat().st_size / 1e3:.0f} kB, {time.monotonic() - began:.0f} s")
