"""What the host does beside a device: time of a look by the guard, and of lists for a check.

    python bench/host_paths.py --atoms 100000 1000000

For each size, the fastest of --rounds: the guard's look while no atom has left its place (a pass
over the atoms) and its first (a search); the neighbours of twelve atoms, which the self-check's
reference is given; and what it used to be given, the whole list sorted on the host (up to --sorted
atoms: it takes 200 bytes per pair).
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np

from duetto.measure.bench.systems import platinum_with_co
from duetto.partition.guard import Guard, Watch
from duetto.potential.neighbors import NeighborList, neighbors_of
from tests.pairs import mismatched_pair

REACH = 5.0


def fastest(work: Callable[[], object], rounds: int) -> float:
    """Seconds."""
    times = []
    for _ in range(rounds):
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return min(times)


def measure(n_atoms: int, rounds: int, most_sorted: int) -> None:
    """Print one line per path."""
    atoms = platinum_with_co(n_atoms)
    x, cell = atoms.positions, atoms.cell.array
    pair = mismatched_pair()
    pair.provenance["lf"] = {"seen_pairs": [["Pt", "Pt"]]}
    weights = (x[:, 2] > np.quantile(x[:, 2], 0.8)).astype(float)
    watch = Watch(
        Guard(policy="warn", watched=("C", "O")), pair, atoms.get_chemical_symbols(), atoms.pbc
    )
    few = np.arange(0, len(atoms), len(atoms) // 12)[:12]

    def search() -> None:
        for known in (watch._unseen, watch._in_shell):
            known._known = None
        watch.look(watch.at(x, cell, weights))

    search()
    neighbors_of(few, REACH, x, cell, atoms.pbc)
    paths: dict[str, Callable[[], object]] = {
        "guard, a search": search,
        "guard, a look": lambda: watch.look(watch.at(x, cell, weights)),
        "neighbours of twelve": lambda: neighbors_of(few, REACH, x, cell, atoms.pbc),
    }
    if len(atoms) <= most_sorted:
        whole = NeighborList(np.full(len(atoms), REACH), atoms.pbc, 0.5)
        whole.rebuild(x, cell)
        i = np.repeat(np.arange(len(atoms)), np.diff(whole.first))
        rows = np.column_stack([i, whole.neighbor, whole.shift])
        paths["the whole list, sorted"] = lambda: np.unique(rows, axis=0)
    for name, work in paths.items():
        print(f"{len(atoms):9d} atoms  {name:<24}{fastest(work, rounds):10.3f} s", flush=True)


def main() -> None:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--atoms", type=int, nargs="+", default=[100_000], metavar="N")
    parser.add_argument("--rounds", type=int, default=3, metavar="N")
    parser.add_argument("--sorted", type=int, default=200_000, metavar="N")
    arguments = parser.parse_args()
    for n_atoms in arguments.atoms:
        measure(n_atoms, arguments.rounds, arguments.sorted)


if __name__ == "__main__":
    main()
