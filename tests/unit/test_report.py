"""The report: what is on the page, what is said where something is missing, and that nothing is invented."""

import hashlib
import json
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace

import pytest
from made_up_studies import reported
from study_folders import ADVICE, save

from finding_files import finding, write
from normlab.charts.charts import curves
from normlab.charts.colours import colour_of
from normlab.charts.contrasts import favoured_colour, round_factors
from normlab.charts.figure import Chart, Shared, drawing, figure
from normlab.findings.judge import judge
from normlab.findings.read import read_finding
from normlab.findings.wording import estimate_words, formula_words
from normlab.folder.jsonfile import read_json, write_json
from normlab.folder.pack import sign_folder
from normlab.report.build import MOST_BYTES, RELEASED, bibtex, build, gather, own_studies
from normlab.report.latex import escaped
from normlab.study.planned import PlanRecord


@pytest.fixture
def conf(tmp_path):
    write(tmp_path / "conf", finding(advice=ADVICE))
    return tmp_path / "conf"


@pytest.fixture
def fixed(conf):
    return read_finding(conf / "finding" / "planted.yaml")


@pytest.fixture
def made(tmp_path, conf, fixed):
    """Builds the page of some studies; its text."""

    def page(*own: Path, reference: Path = tmp_path / "reference", papers: bool = False) -> str:
        if reference.is_dir():
            sign_folder(reference)  # as the committed one is
        written, page.problems = build(tmp_path / "report", own, conf, reference, papers=papers)
        return written.read_text(encoding="utf-8")

    return page


class Outline(HTMLParser):
    """What a screen reader goes by."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.headings: list[int] = []
        self.ids: list[str] = []
        self.hrefs: list[str] = []
        self.tags: dict[str, list[dict[str, str | None]]] = {}
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        self.tags.setdefault(tag, []).append(values)
        if re.fullmatch(r"h[1-6]", tag):
            self.headings.append(int(tag[1]))
        if "id" in values:
            self.ids.append(values["id"])
        if "href" in values:
            self.hrefs.append(values["href"])


def test_the_page_gives_the_verdict_and_the_number_that_decides(made, tmp_path, fixed):
    page = made(save(tmp_path / "outputs/studies/planted-quick", fixed, 0.05))
    assert made.problems == []
    shown = estimate_words(judge(fixed, reported(0.05, 8), 8, "quick", {}).estimates[0])
    assert shown.startswith("+5 points [")
    assert shown in page
    assert "supported</span>" in page
    assert "interval, margin 1 point)" in page
    assert "n\N{NO-BREAK SPACE}=\N{NO-BREAK SPACE}8\N{NO-BREAK SPACE}seeds" in page
    assert "python train.py finding=planted scale=quick" in page
    for row in reported(0.05, 8):
        assert row["id"] in page  # each seed's run can be told
    assert "Layer norm rather than batch norm" in page
    assert len(page.encode()) < MOST_BYTES


def test_the_page_needs_nothing_from_outside_and_has_no_dead_links(made, tmp_path, fixed):
    folder = save(tmp_path / "outputs/studies/planted-quick", fixed, 0.05)
    outline = Outline(made(folder, reference=save(tmp_path / "reference/quick", fixed, 0.04).parent))
    for href in outline.hrefs:
        assert not re.match(r"[a-z]+:", href) or href == "data:,"
        if href.startswith("#"):
            assert href[1:] in outline.ids, href
        elif href != "data:,":
            assert (tmp_path / "report" / href).exists(), href
    assert not any("src" in values for entries in outline.tags.values() for values in entries)
    assert len(outline.ids) == len(set(outline.ids))


def test_the_page_can_be_read_without_seeing_it(made, tmp_path, fixed):
    page = made(save(tmp_path / "outputs/studies/planted-quick", fixed, 0.05))
    outline = Outline(page)
    assert outline.headings.count(1) == 1
    assert all(after <= before + 1 for before, after in zip(outline.headings, outline.headings[1:], strict=False))
    assert len(outline.tags["caption"]) == len(outline.tags["table"])
    assert all("scope" in values for values in outline.tags["th"])
    charts = [values for values in outline.tags["svg"] if values["class"] == "chart"]
    assert len(charts) == 4  # what decides, rates, curves, inside
    assert all(len(values["aria-label"]) > 40 for values in charts)
    marks = re.findall(r'<(?:g|use|path)(?=[^>]* class="mark)[^>]*>', page)
    assert len(marks) == len(re.findall(r'<[^>]* class="mark[^>]*><title>[^<]', page)) > 50
    captions = re.findall(r"<figcaption>(.*?)</figcaption>", page.replace("\N{NO-BREAK SPACE}", " "))
    assert len(captions) == 4
    assert all("n = " in caption for caption in captions)


@pytest.mark.slow
def test_figures_and_tables_are_saved_for_papers(made, tmp_path, fixed):
    made(save(tmp_path / "outputs/studies/planted-quick", fixed, 0.05), papers=True)
    names = {
        f"planted-{chart}.{kind}" for chart in ("contrasts", "rates", "curves", "inside") for kind in ("svg", "pdf")
    }
    names |= {f"{name}-column.{kind}" for name in ("claims", "planted") for kind in ("svg", "pdf")}
    assert {path.name for path in (tmp_path / "report/figures").iterdir()} == names
    assert (tmp_path / "report/figures/planted-rates.pdf").read_bytes().startswith(b"%PDF")
    table = (tmp_path / "report/tables/planted.tex").read_text()
    assert table.count(r"\toprule") == table.count(r"\bottomrule") == 2
    assert r"layer norm $-$ batch norm & +5 points [+3.94, +6.25] &" in table
    verdicts = (tmp_path / "report/tables/verdicts.tex").read_text()
    for word in ("supported", "Metric", "Unit", "Margin", "points", "accuracy", "$n$"):
        assert word in verdicts, word


@pytest.mark.slow
def test_a_figure_for_a_single_column_has_its_width_and_type(made, tmp_path, fixed):
    made(save(tmp_path / "outputs/studies/planted-quick", fixed, 0.05), papers=True)
    for name in ("claims", "planted"):
        svg = (tmp_path / f"report/figures/{name}-column.svg").read_text(encoding="utf-8")
        width = re.search(r'<svg[^>]* width="([\d.]+)pt"', svg)
        assert width
        assert float(width[1]) == pytest.approx(3.3 * 72)
        sizes = re.findall(r"font(?:-size)?: (?:[\w ]*?)([\d.]+)px", svg)
        assert sizes
        assert set(map(float, sizes)) == {8.0}


def test_the_page_and_the_citation_name_the_same_version_and_date():
    cff = (Path(__file__).parents[2] / "CITATION.cff").read_text(encoding="utf-8")
    for key, value in (("version", re.search(r"version = \{(.+)\}", bibtex())), ("date-released", RELEASED)):
        assert f"{key}: {value if isinstance(value, str) else value[1]}" in cff
    assert RELEASED in bibtex()


@pytest.mark.slow
def test_a_report_again_keeps_pdfs_of_charts_that_have_not_changed(made, tmp_path, fixed):
    folder = save(tmp_path / "outputs/studies/planted-quick", fixed, 0.05)
    made(folder, papers=True)
    files = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "report/figures").iterdir()}
    assert made(folder, papers=True) == made(folder, papers=True)
    assert files == {path.name: path.stat().st_mtime_ns for path in (tmp_path / "report/figures").iterdir()}


@pytest.mark.parametrize(("mine", "agrees"), [(0.05, "✓ agree"), (0.2, "✗ do not agree")])
def test_your_study_and_the_reference_side_by_side(made, tmp_path, fixed, mine, agrees):
    reference = save(tmp_path / "reference/quick", fixed, 0.051).parent
    page = made(save(tmp_path / "outputs/studies/planted-quick", fixed, mine), reference=reference)
    assert agrees in page
    assert "your study planted-quick" in page
    assert "the reference quick" in page


def test_the_reference_alone(made, tmp_path, fixed):
    page = made(reference=save(tmp_path / "reference/quick", fixed, 0.05).parent)
    assert "your study" not in page.lower().replace("which norm", "")
    assert "the reference quick" in page


def test_without_results_the_page_says_what_to_run(made):
    page = made()
    assert "No results yet" in page
    assert "python train.py study=textbook scale=quick launcher=joblib" in page
    assert "python train.py finding=planted scale=quick" in page
    assert "<svg" not in page


def test_a_half_done_study_shows_what_is_there(made, tmp_path, fixed):
    folder = save(tmp_path / "outputs/studies/planted-quick", fixed, 0.05)
    (folder / "verdicts.json").unlink()
    page = made(folder)
    assert "planted-quick is incomplete" in page
    assert "has 16 of its reporting runs and no verdict yet" in page
    assert "supported</span> <span>" not in page  # no verdict that the study has not given


def test_a_study_with_one_seed(made, tmp_path, fixed):
    page = made(save(tmp_path / "outputs/studies/planted-quick", fixed, 0.05, n=1))
    assert "1 seeds are too few for a verdict" in page
    assert page.count("<svg") == 3  # no interval, no chart of it


def test_a_smoke_study_gives_no_advice(conf, tmp_path, fixed):
    folder = save(tmp_path / "outputs/studies/planted-smoke", fixed, 0.05, scale="smoke")
    assert not any(a.best for a in gather([folder], conf, tmp_path / "none").matrix.values())


def test_the_largest_scale_is_shown(conf, tmp_path, fixed):
    studies = tmp_path / "outputs/studies"
    folders = [save(studies / f"planted-{scale}", fixed, 0.05, scale) for scale in ("full", "quick", "smoke")]
    (section,) = gather(folders, conf, tmp_path / "none").sections
    assert [result.source.folder.name for result in section.results] == ["planted-full"]


def spoil_runs(folder: Path) -> None:
    text = (folder / "runs.csv").read_text().splitlines()
    (folder / "runs.csv").write_text("\n".join([*text[:3], text[3].replace("planted,tune", ","), *text[4:]]))


def spoil_header(folder: Path) -> None:
    (folder / "runs.csv").write_text("a,b\n1,2\n")


def spoil_verdicts(folder: Path) -> None:
    (folder / "verdicts.json").write_text("{")


def older_verdicts(folder: Path) -> None:
    values = read_json(folder / "verdicts.json")
    del values["verdicts"][0]["estimates"][0]["interval"]
    write_json(folder / "verdicts.json", values)


def spoil_curves(folder: Path) -> None:
    (folder / "curves.csv").write_text("finding,seed\nplanted,1\n")


def no_manifest(folder: Path) -> None:
    (folder / "manifest.json").write_text("[]")


def foreign(folder: Path) -> None:
    text = (folder / "runs.csv").read_text()
    (folder / "runs.csv").write_text(text + text.splitlines()[-1].replace("planted", "unheard") + "\n")


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (spoil_runs, "line 4: finding, stage, arm or seed is missing"),
        (spoil_header, "is not the table of a study: it has no column finding"),
        (spoil_verdicts, "verdicts.json is damaged"),
        (older_verdicts, "the verdict of planted is damaged or from another version"),
        (spoil_curves, "curves.csv has no column arm"),
        (no_manifest, "the origin of these tables is unknown"),
        (foreign, "contains unheard, which has no file in conf/finding"),
    ],
)
def test_what_cannot_be_read_is_said_and_the_rest_shown(made, tmp_path, fixed, spoil, said):
    folder = save(tmp_path / "outputs/studies/planted-quick", fixed, 0.05)
    spoil(folder)
    page = made(folder)
    assert any(said in problem for problem in made.problems), made.problems
    assert "What could not be read" in page
    assert said in page.replace("&#39;", "'")
    assert 'id="planted"' in page


def test_a_rule_that_has_changed_is_said_and_gives_no_advice(conf, tmp_path, fixed):
    folder = save(tmp_path / "outputs/studies/planted-quick", fixed, 0.05)
    write(conf, finding(advice=ADVICE, margin=0.02))
    report = gather([folder], conf, tmp_path / "none")
    assert "a different rule" in report.problems[0]
    assert not any(answer.best for answer in report.matrix.values())


def test_what_a_study_names_is_text_on_the_page(made, tmp_path, conf, fixed):
    write(conf, finding(advice=ADVICE, title="<script>alert(1)</script> & co"))
    page = made(save(tmp_path / "outputs/studies/planted-quick", fixed, 0.05, commit="<b>"))
    assert "<script>alert" not in page
    assert "<b>" not in page


def test_formulas_are_shown_as_their_numbers_are_signed(fixed):
    (estimate,) = judge(fixed, reported(0.05, 8), 8, "quick", {}).estimates
    assert formula_words(fixed, estimate) == "layer norm \N{MINUS SIGN} batch norm"
    lower = fixed.model_copy(update={"better": "lower"})
    assert formula_words(lower, estimate) == "batch norm \N{MINUS SIGN} layer norm"
    ratio = fixed.model_copy(update={"rule": "ratio", "better": "lower"})
    assert formula_words(ratio, replace(estimate, formula="layer - 1", ratio=True)) == "1 over layer norm"
    assert formula_words(ratio, replace(estimate, formula="layer - batch", ratio=True)) == "batch norm over layer norm"


def test_a_chart_keeps_its_text_its_numbers_and_its_colours():
    with drawing():
        fig, (ax,) = figure(2)
        chart = Chart("x", "title", "alt & text", "caption", fig)
        ax.plot([1.2345678], [0], "o", color="#0067a5", gid=chart.mark("seed 3: 0.123456 < 1"))
        ax.set_xlabel("1.23456 of a thing")
        fig, (ax,) = figure(2)
        other = Chart("y", "title", "alt", "caption", fig)
        ax.plot([2], [0], "o", color="#0067a5", gid=other.mark("seed 4: 2"))
        chart.render(None)
        other.render(None)
        shared = Shared()
        svg, second = chart.picture(shared), other.picture(shared)
        classes = shared.classes
    assert "<title>seed 3: 0.123456 &lt; 1</title>" in svg
    assert "1.23456 of a thing" in svg
    assert any("var(--norm-layer)" in style for style in classes)
    assert "#0067a5" not in "".join([svg, *classes])
    assert set(re.findall(r'class="(s\d+)"', svg)) <= set(classes.values())
    ids = [set(re.findall(r'\bid="([^"]+)"', one)) for one in (svg, second)]
    assert ids[0]
    assert not ids[0] & ids[1]  # they stand in one page
    drawn = set(re.findall(r'href="#([^"]+)"', svg))
    assert drawn
    assert drawn <= ids[0]
    assert set(re.findall(r'href="#([^"]+)"', second)) <= ids[0]  # the same dot has one definition
    assert not re.search(r'(?:x|y)="-?\d+\.\d\d', svg)


def test_the_grid_of_an_axis_is_one_path_through_all_its_ticks():
    with drawing():
        fig, (ax,) = figure(2)
        ax.plot([0, 4], [0, 1], color="#0067a5")
        ax.set_xticks([1, 2, 3])
        chart = Chart("x", "title", "alt", "caption", fig)
        chart.render(None)
        svg = chart.picture(Shared())
    vertical = re.findall(r'<path d="((?:M[\d.]+ [\d.]+v-[\d.]+)+)"', svg)
    assert sorted(path.count("M") for path in vertical) == [1, 3]  # the axis itself, and its grid


def test_a_study_that_validated_once_has_no_curve(conf, tmp_path, fixed):
    folder = save(tmp_path / "outputs/studies/planted-quick", fixed, 0.05)
    (section,) = gather([folder], conf, tmp_path / "none").sections
    (result,) = section.results
    assert curves(fixed, result) is not None
    last = max(row["step"] for row in result.curves)
    once = replace(result, curves=[row for row in result.curves if row["step"] == last])
    assert curves(fixed, once) is None
    renamed = replace(result, curves=[{**row, "arm": "of old"} for row in result.curves])
    assert curves(fixed, renamed) is None


def test_latex_prints_text_as_it_is():
    assert escaped("50 % of a_b & {c}") == r"50 \% of a\_b \& \{c\}"


def test_the_report_imports_no_torch():
    code = "import sys, normlab.report.build; print([m for m in ('torch', 'wandb', 'datasets') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_verdicts_are_taken_as_they_are(conf, tmp_path, fixed):
    folder = save(tmp_path / "outputs/studies/planted-quick", fixed, 0.05)
    values = read_json(folder / "verdicts.json")
    values["verdicts"][0]["state"] = "contradicted"  # whatever the rows would say
    (folder / "verdicts.json").write_text(json.dumps(values))
    (section,) = gather([folder], conf, tmp_path / "none").sections
    assert section.verdict.state == "contradicted"


@pytest.mark.slow
def test_a_running_study_shows_how_far_each_finding_is(made, tmp_path, conf, fixed):
    write(conf, finding(name="later", primary=False, claim=None, title="What comes later"), "later")
    later = read_finding(conf / "finding" / "later.yaml")
    folder = tmp_path / "outputs/studies/s-quick"
    record = PlanRecord(folder)
    record.plan([fixed, later], {"planted": {"tune": 20, "report": 16}, "later": {"report": 8}})
    trials = [SimpleNamespace(cell=fixed.cells[0], point=0.01, seed=1000 + n) for n in range(20)]
    record.begin(fixed, "tune", trials, [SimpleNamespace(id=f"run-{n}", code="c") for n in range(20)])
    for n in range(3):
        content = b'{"x": 1}'
        run = tmp_path / "outputs/runs" / f"run-{n}"
        run.mkdir(parents=True)
        (run / "summary.json").write_bytes(content)
        state = {"state": "finished", "code": "c", "summary": hashlib.sha256(content).hexdigest()}
        write_json(run / "status.json", state if n else {"state": "failed", "code": "c"})
    page = made(*own_studies(tmp_path / "outputs"), reference=save(tmp_path / "reference/quick", fixed, 0.05).parent)
    assert made.problems == []
    assert "s-quick is incomplete" in page
    assert (
        page.count("tuning 2 of 20 runs (1 failed), reporting 0 of 16 runs") == 2
    )  # on top, and among those without a verdict
    assert "later: reporting 0 of 8 runs" in page
    assert "supported</span>" in page  # by the reference


def test_runs_on_wandb_are_linked_and_offline_ones_named(made, tmp_path, fixed):
    folder = save(tmp_path / "outputs/studies/planted-quick", fixed, 0.05)
    runs = tmp_path / "outputs/runs"
    for name in ("layer-0", "layer-1", "layer-2", "layer-3"):
        fragment = runs / name / "wandb/offline-run-20260101_000000-x"
        fragment.mkdir(parents=True)
        (fragment / "run-x.wandb").touch()
    shutil.rmtree(runs / "layer-2/wandb")
    (runs / "layer-3/wandb/offline-run-20260101_000000-x/run-x.wandb.synced").touch()
    write_json(runs / "layer-0/links.json", {"wandb": "https://wandb.ai/me/p/runs/layer-0-1"})
    write_json(runs / "layer-3/links.json", {"wandb": "javascript:alert(1)"})
    page = made(folder)
    assert page.count('<a href="https://wandb.ai/me/p/runs/layer-0-1"') == 1
    assert page.count("W&amp;B: offline") == 1  # layer-1
    assert page.count("W&amp;B</a>") == 1
    assert "javascript:" not in page
    assert page.count("../outputs/runs/layer-") == 4


@pytest.mark.parametrize("better", ["higher", "lower"])
def test_seeds_have_the_colour_of_the_norm_that_a_contrast_favours(fixed, better):
    (estimate,) = judge(fixed, reported(0.05, 8), 8, "quick", {}).estimates
    assert favoured_colour(fixed.model_copy(update={"better": better}), estimate) == colour_of("layer")


@pytest.mark.parametrize(("low", "high"), [(0.95, 1.1), (0.6, 7), (0.4, 60), (1e-6, 1e6), (1e-130, 1e130)])
def test_factors_on_an_axis_are_few_and_1_is_among_them(low, high):
    ticks = round_factors(low, high)
    assert 2 < len(ticks) <= 8
    assert any(tick == pytest.approx(1) for tick in ticks)
    assert all(low <= tick <= high for tick in ticks)
