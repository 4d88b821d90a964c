"""The notebooks run from top to bottom, are committed without outputs, and show commands that work."""

from __future__ import annotations

import ast
import builtins
import html
import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra

from normlab.checks.config import checked

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
REFERENCE = ROOT / "results" / "reference" / "quick" / "runs.csv"  # what the third reads
BY_NAME = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))


def prose(path: Path) -> str:
    return "\n".join("".join(cell["source"]) for cell in read(path)["cells"] if cell["cell_type"] == "markdown")


def test_there_are_five():
    assert [path.stem[:3] for path in NOTEBOOKS] == ["01_", "02_", "03_", "04_", "05_"]


@BY_NAME
def test_its_published_page_has_its_code_and_names_no_folder_of_the_machine(path):
    """After a change: make notebooks."""
    page = (ROOT / "docs" / "notebooks" / f"{path.stem}.html").read_text(encoding="utf-8")
    shown = html.unescape(re.sub(r"<[^>]+>", "", page))
    for cell in read(path)["cells"]:
        if cell["cell_type"] == "code":
            assert "".join(cell["source"]).strip() in shown, cell["id"]
    assert not re.search(r"(?<![\w.~])/(?:home|root|tmp|work|Users)/", shown)


@BY_NAME
def test_every_name_is_defined_or_comes_with_its_lesson(path):
    cells = ["".join(cell["source"]) for cell in read(path)["cells"] if cell["cell_type"] == "code"]
    code = "\n".join(cell for cell in cells if not cell.startswith("%%"))  # those write files
    tree = ast.parse(re.sub(r"^[%!].*$", "", code, flags=re.MULTILINE))
    known = {*dir(builtins), "display"}  # which a notebook's kernel has
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.names[0].name == "*":
            known |= {*exported(ROOT / "src" / f"{node.module.replace('.', '/')}.py")}
        elif isinstance(node, ast.Import | ast.ImportFrom):
            known |= {(alias.asname or alias.name).partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            known.add(node.name)
        elif isinstance(node, ast.arg):
            known.add(node.arg)
        elif isinstance(node, ast.ExceptHandler) and node.name:
            known.add(node.name)
    used = [node for node in ast.walk(tree) if isinstance(node, ast.Name)]
    known |= {node.id for node in used if isinstance(node.ctx, ast.Store)}
    assert sorted({node.id for node in used} - known) == []


def exported(module: Path) -> list[str]:
    """The names in its __all__, read without importing it."""
    for node in ast.parse(module.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "__all__":
            return ast.literal_eval(node.value)
    raise AssertionError(f"{module} has no __all__")


@BY_NAME
def test_outputs_and_metadata_are_stripped(path):
    book = read(path)
    assert (book["nbformat"], set(book["metadata"])) == (4, {"kernelspec", "language_info"})
    assert set(book["metadata"]["language_info"]) == {"name"}
    for cell in book["cells"]:
        assert cell["metadata"] == {}
        assert cell.get("outputs", []) == []
        assert cell.get("execution_count") is None


@BY_NAME
def test_cells_have_names_of_their_own(path):
    names = [cell["id"] for cell in read(path)["cells"]]
    assert len(set(names)) == len(names)
    assert not [name for name in names if re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f-]+)?", name)]  # as Jupyter makes them


@BY_NAME
def test_links_lead_somewhere(path):
    targets = re.findall(r"\]\(([^)#]+)\)", prose(path))
    assert targets
    assert [target for target in targets if "://" not in target and not (path.parent / target).exists()] == []


@BY_NAME
def test_commands_in_the_prose_pass_the_checks(path):
    commands = re.findall(r"`(?:[A-Z]+=\S+ )?python train\.py ((?:-m )?\w[^`]*)`", prose(path))
    for command in commands:
        overrides = [word.split(",")[0] for word in shlex.split(command) if "=" in word]
        GlobalHydra.instance().clear()
        with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
            checked(compose("train", overrides=overrides))


@pytest.mark.slow
@BY_NAME
def test_it_runs(path, tmp_path, cache, monkeypatch):
    import nbformat
    from nbclient import NotebookClient

    if path.stem.startswith("03") and not REFERENCE.exists():
        pytest.skip("there is no reference study to read")
    monkeypatch.setenv("NORMLAB_OUTPUT", str(tmp_path))
    monkeypatch.setenv("NORMLAB_CACHE", str(cache))
    book = nbformat.read(path, as_version=4)
    where = {"metadata": {"path": str(path.parent)}}
    NotebookClient(book, timeout=600, kernel_name="python3", resources=where).execute()
    figures = [o for cell in book.cells for o in cell.get("outputs", []) if "image/png" in o.get("data", {})]
    assert len(figures) >= 2
    assert all(figure["metadata"].get("image/png", {}).get("alt") for figure in figures)  # for who can't see it
