"""Studies with hostile names, damaged tables and foreign plans: the report shows the rest and writes in its folder."""

import json
from xml.etree import ElementTree

import pytest
import test_report
from study_folders import save

from finding_files import finding
from normlab.findings.finding import Finding
from normlab.findings.labels import contrast_label
from normlab.findings.printable import printable
from normlab.folder.jsonfile import read_json
from normlab.folder.study_table import read_rows, write_rows
from normlab.report.latex import escaped
from slowly import some

conf, fixed, made = test_report.conf, test_report.fixed, test_report.made
HOSTILE = [
    "a\x07b",
    "\ud800",
    "$x_{",
    "100 % _of_ \\alpha^2",
    "</title><script>alert(1)</script>",
    "w" * 5000,
    "日本 é ∑",
]


@pytest.mark.parametrize("name", some(HOSTILE, every=9), ids=range(len(HOSTILE)))
def test_any_name_can_be_shown_anywhere(made, tmp_path, name):
    """As JSON and YAML hold it: a contrast, a label, a title, and a condition of the formula's other side."""
    values = finding(contrasts={name: "layer - batch"}, also={name: "ms"}, title=name, advice=None)
    fixed = Finding.model_validate_json(json.dumps(printable(values)), strict=True)
    folder = save(tmp_path / "outputs/studies/planted-quick", fixed, 0.05)
    recorded = read_json(folder / "verdicts.json")
    recorded["verdicts"][0]["estimates"][0]["name"] = recorded["verdicts"][0]["decides"] = name
    (folder / "verdicts.json").write_text(json.dumps(recorded))
    (tmp_path / "conf/finding/planted.yaml").unlink()
    (folder / "plan.json").write_text(json.dumps({"findings": {"planted": values}, "runs": {}}))
    page = made(folder, papers=True)
    assert "<script>alert" not in page
    assert "\x07" not in page
    for svg in (tmp_path / "report/figures").glob("*.svg"):
        ElementTree.fromstring(svg.read_bytes())
    table = (tmp_path / "report/tables/planted.tex").read_text(encoding="utf-8")
    assert escaped(contrast_label(fixed, printable(name))) in table


@pytest.mark.parametrize("name", ["../../escaped", "/tmp/escaped", "..", "a/b", "x" * 200])
def test_a_plan_names_no_file_outside(made, tmp_path, fixed, name):
    folder = save(tmp_path / "outputs/studies/planted-quick", fixed, 0.05)
    values = json.loads(fixed.model_dump_json()) | {"name": name}
    (folder / "plan.json").write_text(json.dumps({"findings": {name: values}, "runs": {}}))
    for file in ("runs.csv", "curves.csv"):
        text = (folder / file).read_text()
        (folder / file).write_text(text.replace("planted,", f"{name},"))
    recorded = read_json(folder / "verdicts.json")
    recorded["verdicts"][0]["finding"] = name
    (folder / "verdicts.json").write_text(json.dumps(recorded))
    before = set(tmp_path.rglob("*"))
    made(folder, papers=True)
    assert any("is damaged or from another version" in problem for problem in made.problems)
    written = set(tmp_path.rglob("*")) - before
    assert all(path.is_relative_to(tmp_path / "report") for path in written)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t: t.replace(",0.01,0,layer-0", ",0.01,1,layer-0"), "has 2 runs of layer with seed 1 in stage report"),
        (lambda t: t.replace(",0.01,0,layer-0", ",0.01,inf,layer-0"), "seed=inf is not a whole number"),
        (lambda t: t.replace(",0.01,0,layer-0", ",0.01,first,layer-0"), "seed=first is not a whole number"),
        (lambda t: t.replace(",0.01,0,layer-0", ",best,0,layer-0"), "point=best is not a number"),
        (lambda t: t.replace("layer-0,finished,False", "layer-0,finished,perhaps"), "diverged=perhaps is neither"),
        (lambda t: t.replace("seed", "sed"), "it has no column seed"),
        (lambda t: "\x00\x01", "runs.csv"),
    ],
)  # fmt: skip
def test_a_damaged_table_is_named_and_the_rest_is_shown(made, tmp_path, fixed, change, words):
    folder = save(tmp_path / "outputs/studies/planted-quick", fixed, 0.05)
    path = folder / "runs.csv"
    path.write_text(change(path.read_text()))
    page = made(folder)
    assert any(words in problem for problem in made.problems), made.problems
    assert "+5 points [" in page


def test_metrics_that_are_no_numbers_are_left_out(made, tmp_path, fixed):
    folder = save(tmp_path / "outputs/studies/planted-quick", fixed, 0.05)
    rows = read_rows(folder / "runs.csv")
    for row, value in zip([row for row in rows if row["stage"] == "report"], ["inf", "-inf", "broken"], strict=False):
        row["test/accuracy"] = value
    write_rows(folder / "runs.csv", rows)
    assert "+5 points [" in made(folder)


def test_a_study_and_a_reference_of_other_arms(made, tmp_path, fixed):
    folder = save(tmp_path / "outputs/studies/planted-quick", fixed, 0.05)
    other = save(tmp_path / "reference/quick", fixed, 0.05)
    recorded = read_json(other / "verdicts.json")
    del recorded["verdicts"][0]["arms"][1]
    (other / "verdicts.json").write_text(json.dumps(recorded))
    assert "+5 points [" in made(folder)
