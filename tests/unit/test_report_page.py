"""The report in a real browser: silent, accessible, and usable at every width, in both themes, by keyboard."""

import json
import re
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest
from made_up_textbook import save_textbook
from study_folders import ADVICE, save

from finding_files import finding, write
from normlab.findings.read import read_finding
from normlab.report.build import MOST_BYTES, build

CHROMIUM = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), ""
)
AXE = "axe-core@4.14.1"  # MPL-2.0; fetched for the test, not kept
pytestmark = [pytest.mark.slow, pytest.mark.skipif(not CHROMIUM, reason="no Chromium on this machine")]


@pytest.fixture(scope="module")
def page(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    fixed = read_finding(write(folder / "conf", finding(advice=ADVICE)))
    own = save(folder / "outputs/studies/planted-full", fixed, 0.05, "full")
    reference = save(folder / "reference/quick", fixed, 0.04).parent
    return build(folder / "report", [own], folder / "conf", reference)[0]


def opened(page: Path, script: str, width: int = 1280, theme: str = "light") -> tuple[dict, str]:
    """What a script reports of the page once it has loaded, and what the browser's console says.

    The page lies in a frame of that width, as windows can't be that narrow; the script answers by `tell(values)`.
    """
    inside = page.with_name(f"inside-{width}-{theme}.html")
    tell = "const tell = (values) => parent.postMessage(JSON.stringify(values), '*');"
    script = f"<script>addEventListener('load', async () => {{ {tell} {script} }});</script>"
    inside.write_text(page.read_text(encoding="utf-8").replace("</body>", f"{script}</body>"), encoding="utf-8")
    outside = page.with_name(f"outside-{width}-{theme}.html")
    outside.write_text(
        "<!doctype html><title>waiting</title><body><script>"
        "addEventListener('message', (event) => { document.body.textContent = `TOLD ${event.data} DLOT`; });</script>"
        f"<iframe src='{inside.name}?theme={theme}' width='{width}' height='900'></iframe></body>"
    )
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--dump-dom"]
    command += [f"--user-data-dir={page.parent / 'browser'}", "--window-size=1400,1000", "--virtual-time-budget=20000"]
    done = subprocess.run([*command, outside.as_uri()], capture_output=True, text=True, timeout=120)
    told = re.search(r"TOLD (.*) DLOT", done.stdout)
    assert told is not None, done.stderr[-2000:]
    text = told[1].replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
    return json.loads(text), "\n".join(line for line in done.stderr.splitlines() if "CONSOLE" in line)


def test_the_whole_textbook_is_small_and_opens(tmp_path):
    study = save_textbook(tmp_path / "outputs/studies/textbook-full")
    page, problems = build(tmp_path / "report", [study], papers=False)
    assert problems == []
    assert page.stat().st_size < 5 * MOST_BYTES  # 46 findings with 24 seeds each; the reference keeps to MOST_BYTES
    assert page.read_text(encoding="utf-8").count('<svg class="chart"') > 60
    script = "addEventListener('load', () => { document.body.textContent = `TOLD ${performance.now()} DLOT`; });"
    timed = page.with_name("timed.html")
    timed.write_text(page.read_text(encoding="utf-8").replace("</body>", f"<script>{script}</script></body>"))
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'browser'}"]
    done = subprocess.run([*command, "--dump-dom", timed.as_uri()], capture_output=True, text=True, timeout=300)
    assert re.search(r"TOLD .* DLOT", done.stdout) is not None, done.stderr[-2000:]


def test_links_into_a_long_page_lead_to_their_heading_and_open_it(tmp_path):
    study = save_textbook(tmp_path / "outputs/studies/textbook-quick", "quick")
    page = build(tmp_path / "report", [study], papers=False)[0]
    script = """
        const far = [], open = [];
        for (const link of document.querySelectorAll(".claims a")) {
            link.click();
            await new Promise((done) => setTimeout(done, 100));
            const target = document.querySelector(link.getAttribute("href"));
            far.push(target.getBoundingClientRect().top);
            open.push(target.closest("details").open);
        }
        tell({far, open});
    """
    told, console = opened(page, script)
    assert console == ""
    assert len(told["far"]) == 6
    assert all(0 <= top < 60 for top in told["far"]), told["far"]
    assert all(told["open"])


@pytest.fixture(scope="module")
def reference(tmp_path_factory) -> Path:
    """The page of the committed reference."""
    return build(tmp_path_factory.mktemp("reference"), [], papers=False)[0]


@pytest.mark.parametrize(("width", "height"), [(390, 844), (1024, 768), (1600, 900)])
def test_the_first_screen_has_the_claims_their_chart_and_a_recommendation(reference, width, height):
    script = """
        const box = (each) => each.getBoundingClientRect().toJSON();
        const root = document.documentElement;
        const summaries = document.body.innerText.split(/\\s+/).length;
        const all = (which) => [...document.querySelectorAll(which)].map(box);
        const advice = document.querySelector("#picked .advice");
        const claims = all(".claims li > p:first-child");
        tell({claims, bars: all(".bars"), picked: box(advice), says: advice.innerText,
              wide: root.scrollWidth - root.clientWidth, words: summaries});
    """
    told, console = opened(reference, script, width)
    assert console == ""
    assert told["wide"] <= 0
    for box in [*told["claims"], *told["bars"], told["picked"]]:
        assert 0 <= box["left"] < box["right"] <= width
        assert 0 <= box["top"] < box["bottom"] <= height
    assert len(told["claims"]) >= 6
    assert len(told["bars"]) == 5
    assert "Layer norm rather than batch norm over 4 examples" in told["says"]
    assert told["words"] <= 6000


def test_the_picker_answers_for_another_network(reference):
    script = """
        const form = document.getElementById("pick"), said = [];
        for (const [model, batch, lengths, depth, phase] of [
            ["cnn", 64, "fixed", "shallow", "inference_time"],
            ["lstm", 32, "variable", "shallow", "training"],
            ["mlp", 64, "fixed", "deep", "training"],
            ["gru", 32, "unseen", "shallow", "training"],
        ]) {
            for (const [name, value] of Object.entries({model, batch, lengths, depth, phase})) form[name].value = value;
            form.dispatchEvent(new Event("input"));
            said.push(document.getElementById("picked").textContent);
        }
        tell({said});
    """
    told, console = opened(reference, script)
    inference, lengths, deep, unknown = told["said"]
    assert console == ""
    assert "Batch norm rather than layer norm" in inference
    assert "time of inference" in inference
    assert "Layer norm rather than batch norm over 4 examples" in lengths
    assert "Layer norm rather than batch norm, test accuracy" in lengths
    assert "Nothing yet on longer sequences than in training" in " ".join(unknown.split())
    assert "rather than no norm" in deep


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [375, 768, 1280])
def test_nothing_overflows_and_the_console_is_silent(page, width, theme):
    script = """
        const root = document.documentElement;
        for (const each of document.querySelectorAll("details")) each.open = true;
        tell({wide: root.scrollWidth - root.clientWidth, theme: root.dataset.theme,
              back: getComputedStyle(document.body).backgroundColor,
              charts: [...document.querySelectorAll("svg.chart")].map((chart) => chart.getBoundingClientRect().width)});
    """
    told, console = opened(page, script, width, theme)
    assert console == ""
    assert told["wide"] <= 0
    assert told["theme"] == theme
    assert told["back"] == ("rgb(255, 255, 255)" if theme == "light" else "rgb(20, 23, 28)")
    assert len(told["charts"]) == 4
    assert min(told["charts"]) > 300


def test_a_chart_is_read_by_keyboard_and_the_theme_is_switched(page):
    script = """
        const chart = document.querySelector("svg.chart"), tip = document.getElementById("tip"), said = [];
        chart.focus();
        const event = (key) => new KeyboardEvent("keydown", {key, bubbles: true, cancelable: true});
        const press = (key) => chart.dispatchEvent(event(key));
        for (const key of ["ArrowRight", "ArrowRight", "ArrowLeft"]) { press(key); said.push(tip.textContent); }
        const box = tip.getBoundingClientRect(), shown = !tip.hidden;
        press("Escape");
        document.getElementById("theme").click();
        const roles = [...document.querySelectorAll("svg .mark")].map((mark) => mark.getAttribute("role"));
        tell({said, shown, roles: [...new Set(roles)], hidden: tip.hidden, left: box.left,
              theme: document.documentElement.dataset.theme,
              label: document.getElementById("theme").textContent});
    """
    told, console = opened(page, script)
    assert console == ""
    assert told["said"][0] == told["said"][2] != told["said"][1]
    assert told["said"][0].startswith("main, seed 0: +4.8")
    assert "runs layer-0, batch-0" in told["said"][0]
    assert told["roles"] == ["img"]
    assert told["shown"]
    assert told["hidden"]
    assert told["left"] >= 0
    assert told["theme"] == "dark"
    assert told["label"] == "Light theme"


def test_a_term_is_explained_under_the_pointer_and_with_the_focus(page):
    script = """
        const term = document.querySelector(".first .term"), tip = document.getElementById("tip"), said = [];
        const told = () => (tip.hidden ? "" : tip.textContent);
        term.focus(); said.push(told());
        term.dispatchEvent(new KeyboardEvent("keydown", {key: "Escape", bubbles: true})); said.push(told());
        term.dispatchEvent(new PointerEvent("pointerenter")); said.push(told());
        term.dispatchEvent(new PointerEvent("pointerleave")); said.push(told());
        const terms = [...document.querySelectorAll(".term")];
        tell({said, focus: document.activeElement === term, name: term.textContent,
              lost: terms.filter((each) => !document.getElementById(each.getAttribute("aria-describedby"))).length});
    """
    told, console = opened(page, script)
    assert console == ""
    assert told["name"] == "margin"
    assert told["said"][0].startswith("The smallest difference that matters")
    assert told["said"] == [told["said"][0], "", told["said"][0], ""]
    assert told["focus"]
    assert told["lost"] == 0


@pytest.fixture(scope="module")
def axe(tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("axe")
    if shutil.which("npm") is None:
        pytest.skip("axe-core comes by npm, which is not here")
    done = subprocess.run(["npm", "pack", AXE, "--silent"], cwd=folder, capture_output=True, text=True, timeout=120)
    if done.returncode:
        pytest.skip(f"npm can't fetch {AXE}")
    with tarfile.open(next(folder.glob("*.tgz"))) as archive:
        file = archive.extractfile("package/axe.min.js")
        assert file is not None
        return file.read().decode()


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_no_serious_fault(page, axe, theme):
    script = (
        axe.replace("</script>", "<\\/script>")
        + """
        for (const each of document.querySelectorAll("details")) each.open = true;
        const found = await axe.run(document);
        const faults = found.violations.map((fault) => [fault.impact, fault.id, fault.nodes[0].html]);
        tell({passes: found.passes.length, faults});
    """
    )
    told, _ = opened(page, script, theme=theme)
    assert told["passes"] > 20
    assert [fault for fault in told["faults"] if fault[0] in ("serious", "critical")] == []
