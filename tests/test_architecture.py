"""The house: which room may import which, and which stay free of torch."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "src" / "normlab"

# rooms in order, each with those above it that it may import
MAY_IMPORT: dict[str, set[str]] = {
    "stopping": set(),
    "host": set(),
    "config": {"host"},
    "checks": {"host", "config"},
    "trust": {"config"},
    "command_line": {"stopping", "config"},
    "folder": {"host", "config"},
    "kernels": {"config"},
    "norms": {"config", "kernels"},
    "fused": {"config", "norms", "kernels"},
    "weights": {"config"},
    "models": {"host", "config", "checks", "trust", "folder", "norms", "kernels", "fused", "weights"},
    "sites": {"config", "norms", "models"},
    "networks": {"config", "norms", "models", "sites"},
    "files": {"config"},
    "views": {"config", "files"},
    "data": {"host", "config", "files", "views"},
    "tasks": {"config", "norms", "models", "data"},
    "probes": {"norms", "models", "data", "tasks"},
    "diagnoses": {"config", "folder"},
    "monitor": {"config", "norms", "sites", "probes", "diagnoses"},
    "checking": {"config", "networks", "monitor"},
    "mirror": {"config", "folder", "data"},
    "session": {"config", "stopping", "folder", "models", "data", "tasks", "monitor", "mirror"},
    "timing": {"config", "stopping", "folder", "models", "data", "session"},
    "project": {
        *("config", "stopping", "models", "sites", "networks", "mirror", "session"),
    },
    "measures": {
        *("config", "trust", "folder", "norms", "models", "networks", "data", "tasks", "probes", "mirror", "session"),
        *("timing", "project"),
    },
    "bench": {"config", "norms", "models"},
    "export": {"config", "folder", "norms", "kernels", "fused", "models", "weights", "data", "session", "timing"},
    "runs": {"host", "config", "stopping", "folder", "data", "project"},
    "tables": {"config", "folder", "runs"},
    "stats": set(),
    "findings": {"config", "stats"},
    "statements": {"config", "findings"},
    "logs": {"config", "folder", "files", "mirror", "tables", "stats", "findings"},
    # stats: a multirun ends with the intervals of its arms' differences
    "sweep": {"host", "config", "checks", "trust", "command_line", "stopping", "folder", "runs", "stats"},
    "comparing": {"host", "config", "files", "models", "data", "findings", "project"},
    "study": {
        *("config", "checks", "command_line", "folder", "mirror", "runs", "findings", "statements", "sweep"),
        "comparing",
    },
    "moving": {"config", "folder", "runs", "findings", "study"},
    "results": {"config", "folder", "findings", "study"},
    "advice": {"config", "findings", "results"},
    "charts": {"findings", "results"},
    "report": {
        "config",
        "command_line",
        "folder",
        "comparing",
        "findings",
        "statements",
        "logs",
        "study",
        "results",
        "advice",
        "charts",
    },
    "lessons": {
        *("config", "checks", "folder", "norms", "data", "tables", "stats", "findings", "study"),
        *("results", "charts"),
    },
    "dashboard": {"config", "study"},
    "environment": {"host", "config", "folder", "data", "mirror", "runs"},
    "commands": {
        *("stopping", "host", "config", "checks", "command_line", "folder", "kernels", "checking", "mirror", "bench"),
        *("runs", "tables", "stats", "findings", "statements", "logs", "sweep", "study", "moving", "results", "advice"),
        *("report", "dashboard", "environment", "export"),
    },
}
TORCH_FREE = [
    "trust",
    "command_line",
    "host",
    "config",
    "trust",
    "stopping",
    "folder",
    "files",
    "views",
    "diagnoses",
    "runs",
    "tables",
    "stats",
    "findings",
    "statements",
    "logs",
    "sweep",
    "comparing",
    "study",
    "moving",
    "results",
    "advice",
    "charts",
    "report",
    "dashboard",
    "environment",
    "commands",
]
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
    assert rooms - {"__init__", "__main__"} == {*MAY_IMPORT}


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_a_room_imports_only_rooms_above_it(room: str):
    allowed, everything = {*MAY_IMPORT[room], room}, set()
    for path in files(room):
        used = {name.split(".")[1] for name in imports(path) if name.startswith("normlab.")}
        assert used <= allowed, f"{path.relative_to(PACKAGE)} imports {sorted(used - allowed)}"
        everything |= used
    assert everything >= MAY_IMPORT[room], f"no longer imported: {sorted(MAY_IMPORT[room] - everything)}"


LARGE = {"norms": "one file per norm"}  # room → why it has more files and lines


@pytest.mark.parametrize("room", [room for room in MAY_IMPORT if room not in LARGE])
def test_a_room_can_be_read_in_one_sitting(room: str):
    """2,000 lines of Python and 20 files at most."""
    paths = files(room)
    assert len(paths) <= 20
    assert sum(len(path.read_text(encoding="utf-8").splitlines()) for path in paths) <= 2000


# file → why it is longer than 300 lines
LONG = {
    "norms/running.py": "one norm with its running statistics, chunks, pooling and merging over processes",
    "tables/runs.py": "one table: its rows, its columns and what is chosen of it",
}


def test_no_file_is_long_without_a_reason():
    paths = {str(path.relative_to(PACKAGE)): path for room in MAY_IMPORT for path in files(room)}
    long = {name for name, path in paths.items() if len(path.read_text(encoding="utf-8").splitlines()) > 300}
    assert long <= set(LONG)


def test_the_order_of_the_rooms_has_no_circle():
    seen: set[str] = set()
    for room, allowed in MAY_IMPORT.items():
        assert allowed <= seen, f"{room} imports {sorted(allowed - seen)}, which stand below it"
        seen.add(room)


# files of a run and of a study, whose names and formats only the room `folder` knows
STORED = re.compile(
    r"(?:\S*/)?(?:(?:config|status|progress|summary|provenance|links|resume|plan|verdicts|manifest|origin|wandb)\.json"
    r"|metrics\.jsonl|example_scores\.jsonl?|(?:runs|curves|tuning)\.csv|(?:best|last|resume-\S*)\.ckpt)"
)
STORED_PARTS = {"owner", "checkpoints", "wandb", "runs", "studies"}  # as parts of a path


def stored_names(tree: ast.AST) -> list[str]:
    """Names of stored files in code; prose that names one, as docstrings and messages do, has spaces."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and STORED.fullmatch(node.value):
            found.append(node.value)
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div) and isinstance(node.right, ast.Constant):
            found += [node.right.value] if node.right.value in STORED_PARTS else []
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and "glob" in node.func.attr:
            patterns = [arg.value for arg in node.args if isinstance(arg, ast.Constant)]
            found += [name for name in patterns if STORED_PARTS & set(str(name).split("/"))]
    return found


def test_the_check_of_stored_names_sees_them():
    code = """x / "owner"; x / "status.json"; f(name="a/best.ckpt"); x.glob("runs/*"); print("no runs.csv in it")"""
    assert sorted(stored_names(ast.parse(code))) == ["a/best.ckpt", "owner", "runs/*", "status.json"]


@pytest.mark.parametrize("room", [*(room for room in MAY_IMPORT if room != "folder"), "scripts"])
def test_only_the_room_folder_knows_the_names_of_stored_files(room: str):
    for path in sorted((PACKAGE.parents[1] / "scripts").glob("**/*.py")) if room == "scripts" else files(room):
        named = stored_names(ast.parse(path.read_text(encoding="utf-8")))
        assert not named, f"{path.name} names {named}: ask RunFolder or StudyFolder"


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
        "import sys, normlab.checks.config, normlab.runs.run, normlab.command_line.guard\n"
        "from normlab.config.signature import read\n"
        "read('normlab.norms.batch.BatchNorm'); read('normlab.models.lstm.LSTM')\n"
        "print([m for m in ('torch', 'pytorch_lightning', 'wandb', 'datasets') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_no_call_has_more_than_five_positional_arguments(room: str):
    for path in files(room):
        if path.parent.name == "gpu":  # Triton's own functions take pointers and masks in order
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            lists = ("permute", "view", "save_for_backward")  # whose arguments are the items of a list
            if isinstance(node, ast.Call) and not (isinstance(node.func, ast.Attribute) and node.func.attr in lists):
                assert len(node.args) <= 5, f"{path.relative_to(PACKAGE)}:{node.lineno}: name the arguments"


def test_a_run_whose_model_and_norm_have_no_kernel_reaches_none():
    """Their code decides nothing there, so a change of it must not make the run's results stale."""
    names = [f"models.{name}" for name in ("cnn", "mlp", "transformer", "base", "build", "fold", "checkpoint")]
    names += [f"norms.{name}" for name in ("running", "precise", "group", "instance", "none")]
    code = f"import sys, {', '.join(f'normlab.{name}' for name in names)}\n"
    code += "print([name for name in sys.modules if name.startswith('normlab.kernels')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_no_measure_or_probe_imports_one_of_our_models():
    ours = {f"normlab.models.{name}" for name in ("cnn", "gru", "lstm", "mlp", "transformer")}
    for room in ("probes", "session", "measures", "tasks"):
        for path in files(room):
            assert not imports(path) & ours, path.relative_to(PACKAGE)
