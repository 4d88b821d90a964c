"""Terms explain themselves, and prose shows no token of a formula."""

import re

import pytest

from normlab.config.shipped import CONF
from normlab.findings.labels import contrast_label
from normlab.findings.read import read_finding
from normlab.findings.verdict import Estimate
from normlab.findings.wording import formula_words
from normlab.report.glossary import TERMS, entry_id, marked
from normlab.results.words import cells_words, rule_words

FINDINGS = sorted((CONF / "finding").glob("*.yaml"))
# an arm's or a cell's raw name, as formulas have it: batch_4, layer@sorted
TOKEN = re.compile(r"\w+@\w+|\b[a-z]+(?:_[a-z0-9]+)+\b")
OPTION = re.compile(r"\b[a-z_]+(?:\.[a-z_0-9]+)*=\S+|\b[a-z]+\.[a-z_.]+\b")  # options are named as one types them


def test_a_term_is_a_button_that_its_entry_describes_once_a_text():
    text = str(marked("The margin is fixed; the margin is small, and arms are paired by seed."))
    assert text.count("<button") == 3
    for term in ("margin", "arm", "paired by seed"):
        assert f'aria-describedby="{entry_id(term)}"' in text


def test_text_is_escaped_and_kept():
    shown = str(marked("a <b>margin</b> & arms"))
    assert re.sub(r"</?button[^>]*>", "", shown) == "a &lt;b&gt;margin&lt;/b&gt; &amp; arms"


def test_a_term_within_a_word_is_none():
    assert "<button" not in str(marked("alarms, marginal, unseeded"))


@pytest.mark.parametrize("term", TERMS)
def test_every_entry_is_a_sentence_and_leads_somewhere(term):
    assert TERMS[term].endswith(".")
    assert entry_id(term) in str(marked(term))


@pytest.mark.parametrize("path", FINDINGS, ids=lambda path: path.stem)
def test_prose_has_no_raw_token_of_a_formula(path):
    finding = read_finding(path)
    names = set(finding.arms) | set(finding.conditions)
    prose = [rule_words(finding), cells_words(finding), finding.statement, finding.question or "", finding.title]
    for name, formula in finding.formulas.items():
        blank = Estimate.blank(name, str(formula), finding.metric, ["", ""], ratio=finding.rule == "ratio")
        prose += [formula_words(finding, blank), contrast_label(finding, name)]
    for text in prose:
        tokens = TOKEN.findall(OPTION.sub("", re.sub(r"`[^`]*`", "", text)))
        assert not [token for token in tokens if token in names or "@" in token], text
