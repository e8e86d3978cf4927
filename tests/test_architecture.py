# SPDX-License-Identifier: Apache-2.0
"""Rooms, the direction of imports, and that ARCHITECTURE.md tells the truth about both.

Imports are read from the syntax trees, those inside functions and under TYPE_CHECKING included: a
name that a module needs for its types ties it to another room all the same.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "qiskit_kd"
BASE = {"errors", "files", "registry", "seeding", "storage", "values", "yamlfile"}

# What each room may import. DESIGN: errors, registry, seeding < circuits < execution < nn <
# distill < experiment < report < cli; `data` stands beside `distill` and needs the base alone.
ALLOWED: dict[str, set[str]] = {
    "circuits": BASE,
    "execution": BASE | {"circuits"},
    "nn": BASE | {"circuits", "execution"},
    "data": BASE,
    "distill": BASE | {"circuits", "execution", "nn", "data"},
    "experiment": BASE | {"circuits", "execution", "nn", "data", "distill"},
    "report": BASE | {"circuits", "execution", "nn", "data", "distill", "experiment"},
    "interop": BASE | {"circuits", "execution", "nn", "data", "distill", "experiment"},
    "cli": BASE
    | {"circuits", "execution", "nn", "data", "distill", "experiment", "report", "interop"},
}
TORCH_FREE = {"circuits", *BASE}


def modules() -> dict[str, Path]:
    """Dotted name to file, for every module of the package."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = modules()


def room_of(module: str) -> str:
    """`qiskit_kd.circuits.model` is in `circuits`; the package itself is in ``."""
    return [*module.split("."), ""][1]


@cache
def tree_of(module: str) -> ast.Module:
    return ast.parse(MODULES[module].read_text(encoding="utf-8"))


def imported(module: str, *, at_import: bool = False) -> set[str]:
    """Modules that `module` imports; with `at_import`, only what loading it loads."""
    names: set[str] = set()
    for node in _at_import(tree_of(module).body) if at_import else ast.walk(tree_of(module)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: relative import in line {node.lineno}"
            base = node.module or ""
            for alias in node.names:
                inner = f"{base}.{alias.name}"
                names.add(inner if inner in MODULES else base)
    return names


def _at_import(body: list[ast.stmt]) -> list[ast.AST]:
    """Statements that run when a module is loaded: not functions, not `if TYPE_CHECKING`."""
    out: list[ast.AST] = []
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            continue
        if isinstance(node, ast.If):
            if "TYPE_CHECKING" not in ast.unparse(node.test):
                out += _at_import(node.body)
            out += _at_import(node.orelse)
        elif isinstance(node, ast.Try):
            for part in (node.body, node.orelse, node.finalbody, *(h.body for h in node.handlers)):
                out += _at_import(part)
        else:
            out.append(node)
    return out


def test_every_part_of_the_package_is_a_known_room() -> None:
    assert {room_of(module) for module in MODULES} - {""} == set(ALLOWED) | BASE


@pytest.mark.parametrize("module", sorted(set(MODULES) - {"qiskit_kd"}))
def test_imports_go_down(module: str) -> None:
    room = room_of(module)
    allowed = BASE if room in BASE else ALLOWED[room] | {room}
    wrong = {
        name
        for name in imported(module)
        if name.split(".")[0] == "qiskit_kd" and room_of(name) not in allowed
    }
    # `import qiskit_kd` itself would let any room reach any other through its lazy names.
    assert not wrong, f"{module} may not import {sorted(wrong)}"


def test_no_module_imports_itself_in_a_circle() -> None:
    # Those inside functions and classes count: they only hide a circle from Python.
    graph = {m: {n for n in imported(m) if n in MODULES} for m in MODULES}
    state: dict[str, int] = {}

    def visit(module: str, path: tuple[str, ...]) -> None:
        assert state.get(module) != 1, " -> ".join((*path, module))
        if module in state:
            return
        state[module] = 1
        # A package that gathers the names of its modules is no circle of theirs.
        for other in sorted(graph[module]):
            if not module.startswith(f"{other}."):
                visit(other, (*path, module))
        state[module] = 2

    for module in sorted(MODULES):
        visit(module, ())


def test_modules_do_not_import_through_their_own_package() -> None:
    # `from qiskit_kd.nn import QuantumLayer` inside nn/ works or not with the order of imports.
    wrong = [
        (module, name)
        for module in MODULES
        for name in imported(module, at_import=True)
        if module.startswith(f"{name}.")
    ]
    assert not wrong


@pytest.mark.parametrize("room", sorted(TORCH_FREE))
def test_torch_free_rooms_never_mention_torch(room: str) -> None:
    for module in MODULES:
        if room_of(module) == room:
            names = {name.split(".")[0] for name in imported(module)}
            assert not names & {"torch", "torchvision", "qiskit_machine_learning"}, module


def test_circuits_load_without_torch() -> None:
    code = (
        "import sys, qiskit_kd.circuits as c, qiskit_kd.circuits.library as library\n"
        "model = c.CircuitModel(c.angle(2), c.hardware_efficient(2, 1), c.ClassGroups(2, 2))\n"
        "c.dead_weights(model), library.templates()[0].contents\n"
        "heavy = {'torch', 'torchvision', 'qiskit_aer', 'qiskit_machine_learning'}\n"
        "sys.exit(bool(heavy & {name.split('.')[0] for name in sys.modules}))"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


@pytest.mark.parametrize("module", sorted(MODULES))
def test_house_rules_of_a_module(module: str) -> None:
    text = MODULES[module].read_text(encoding="utf-8")
    tree = tree_of(module)
    assert text.startswith("# SPDX-License-Identifier: Apache-2.0\n")
    assert len(text.splitlines()) <= 500, "split it inside its room"
    if not tree.body:
        return
    assert ast.get_docstring(tree), "a module says what it is"
    if len(tree.body) > 1:
        assert "from __future__ import annotations" in text or MODULES[module].name == "__init__.py"
    prints = [
        node.lineno
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == "print"
    ]
    assert not prints, "a library does not print"


def test_architecture_document_lists_the_rooms_as_they_are() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `([a-z]+)(?:/|\.py)` \|[^|]+\| ([^|]*) \|$", text, flags=re.MULTILINE)
    listed = {room: {name.strip() for name in cell.split(",")} for room, cell in rows}
    assert listed == {room: (allowed - BASE) | {"base"} for room, allowed in ALLOWED.items()}
    (base,) = re.findall(r"^\| (`[^|]+) \(the \*base\*\) \|", text, flags=re.MULTILINE)
    assert set(re.findall(r"`(\w+)\.py`", base)) == BASE


def test_architecture_document_names_only_files_that_exist() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`((?:[\w-]+/)+[\w.-]*\w\.(?:py|yaml|md|json|j2|toml))`", text))
    named |= set(re.findall(r"\]\(((?!https?:)[^)#]+)\)", text))
    assert named
    missing = [n for n in named if not (ROOT / n).exists() and not (PACKAGE / n).exists()]
    assert not missing
