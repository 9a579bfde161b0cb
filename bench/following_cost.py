"""What it costs that a region follows: steps of a following and of the same static one, in turns.

    python bench/following_cost.py --csv bench/results/following_cost.csv

8,000 atoms of platinum at 300 K. `one` seed with 150 atoms that have a weight of HF, and `many`:
400 seeds side by side, a ball of them, each with a region of its own. Both potentials are evaluated
at every position of one trajectory, rebuilds of the list included, the static one with the weights
of the following one at the start. Nothing of the dynamics itself is timed: it is the same for both.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase.build import bulk
from nve_conservation import LATTICE_CONSTANT, append, provenance

from duetto.experts.pair import ExpertPair
from duetto.md import NVE, Limits, initial_state, run_md
from duetto.potential.following import Following, FollowingPotential
from duetto.potential.mixture import Potential

EXAMPLE = Path(__file__).parents[1] / "examples" / "ptco"
REPEAT = (20, 10, 10)
CASES = {"one": (1, 6.0, 2.3), "many": (400, 4.0, 2.5)}
"""Seeds, core and blend in Å."""
TIMESTEP_FS = 2.0
ALLOWED = {"one": 1.05, "many": 1.10}


def potentials(pair: ExpertPair, case: str, atoms: Any) -> dict[str, Potential]:
    """The two that are compared."""
    n_seeds, core, blend = CASES[case]
    middle = atoms.cell.array.sum(axis=0) / 2
    away = np.linalg.norm(atoms.positions - middle, axis=1)
    seeds = np.sort(np.argsort(away, kind="stable")[:n_seeds])
    symbols, none = list(atoms.symbols), np.zeros(len(atoms))
    settings: dict[str, Any] = {"dtype": "float32", "skin": 0.5}
    following = Following(seeds, core, blend)
    moving = FollowingPotential(pair, symbols, none, atoms.pbc, following=following, **settings)
    moving.evaluate(torch.tensor(atoms.positions), torch.tensor(atoms.cell.array))
    static = Potential(pair, symbols, moving.weights, atoms.pbc, **settings)
    return {"static": static, "following": moving}


def trajectory(atoms: Any, potential: Potential, steps: int) -> list[torch.Tensor]:
    """Positions of a run at constant energy."""
    state = initial_state(atoms, potential, temperature_K=600.0, seed=1)
    states = run_md(
        state, potential, [NVE(steps)], timestep_fs=TIMESTEP_FS, limits=Limits(None, None)
    )
    return [state.positions for state in states]


def times(
    engines: dict[str, Potential], path: list[torch.Tensor], cell: torch.Tensor
) -> dict[str, Any]:
    """Seconds of processor time of every evaluation, by engine, (steps,)."""
    spent: dict[str, list[float]] = {name: [] for name in engines}
    for n, positions in enumerate(path):
        turns = list(engines.items())
        for name, potential in turns if n % 2 else turns[::-1]:
            began = time.process_time()
            potential.evaluate(positions, cell)
            spent[name].append(time.process_time() - began)
    return {name: np.array(seconds) for name, seconds in spent.items()}


def main() -> None:
    """Measure both cases; one row each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pair", type=Path, default=EXAMPLE / "ptco.duetto")
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--cases", nargs="+", default=list(CASES), choices=CASES)
    parser.add_argument("--csv", type=Path, help="append rows to this file")
    args = parser.parse_args()
    torch.set_num_threads(1)
    pair = ExpertPair.load(args.pair)
    atoms = bulk("Pt", "fcc", a=LATTICE_CONSTANT, cubic=True).repeat(REPEAT)
    cell = torch.tensor(atoms.cell.array)
    path = trajectory(atoms, potentials(pair, "one", atoms)["static"], args.steps)
    for case in args.cases:
        engines = potentials(pair, case, atoms)
        times(engines, path[:2], cell)
        before = {name: potential.n_rebuilds for name, potential in engines.items()}
        spent = times(engines, path, cell)
        weights = engines["following"].weights
        ms = {name: 1000.0 * seconds for name, seconds in spent.items()}
        row = {
            "case": case,
            "pair": args.pair.name,
            "n_atoms": len(atoms),
            "n_seeds": CASES[case][0],
            "n_hf": int((weights > 0.0).sum()),
            "steps": len(path),
            **{f"{name}_ms_min": float(t.min()) for name, t in ms.items()},
            **{f"{name}_ms_median": float(np.median(t)) for name, t in ms.items()},
            **{f"{name}_ms_mean": float(t.mean()) for name, t in ms.items()},
            "ratio_min": float(ms["following"].min() / ms["static"].min()),
            "ratio_median": float(np.median(ms["following"] / ms["static"])),
            "ratio_mean": float(ms["following"].mean() / ms["static"].mean()),
            "ratio_allowed": ALLOWED[case],
            "rebuilds": engines["following"].n_rebuilds - before["following"],
            **provenance(),
        }
        print(row, flush=True)
        if args.csv:
            append(args.csv, row)


if __name__ == "__main__":
    main()
