"""Text for users has none of the phrases that we used to write in place of the field's standard terms."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

from normlab.findings.read import read_finding

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src" / "normlab"
ROOMS = sorted(path.name for path in PACKAGE.iterdir() if (path / "__init__.py").exists())
DOCUMENTS = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "DATA.md", "Makefile", "conf/help.txt")),
    *sorted((ROOT / "docs").glob("*.md")),
    ROOT / "src" / "normlab" / "report" / "templates" / "page.html",
]
UNITS = "feature|run|cell|row|class|step|layer|seed|study|example|batch|fault|channel|rung|token|process|core"
PHRASES = {  # phrase → what to write instead
    r"\bgo(es)? on (from|with|offline)\b": "resumes, continues",
    r"\b(done|do it) again\b": "repeated",
    r"\bbegin(s)? anew\b": "starts again",
    r"\bother code\b": "the code has changed since",
    r"\b(data|results|runs|studies|packs) lie(s)? (in|inside|at|beside)\b": "are in, ship with",
    r"\bha(s|ve) (no|a) meaning\b": "is not valid, is invalid",
    r"\bwithout meaning\b": "invalid",
    r"\b(can be|be|is|are) told( apart)?\b": "reported, distinguished",
    r"\btell(s)? .{1,30} (apart|from nothing)\b": "distinguishes",
    r"\bbeside (that|those|it|accuracy|the reference)\b": "compared with, next to",
    r"\bside by side\b": "in parallel",
    r"\b(that|where they) (is|are) there already\b": "that exists",
    rf"\b(one|a|an|two|\d+) \w+ a ({UNITS})\b": "one … per …",
    rf"\b(row|line|file|dot|panel|folder|task)s? a ({UNITS})\b": "one … per …",
    r"\bpassed over\b": "ignored",
    r"\bof one's own\b": "your own",
    r"\bspeaks? for it\b": "favours it",
    r"\bthe interval holds\b": "the interval includes",
    r"\bif sooner\b": "if that comes first",
    r"\bwhat stands for\b": "the value for",
    r"\bstands? (aside|beside)\b": "is set aside, is next to",
    r"\banew\b": "again",
    r"\bin vain\b": "without success",
    r"\bwished for\b": "requested",
    r"\bis at home with\b": "is suited to",
    r"\bwithout a word\b": "silently, without a message",
    r"\b(is|are|be|been|has|have) taken down\b": "recorded",
    r"\bbut for\b": "except for",
    r"\bof whatever\b": "of any",
    r"\b(edit|thing|task) in hand\b": "current",
    r"\bhears? (of|signals|neither)\b": "receives, handles",
    r"\bwhat there is of\b": "the results of",
    r"\bas people have them\b": "users' own",
    r"\bpeople's own\b": "users' own",
    r"\bhas begun with\b": "was started with",
    r"\bwhoever\b": "anybody who",
    r"(?<!there )\bis no (number|cell|arm|seed|condition|permutation|file|image|checkpoint|session)\b": "is not a …",
}
OLD = re.compile("|".join(PHRASES), re.IGNORECASE)


def old(text: str) -> list[str]:
    return [found[0] for found in OLD.finditer(" ".join(text.split()))]


def words_of(node: ast.expr) -> str:
    """The constant text of an argument; an inserted value becomes `…`."""
    if isinstance(node, ast.JoinedStr):
        return "".join(words_of(part) for part in node.values)
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    return "…"


SAYING = {"InputError", "PictureError", "BusyError", "print", "say", "add_argument", "refuse", "Check", "add_note"}


def messages(path: Path) -> Iterator[tuple[int, str]]:
    """What a module says to its user: the texts in errors, in printed lines and in the help of its arguments."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if name in SAYING:
                for part in (*node.args, *(keyword.value for keyword in node.keywords)):
                    yield part.lineno, words_of(part)


def prose(path: Path) -> Iterator[tuple[int, str]]:
    """The docstrings and comments of a module."""
    text = path.read_text(encoding="utf-8")
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield getattr(node, "lineno", 1), ast.get_docstring(node) or ""
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_documents_are_plain_english(path: Path):
    assert old(re.sub(r"```.*?```", "", path.read_text(encoding="utf-8"), flags=re.S)) == []


def test_comments_of_configs_are_plain_english():
    found = {}
    for path in sorted((ROOT / "conf").rglob("*.yaml")):
        comments = " ".join(re.findall(r"(?:^|\s)# (.*)", path.read_text(encoding="utf-8")))
        found |= {path.name: old(comments)} if old(comments) else {}
    assert found == {}


def test_messages_are_plain_english():
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        found += [f"{path.name}:{line}: {old(text)} in {text!r}" for line, text in messages(path) if old(text)]
    assert found == []


@pytest.mark.parametrize("room", ROOMS)
def test_docstrings_and_comments_are_plain_english(room: str):
    found = []
    for path in sorted((PACKAGE / room).rglob("*.py")):
        found += [f"{path.name}:{line}: {old(text)} in {text!r}" for line, text in prose(path) if old(text)]
    assert found == []


def test_statements_of_findings_are_plain_english():
    found = {}
    for path in sorted((ROOT / "conf" / "finding").glob("*.yaml")):
        finding = read_finding(path)
        words = old(f"{finding.statement} {finding.expect}")
        found |= {path.name: words} if words else {}
    assert found == {}


def test_the_readme_has_at_most_900_words():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").split()) <= 900


OLD_ONES = """
interrupted, to go on from step 3
made by other code, to be done again
a table with a row a run
what can be told
one mean a feature
the other would wait in vain
a process that hears of a stop
'x' is no number
"""
ORDINARY = """
training goes on for 3 epochs
a margin of one point a student understands
the interval lies above the margin
two passes over the data, one row per run, compared with the reference
normlab tells you which; a step takes 3 ms
"""


@pytest.mark.parametrize("text", OLD_ONES.strip().splitlines())
def test_old_phrases_are_found(text: str):
    assert old(text)


@pytest.mark.parametrize("text", ORDINARY.strip().splitlines())
def test_ordinary_english_passes(text: str):
    assert not old(text)
