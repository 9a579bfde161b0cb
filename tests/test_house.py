"""Imports run one way, down the rooms, and only some rooms know the heavy neighbours."""

from __future__ import annotations

import ast
import tokenize
from collections import defaultdict
from io import StringIO
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

FLOORS = (
    ("errors",),
    ("files", "folders", "environment"),
    ("kernels",),
    ("settings", "report"),
    ("atoms",),
    ("experts",),
    ("potential",),
    ("partition",),
    ("conversion", "md"),
    ("distil",),
    ("cotrain", "frontends", "run"),
    ("measure",),
    ("demo", "validate"),
    ("cli",),
)
"""Rooms from the ground up; a room imports those of lower floors, and nothing else but itself.
DESIGN's table of rooms, as floors."""

DOORS = {("duetto.experts.pair", "conversion")}
"""`ExpertPair.from_nequip` opens a room above its own when called: where users look for it."""

APART = {*("Bath", "Box", "Case", "ExpertConfig", "Region", "Slab", "Snapshot", "Start")}
"""Words that two rooms far from each other have for two things."""

TRAINING = {"nequip", "allegro", "lightning", "hydra", "omegaconf", "e3nn"}
KERNELS = {"torch", "triton", "numpy", "numba", "llvmlite", "duetto"}


def sources() -> dict[str, Path]:
    """Every module by its dotted name."""
    found = {}
    for folder, package in (("engine", "duetto"), ("kernels", "duetto.kernels")):
        for path in sorted((ROOT / folder).rglob("*.py")):
            parts = path.relative_to(ROOT / folder).with_suffix("").parts
            parts = parts[:-1] if parts[-1] == "__init__" else parts
            found[".".join((package, *parts))] = path
    return found


def is_for_types(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)


def imports(path: Path) -> set[str]:
    """Dotted names of what a module imports, at the top or in a function, but for types alone."""
    names: set[str] = set()

    def walk(node: ast.AST) -> None:
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
        for child in ast.iter_child_nodes(node):
            if not is_for_types(child):
                walk(child)

    walk(ast.parse(path.read_text(encoding="utf-8")))
    return names


def room(module: str) -> str | None:
    """The room that a module of ours stands in; None for the package itself and for others."""
    parts = module.split(".")
    return parts[1] if parts[0] == "duetto" and len(parts) > 1 else None


FLOOR = {name: floor for floor, names in enumerate(FLOORS) for name in names}
MODULES = sources()


@pytest.mark.parametrize("module", [m for m in MODULES if room(m)])
def test_imports_run_down(module: str) -> None:
    here = room(module)
    assert here in FLOOR, f"{here} is a room without a floor"
    for name in sorted(imports(MODULES[module])):
        there = room(name)
        if there in FLOOR and there != here and (module, there) not in DOORS:
            assert FLOOR[there] < FLOOR[here], f"{module} imports {name}, upwards"


def test_no_circles() -> None:
    """No module imports itself through others, functions' own imports (doors aside) included."""
    graph = {
        m: {n for n in imports(path) if n in MODULES and (m, room(n)) not in DOORS} - {m}
        for m, path in MODULES.items()
    }
    state: dict[str, int] = defaultdict(int)

    def visit(module: str, way: tuple[str, ...]) -> None:
        state[module] = 1
        for other in sorted(graph[module]):
            # A package's face hands names on; importing a module from it is no circle.
            if MODULES[other].name == "__init__.py" and module.startswith(f"{other}."):
                continue
            assert state[other] != 1, " -> ".join((*way, module, other))
            if state[other] == 0:
                visit(other, (*way, module))
        state[module] = 2

    for module in graph:
        if state[module] == 0:
            visit(module, ())


def test_only_training_and_conversion_know_nequip() -> None:
    for module, path in MODULES.items():
        if room(module) in {"cotrain", "conversion"} or module.endswith("nequip_engines"):
            continue  # the benchmark's own opponent is nequip
        known = {name.split(".")[0] for name in imports(path)} & TRAINING
        assert not known, f"{module} imports {', '.join(known)}"


def test_kernels_stand_alone() -> None:
    import sys

    for module, path in MODULES.items():
        if room(module) != "kernels":
            continue
        for name in imports(path):
            top = name.split(".")[0]
            assert top in KERNELS or top in sys.stdlib_module_names, f"{module} imports {name}"
            if top == "duetto":
                assert name.startswith("duetto.kernels"), f"{module} imports {name}"


def test_one_thing_per_name() -> None:
    """A public class has its name for itself, but for those that nobody meets side by side."""
    places = defaultdict(list)
    for module, path in MODULES.items():
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places[node.name].append(module)
    twice = {name for name, modules in places.items() if len(modules) > 1}
    assert twice <= APART, {name: places[name] for name in twice - APART}


def test_one_spelling() -> None:
    """Names say neighbor, whatever prose says."""
    for module, path in MODULES.items():
        tokens = tokenize.generate_tokens(StringIO(path.read_text(encoding="utf-8")).readline)
        wrong = [t for t in tokens if t.type == tokenize.NAME and "neighbour" in t.string.lower()]
        assert not wrong, f"{module}, line {wrong[0].start[0]}: {wrong[0].string}"
