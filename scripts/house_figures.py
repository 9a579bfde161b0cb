"""How many rooms the package has, on how many floors, and how many arrows run between them.

    python scripts/house_figures.py [--rooms]

A room is an entry of engine/, kernels/ is one, too; an arrow leads from a room to one that a module
of it imports, by the parser of tests/test_house.py; a room stands one floor above the highest that
it imports. `--rooms` lists them.
"""

from __future__ import annotations

import argparse
import sys
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def arrows() -> dict[str, set[str]]:
    """For each room those that it imports."""
    sys.path.insert(0, str(ROOT))
    from tests.test_house import DOORS, MODULES, imports, room

    found: dict[str, set[str]] = {}
    for module, path in MODULES.items():
        here = room(module)
        if here is None:
            continue
        there = {room(name) for name in imports(path) if (module, room(name)) not in DOORS}
        found.setdefault(here, set()).update(name for name in there if name and name != here)
    return {here: there & set(found) for here, there in found.items()}


def floors(graph: dict[str, set[str]]) -> dict[str, int]:
    """The floor of each room, from 0 up."""

    @cache
    def floor(name: str) -> int:
        return 1 + max((floor(other) for other in graph[name]), default=-1)

    return {name: floor(name) for name in graph}


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rooms", action="store_true", help="list every room")
    args = parser.parse_args()
    graph = arrows()
    by_room = floors(graph)
    if args.rooms:
        for name in sorted(graph, key=lambda room: (by_room[room], room)):
            print(f"{by_room[name]:2d} {name}: {', '.join(sorted(graph[name]))}")
    n_arrows = sum(len(there) for there in graph.values())
    print(f"{len(graph)} rooms, {max(by_room.values()) + 1} floors, {n_arrows} arrows")


if __name__ == "__main__":
    main()
