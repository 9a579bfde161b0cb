"""Replays the generated source of a kernel and finds unordered accesses to its stash.

Threads of a program exchange numbers through the stash, which is global memory: what one stores
another may only load behind a barrier, and what one has yet to load another may only replace behind
a barrier. The interpreter has no threads and compute-sanitizer watches shared memory only, so a
barrier that is missing shows in neither. The kernels have no loops: the lines of their source are
the order of their accesses.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass, replace

from duetto.kernels.triton.expert_spec import COMPONENTS

KINDS = ("whole", "forward", "backward")


@dataclass(frozen=True)
class Access:
    """Numbers of the stash that a kernel loads or stores, and where in the order of its barriers.

    Attributes:
        first, last: offsets in the program's part of the stash, last excluded.
        stored: else loaded.
        barriers: how many the program has passed before.
        line: of the source.
    """

    first: int
    last: int
    stored: bool
    barriers: int
    line: int


def hazards(source: str, kind: str, edges: int) -> list[tuple[Access, Access]]:
    """Pairs of accesses to the same numbers, one of them a store, with no barrier between.

    Args:
        source: text of a generated module.
        kind: kernel of it.
        edges: rows of the edge tiles.
    """
    return unordered(accesses(source, kind, edges))


def unordered(used: list[Access]) -> list[tuple[Access, Access]]:
    """The same for accesses in order."""
    seen: list[Access] = []
    found = []
    for access in used:
        if seen and seen[-1].barriers != access.barriers:
            seen = []
        found += [
            (earlier, access)
            for earlier in seen
            if (earlier.stored or access.stored)
            and earlier.first < access.last
            and access.first < earlier.last
        ]
        seen.append(access)
    return found


def without_barrier(used: list[Access], index: int) -> list[Access]:
    """The same accesses if the program did not pass one of its barriers."""
    return [replace(one, barriers=one.barriers - (one.barriers > index)) for one in used]


def accesses(source: str, kind: str, edges: int) -> list[Access]:
    """What a kernel loads from its stash and stores there, in order.

    Raises:
        ValueError: the stash is used in a way that is not understood.
    """
    functions = [node for node in ast.parse(source).body if isinstance(node, ast.FunctionDef)]
    (function,) = (node for node in functions if node.name == kind)
    barriers, uses = 0, 0
    found: list[Access] = []
    for call in _calls(function):
        name = ast.unparse(call.func)
        if name == "tl.debug_barrier":
            barriers += 1
        elif call.args and _names_stash(call.args[0]) and name in _EXTENT:
            uses += 1
            stored = name.startswith("store")
            found += [
                Access(first, last, stored, barriers, call.lineno)
                for first, last in _EXTENT[name](call, edges)
            ]
    mentions = sum(_is_stash(node) for node in ast.walk(function))
    advances = sum(
        isinstance(node, ast.AugAssign) and _is_stash(node.target) for node in ast.walk(function)
    )
    if mentions != uses + advances:
        raise ValueError(f"{mentions - advances} uses of the stash, {uses} understood")
    return found


def _calls(function: ast.FunctionDef) -> Iterator[ast.Call]:
    """Calls in the order in which they are executed: arguments before what takes them."""

    def inside(node: ast.AST) -> Iterator[ast.Call]:
        if isinstance(node, ast.For | ast.While):
            raise ValueError(f"line {node.lineno}: a loop")
        for child in ast.iter_child_nodes(node):
            yield from inside(child)
        if isinstance(node, ast.Call):
            yield node

    for statement in function.body:
        yield from inside(statement)


def _is_stash(node: ast.AST) -> bool:
    return isinstance(node, ast.Name) and node.id == "stash"


def _names_stash(node: ast.AST) -> bool:
    return any(_is_stash(child) for child in ast.walk(node))


def _number(node: ast.expr, edges: int) -> int:
    """Value of an expression of literals, E, and stash = 0."""
    if isinstance(node, ast.Constant) and isinstance(node.value, int):
        return node.value
    if isinstance(node, ast.Name) and node.id in ("E", "stash"):
        return edges if node.id == "E" else 0
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add | ast.Mult):
        left, right = _number(node.left, edges), _number(node.right, edges)
        return left + right if isinstance(node.op, ast.Add) else left * right
    raise ValueError(f"not a number that is known beforehand: {ast.unparse(node)}")


def _tile(call: ast.Call, edges: int) -> list[tuple[int, int]]:
    """The numbers of a whole tile, (address, …, rows, columns)."""
    offset = _number(call.args[0], edges)
    rows, cols = call.args[-2:]
    return [(offset, offset + _number(rows, edges) * _number(cols, edges))]


def _component(call: ast.Call, edges: int) -> list[tuple[int, int]]:
    """Rows of one component of all centres, (address, component, size, channels, slots, …)."""
    offset, component, size, channels, slots = (_number(a, edges) for a in call.args[:5])
    rows = [slot * size + component for slot in range(slots)]
    return [(offset + r * channels, offset + (r + 1) * channels) for r in rows if r < COMPONENTS]


_EXTENT = {
    "store_tile": _tile,
    "load_tile": _tile,
    "store_component": _component,
    "load_component": _component,
}
