"""The house: which room may import which, and which stay free of torch."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "src" / "normlab"

# rooms in order, each with those above it that it may import
MAY_IMPORT: dict[str, set[str]] = {
    "stopping": set(),
    "config": {"stopping"},
    "folder": {"config"},
    "norms": {"config"},
    "kernels": {"config", "norms"},
    "models": {"config", "norms", "kernels"},
    "data": {"config", "folder"},
    "tasks": {"config", "data"},
    "probes": {"norms", "models", "data", "tasks"},
    "mirror": {"config", "folder", "data"},
    "session": {"config", "stopping", "folder", "models", "data", "tasks", "mirror"},
    "measures": {"config", "stopping", "folder", "norms", "models", "data", "tasks", "probes", "mirror", "session"},
    "runs": {"config", "stopping", "folder", "data"},
    "stats": set(),
    "findings": {"config", "folder", "runs", "stats"},
    "study": {"config", "stopping", "folder", "data", "mirror", "runs", "findings"},
    "report": {"config", "folder", "runs", "stats", "findings", "study"},
    "commands": {"config", "folder", "data", "runs"},
}
TORCH_FREE = ["config", "stopping", "folder", "runs", "stats", "findings", "study", "report", "commands"]
HEAVY = ("torch", "pytorch_lightning", "torchmetrics", "lightning_fabric", "wandb", "datasets")


def imports(path: Path, top_level: bool = False) -> set[str]:
    """Modules that a file imports; `top_level`: only what importing the file imports."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    nodes = tree.body if top_level else list(ast.walk(tree))
    found = {node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module}
    return found | {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}


def files(room: str) -> list[Path]:
    return sorted((PACKAGE / room).glob("**/*.py"))


def test_every_module_stands_in_a_known_room():
    rooms = {path.stem for path in PACKAGE.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    assert rooms - {"__init__"} == {*MAY_IMPORT}


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_a_room_imports_only_rooms_above_it(room: str):
    allowed = {*MAY_IMPORT[room], room}
    for path in files(room):
        used = {name.split(".")[1] for name in imports(path) if name.startswith("normlab.")}
        assert used <= allowed, f"{path.relative_to(PACKAGE)} imports {sorted(used - allowed)}"


def test_the_order_of_the_rooms_has_no_circle():
    seen: set[str] = set()
    for room, allowed in MAY_IMPORT.items():
        assert allowed <= seen, f"{room} imports {sorted(allowed - seen)}, which stand below it"
        seen.add(room)


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
        "import sys, normlab.config.checks, normlab.runs.run, normlab.config.command_line\n"
        "from normlab.config.signature import read\n"
        "read('normlab.norms.batch.BatchNorm'); read('normlab.models.lstm.LSTM')\n"
        "print([m for m in ('torch', 'pytorch_lightning', 'wandb', 'datasets') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
