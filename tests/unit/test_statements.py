"""The textbook's statements: what is refused on planning, and the state that follows from the evidence."""

from pathlib import Path

import pytest
from omegaconf import OmegaConf

from finding_files import finding, write
from normlab.commands.study import show_statements
from normlab.config.errors import InputError
from normlab.config.shipped import CONF
from normlab.findings.judge import judge
from normlab.findings.read import read_finding
from normlab.statements.state import Standing, lacking_cells, standing_of, together
from normlab.statements.statement import FindingUsed, Statement, read_statements
from normlab.statements.table import lacking_words, lines, page_rows, state_words
from normlab.study.scale import read_study

NETWORKS = {"mlp": ["model=mlp"], "cnn": ["model=cnn"]}


@pytest.fixture
def make(tmp_path):
    """`make(**changes)`: a finding in an MLP and a CNN."""

    def made(**changes):
        values = {"common": [], "conditions": NETWORKS, "tune": None, "metric": "value", "primary": False, **changes}
        return read_finding(write(tmp_path, finding(**values)))

    return made


def verdict_of(found, differences, seeds=8, skip=()):
    """Its verdict if layer is better than batch by so much under each condition."""
    rows = [
        {"arm": cell.arm, "condition": cell.condition, "seed": seed, "id": f"{cell}-{seed}", "diverged": False}
        | {"value": 0.5 + 0.001 * (seed % 3) * (cell.arm == "layer") + shift * (cell.arm == "layer")}
        for cell in found.cells
        if str(cell) not in skip
        for shift in [differences[cell.condition]]
        for seed in range(seeds)
    ]
    return judge(found, rows, seeds, "full", {})


def stated(about="one_kind", **test):
    return Statement(
        text="Layer norm is better.", claim=2, about=about, tests=[FindingUsed(finding="planted", **test)], doubt="All."
    )


def stand(found, verdict, statement) -> Standing:
    return standing_of(statement, {found.name: found}, {} if verdict is None else {found.name: verdict})


@pytest.mark.parametrize(
    ("mlp", "cnn", "state"),
    [
        (0.1, 0.1, "supported"),
        (-0.1, 0.0, "contradicted"),
        (0.1, -0.1, "splits"),
        (0.1, 0.0095, "undecided"),
    ],
)
@pytest.mark.parametrize("primary", [False, True])
def test_the_state_of_two_conditions(make, mlp, cnn, state, primary):
    found = make(primary=primary)
    assert stand(found, verdict_of(found, {"mlp": mlp, "cnn": cnn}), stated()).state == state


def test_a_finding_that_counts_leaves_nothing_open_once_enough_of_its_contrasts_hold(make):
    counts = make(primary=True, claim=2, at_least=1)
    verdict = verdict_of(counts, {"mlp": 0.1, "cnn": 0.0095})
    assert verdict.state == "supported"
    assert stand(counts, verdict, stated()).state == "supported"
    every = make(primary=True, claim=2)
    assert stand(every, verdict_of(every, {"mlp": 0.1, "cnn": 0.0095}), stated()).state == "undecided"
    against = verdict_of(counts, {"mlp": 0.1, "cnn": -0.1})
    assert stand(counts, against, stated()).state == "splits"


def test_what_opposes_a_statement_is_turned_round(make):
    found = make()
    verdict = verdict_of(found, {"mlp": 0.1, "cnn": 0.1})
    assert stand(found, verdict, stated(opposes=True)).state == "contradicted"


def test_one_network_alone_never_supports_a_statement_about_networks(make):
    found = make()
    verdict = verdict_of(found, {"mlp": 0.1, "cnn": 0.1})
    assert state_words(stand(found, verdict, stated("networks"))) == "supported"
    one = stand(found, verdict, stated("networks", contrasts=["main @ mlp"]))
    assert state_words(one) == "supported, in the MLP only"
    assert state_words(stand(found, verdict, stated(contrasts=["main @ mlp"]))) == "supported"


def test_too_few_seeds_and_none(make):
    found = make()
    few = stand(found, verdict_of(found, {"mlp": 0.1, "cnn": 0.1}, seeds=3), stated())
    assert few.state == "undecided"
    assert {part.n for part in few.parts} == {3}
    assert stand(found, None, stated()).state == "not run"


def test_cells_that_a_stored_result_lacks_are_named(make):
    found = make()
    verdict = verdict_of(found, {"mlp": 0.1, "cnn": 0.1}, skip=("layer@cnn", "batch@cnn"))
    assert lacking_cells(found, verdict) == ["layer@cnn", "batch@cnn"]
    standing = stand(found, verdict, stated())
    assert "no run of planted: layer@cnn, planted: batch@cnn" in "\n".join(lines([standing]))
    assert state_words(standing) == "supported, as far as it was run"
    assert list(lacking_words([found], {found.name: verdict})) == [
        "planted: the results here have no run of layer@cnn, batch@cnn; this study runs what is missing"
    ]


def test_exact_findings_count_by_cell(make):
    bounds = {"layer@mlp": {"value": [0.4, None]}, "layer@cnn": {"value": [0.55, None]}}
    found = make(rule="exact", bounds=bounds, contrasts=None, margin=None, seeds="exact")
    verdict = verdict_of(found, {"mlp": 0.0, "cnn": 0.0}, seeds=2)
    standing = stand(found, verdict, stated())
    assert [(part.name, part.state) for part in standing.parts] == [
        ("layer@mlp", "supported"),
        ("layer@cnn", "contradicted"),
    ]


def test_together():
    assert together(["supported", "not run"]) == "supported"
    assert together(["supported", "undecided"]) == together(["contradicted", "undecided"]) == "undecided"
    assert together(["supported", "undecided", "contradicted"]) == "splits"
    assert together([]) == "not run"


@pytest.mark.parametrize(
    ("tests", "message"),
    [
        ([[]], "has no finding: list at least one under tests"),
        ([[{"finding": "other"}]], "names other, which the study doesn't run"),
        (
            [[{"finding": "planted", "contrasts": ["mian"]}]],
            "planted has no contrast 'mian'; there are main @ mlp",
        ),
        (
            [[{"finding": "planted"}], [{"finding": "planted", "opposes": True}]],
            "main @ mlp of planted in opposite",
        ),
        ([[{"finding": "planted", "oposes": True}]], "statements.entries.0.tests.0.oposes"),
    ],
)
def test_what_is_refused(make, tmp_path, tests, message):
    found = make()
    entries = [{"text": "It is so.", "claim": 2, "tests": each, "doubt": "All."} for each in tests]
    (tmp_path / "statements").mkdir()
    OmegaConf.save({"statements": {"title": "T", "entries": entries}}, tmp_path / "statements" / "t.yaml")
    with pytest.raises(InputError, match=message):
        read_statements(tmp_path, "t", [found])


def test_the_textbook_has_twenty_statements_and_every_claim():
    _, findings = read_study(CONF, "textbook")
    found = read_statements(CONF, "textbook", findings).entries
    assert len(found) >= 20
    assert {entry.claim for entry in found} == set(range(1, 7))
    shown = page_rows(CONF, [(each, None) for each in findings])
    assert [row["state"] for row in shown] == ["not run"] * len(found)


def test_the_references_folder_shows_its_statements(capsys):
    """It has verdicts and no plan, as a pack without records of runs."""
    show_statements([str(Path(__file__).parents[2] / "results/reference/full")])
    printed = capsys.readouterr().out
    assert "[supported] Layer norm does not depend on the batch size." in printed


def test_a_folder_without_a_study_shows_none(tmp_path):
    with pytest.raises(InputError, match=r"is not the folder of a study: it has neither plan\.json nor verdicts\.json"):
        show_statements([str(tmp_path)])
