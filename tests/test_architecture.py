"""The house: which room may import which, and which stay free of torch."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "src" / "normlab"

# the words every room shares; they import only one another, from left to right
SHARED = ("strict", "measure_options", "schema", "seeds", "jsonfile", "signature", "checks", "composition", "cli")
# room → rooms that it may import, beside the shared words
MAY_IMPORT: dict[str, set[str]] = {
    "norms": set(),
    "kernels": {"norms"},
    "models": {"norms", "kernels"},
    "data": set(),
    "tasks": {"data"},
    "probes": {"norms", "models", "data", "tasks"},
    "measures": {"norms", "models", "data", "tasks", "probes"},
    "runs": {"measures", "data"},
    "stats": set(),
    "findings": {"runs", "stats"},
    "study": {"runs", "measures", "data", "findings", "checks"},
    "report": {"runs", "stats", "findings", "study"},
}
TORCH_FREE = ["runs", "stats", "findings", "study", "report", *SHARED]
HEAVY = ("torch", "pytorch_lightning", "torchmetrics", "lightning_fabric", "wandb", "datasets")


def imports(path: Path, top_level: bool = False) -> set[str]:
    """Modules that a file imports; `top_level`: only what importing the file imports."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    nodes = tree.body if top_level else list(ast.walk(tree))
    found = {node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module}
    return found | {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}


def files(room: str) -> list[Path]:
    folder = PACKAGE / room
    return sorted(folder.glob("**/*.py")) if folder.is_dir() else [folder.with_suffix(".py")]


def test_every_module_stands_in_a_known_room():
    rooms = {path.stem for path in PACKAGE.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    assert rooms - {"__init__"} == {*MAY_IMPORT, *SHARED}


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_a_room_imports_only_rooms_above_it(room: str):
    allowed = {*MAY_IMPORT[room], room, "strict", "measure_options", "schema", "seeds", "jsonfile"}
    for path in files(room):
        used = {name.split(".")[1] for name in imports(path) if name.startswith("normlab.")}
        assert used <= allowed, f"{path.relative_to(PACKAGE)} imports {sorted(used - allowed)}"


@pytest.mark.parametrize("position", range(len(SHARED)))
def test_shared_words_import_only_those_before_them(position: int):
    used = {name.split(".")[1] for path in files(SHARED[position]) for name in imports(path) if "normlab." in name}
    assert used <= set(SHARED[:position])


@pytest.mark.parametrize("room", TORCH_FREE)
def test_torch_free_rooms_import_nothing_heavy(room: str):
    for path in files(room):
        heavy = {name for name in imports(path) if name.split(".")[0] in HEAVY}
        assert not heavy, f"{path.relative_to(PACKAGE)} imports {heavy}"


def test_triton_is_imported_only_where_a_gpu_asks_for_it():
    for path in PACKAGE.glob("**/*.py"):
        if path.parent != PACKAGE / "kernels" / "gpu":
            for name in imports(path, top_level=True):
                assert not name.startswith(("triton", "normlab.kernels.gpu")), f"{path.relative_to(PACKAGE)}: {name}"


def test_heavy_libraries_that_may_be_missing_are_imported_lazily():
    for path in PACKAGE.glob("**/*.py"):
        heavy = {name.split(".")[0] for name in imports(path, top_level=True)} & {
            "wandb",
            "datasets",
            "tokenizers",
        }
        assert not heavy, f"{path.relative_to(PACKAGE)} imports {heavy} when it is imported"


def test_a_config_is_checked_before_torch_is_imported():
    code = (
        "import sys, normlab.checks, normlab.runs.run, normlab.cli\n"
        "from normlab.signature import read\n"
        "read('normlab.norms.batch.BatchNorm'); read('normlab.models.lstm.LSTM')\n"
        "print([m for m in ('torch', 'pytorch_lightning', 'wandb', 'datasets') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
