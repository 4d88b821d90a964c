"""All norms in one table: what each computes, over which axes, and what it keeps and learns.

All but the costs is read from the norms' source, so nothing can be out of step with it. The costs were measured by
`normlab bench costs`: a forward and backward pass divided by layer norm's. docs/norms.md has the same table.

    normlab norms
    normlab norms layer rms dyt
"""

from __future__ import annotations

import ast
import difflib
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from tabulate import tabulate

from normlab.bench.costs import costs, measured_with
from normlab.command_line import columns
from normlab.commands.parser import Parser
from normlab.config.errors import InputError
from normlab.config.modules import module_file
from normlab.config.shipped import CONF
from normlab.config.signature import Signature, read

# what ends an equation in the first sentence of a docstring
_END = re.compile(r", (?:with|without|but|over|where|until)\b|: | as in\b|\.\s|\.$")

NOTHING = "-"


class Row(NamedTuple):
    """One norm. The fields are the table's columns."""

    norm: str
    equation: str
    statistics: str
    couples_examples: str
    state: str
    parameters: str
    cost: str
    source: str


def main(arguments: Sequence[str]) -> None:
    """Read the arguments and print the table."""
    parser = Parser("norms", __doc__)
    parser.add_argument("names", nargs="*", metavar="NORM", help="default: all")
    asked = parser.parse_args(arguments).names
    known = names()
    for name in asked:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f" Did you mean {near[0]}?" if near else ""
            raise InputError(f"there is no norm {name!r}.{hint} Norms: {', '.join(known)}.")
    show(asked or known)


def names() -> list[str]:
    """The norms that normlab has; `own` stands for those of a network."""
    return sorted(path.stem for path in (CONF / "norm").glob("*.yaml") if path.stem != "own")


def show(chosen: Iterable[str]) -> None:
    """Print the table: Markdown in a pipe, on a terminal as many columns as fit."""
    chosen, console = list(chosen), Console()
    if columns.width_of(console) is None:
        print(table(chosen))
        return
    cut = {"couples_examples": 1, "source": 2, "cost": 3, "state": 4, "parameters": 5}
    wraps = ("equation", "statistics")
    shown = [columns.Column(n.replace("_", " "), cut=cut.get(n, 0), wraps=n in wraps) for n in Row._fields]
    left_out = columns.show(console, shown, [described(name) for name in chosen])
    if "cost" not in left_out:
        print(f"cost: forward and backward divided by layer norm's ({measured_with(costs())}; normlab bench costs)")
    if left_out:
        print(f"cut to fit the terminal: {', '.join(left_out)} (all: docs/norms.md)")


def table(chosen: Iterable[str]) -> str:
    """The table in Markdown, which reads well as it is."""
    rows = [described(name) for name in chosen]
    headers = [name.replace("_", " ") for name in Row._fields]
    cells = [[f"`{row.norm}`", *(text.replace("|", "\\|") for text in row[1:])] for row in rows]
    return tabulate(cells, headers, tablefmt="pipe")


def signature_of(name: str) -> Signature:
    """The options and constants of a norm's class, from its source."""
    text = (CONF / "norm" / f"{name}.yaml").read_text(encoding="utf-8")
    target = re.search(r"^_target_: (\S+)$", text, re.MULTILINE)
    assert target is not None
    return read(target.group(1))


def described(name: str) -> Row:
    """The row of a norm, from its source alone."""
    signature = signature_of(name)
    classes = [found for found in map(_class, signature.classes) if found is not None]
    doc = " ".join((ast.get_docstring(classes[0]) or "").split())
    couples = any("B" in axes for axes in _axes(signature).values())
    source = re.search(r"arXiv:(\d{4}\.\d{4,5})", doc)
    return Row(
        norm=name,
        equation=_END.split(doc[doc.index("y = ") :], maxsplit=1)[0],
        statistics=_statistics(signature),
        couples_examples="in training" if couples else "no",
        state=", ".join(_state(classes)) or NOTHING,
        parameters=", ".join(_parameters(classes)) or NOTHING,
        cost=" · ".join(f"{c.layout} {c.times_layer_norm:.1f}" for c in costs() if c.norm == name) or NOTHING,
        source=f"arXiv:{source.group(1)}" if source else NOTHING,
    )


def _class(dotted: str) -> ast.ClassDef | None:
    module, _, name = dotted.rpartition(".")
    file = module_file(module) if module.startswith("normlab.") else None
    if file is None:
        return None
    tree = ast.parse(Path(file).read_text(encoding="utf-8"))
    return next((node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == name), None)


def _axes(signature: Signature) -> dict[str, str]:
    axes: dict[str, str] = signature.constants.get("axes", {})
    return axes


def _statistics(signature: Signature) -> str:
    """Axes a layout; one word where all layouts have the same."""
    layouts, axes = signature.constants["layouts"], _axes(signature)
    if not axes:
        return NOTHING
    return " · ".join(f"{layout}: {', '.join(axes[layout])}" for layout in layouts if layout in axes)


def _assigned(classes: list[ast.ClassDef]) -> Iterator[tuple[str, ast.expr]]:
    """`self.x = value` of every method, those of base classes first."""
    for found in reversed(classes):
        for node in ast.walk(found):
            if isinstance(node, ast.Assign):
                for target in node.targets:
                    if isinstance(target, ast.Attribute) and isinstance(target.value, ast.Name):
                        yield target.attr, node.value


def _calls(node: ast.AST, name: str) -> Iterator[ast.Call]:
    for call in ast.walk(node):
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.func.attr == name:
            yield call


def _registered(classes: list[ast.ClassDef], method: str) -> Iterator[str]:
    """Names that the classes register, those of base classes first."""
    for found in reversed(classes):
        for call in _calls(found, method):
            if isinstance(call.args[0], ast.Constant):
                persistent = [k.value for k in call.keywords if k.arg == "persistent"]
                if not persistent:
                    yield str(call.args[0].value)


def _parameters(classes: list[ast.ClassDef]) -> list[str]:
    """Parameters that a norm has with its default options."""
    found = dict.fromkeys(_registered(classes, "register_parameter"))
    for name, value in _assigned(classes):
        if any(_calls(value, "Parameter")):
            found[name] = None
        elif isinstance(value, ast.Constant) and value.value is None:
            found.pop(name, None)
    return list(found)


def _state(classes: list[ast.ClassDef]) -> list[str]:
    """Buffers that are saved; the count of batches is kept only for momentum=null."""
    return [name for name in _registered(classes, "register_buffer") if name != "num_batches_tracked"]
