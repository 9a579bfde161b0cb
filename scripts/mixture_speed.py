"""Speed-up over full HF and force error of mixtures with several LF experts, as rows and a plot.

    python scripts/mixture_speed.py examples/ptco/ptco_linear.duetto examples/ptco/ptco.duetto \
        --random hf64 --nequip 500 --out bench/results/mixture_speed.json \
        --plot docs/images/mixture_speed.png
    python scripts/mixture_speed.py examples/ptco/ptco_linear.duetto examples/ptco/ptco.duetto \
        --system ptco --out bench/results/mixture_speed_ptco.json \
        --plot docs/images/mixture_speed_ptco.png

`--system pt`: bulk platinum with a ball of atoms computed by HF. `--system ptco`: slabs of
Pt(111) under CO, the molecules and both surfaces computed by HF as in the demonstration; the share
of complex atoms is set by the slab's thickness. The pairs must have the same HF expert; all their
mixtures and full HF are timed turn by turn in one process. `--random hf64` adds the first pair's LF
under an HF of that architecture with random weights at 5 Å, whose speed alone means something.
`--processor-time` counts what one thread computes, on a machine that does other things meanwhile.
`--nequip N` times nequip's own evaluations of every HF, eager and compiled, on about N atoms in the
same turns; they are compared per atom, in nequip's favour as far as its memory goes.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase import Atoms
from ase.geometry import get_distances
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy.spatial import KDTree

from duetto.environment import package_versions
from duetto.experts.allegro.expert import AllegroExpert
from duetto.experts.base import max_cutoff
from duetto.experts.pair import ExpertPair
from duetto.files import atomic_write
from duetto.measure.bench.architectures import random_pair
from duetto.measure.bench.systems import bulk_platinum, platinum_with_co
from duetto.measure.turns import time_in_turns
from duetto.partition.regions import Regions
from duetto.potential.mixture import Potential
from duetto.report.style import INK, LF, MIXTURE, MUTED, draw_png

VERSIONS = ("duetto", "torch", "numpy", "numba", "nequip", "nequip-allegro")
FRACTIONS = (0.02, 0.05, 0.10, 0.20, 0.40)


SURFACE_LAYERS = 2
"""On either side of a slab that are complex, as in the demonstration."""

Peers = dict[str, Callable[[], object]]


@dataclass(frozen=True)
class Case:
    """Atoms and their weights (A,), 1 or 0."""

    atoms: Atoms
    weights: NDArray[np.float64]


def main() -> None:
    """Measure, write rows, draw."""
    args = arguments()
    torch.set_num_threads(args.threads)
    cases = {"pt": balls, "ptco": slabs}[args.system](args.atoms, args.fractions)
    pairs = {Path(path).stem: ExpertPair.load(path) for path in args.pairs}
    groups = [pairs]
    if args.random:
        groups.append(with_random_hf(pairs, args.random))
    small = None if args.nequip is None else bulk_platinum(args.nequip)
    rows = []
    for group in groups:
        peers = {} if small is None else nequip_peers(next(iter(group.values())), small)
        count = len(small) if small is not None else 1
        for case in cases:
            clock = time.thread_time if args.processor_time else time.perf_counter
            rows += measure(case, group, args.rounds, clock, peers, count)
    record = {
        "system": args.system,
        "n_atoms": [len(case.atoms) for case in cases],
        "threads": args.threads,
        "clock": "processor time" if args.processor_time else "wall time",
        "dtype": "float32",
        "pairs": {n: pair.content_hash for group in groups for n, pair in group.items()},
        "nequip_atoms": None if small is None else len(small),
        "versions": package_versions(VERSIONS),
        "rows": rows,
    }
    atomic_write(args.out, json.dumps(record, indent=1) + "\n")
    if args.plot is not None:
        atomic_write(args.plot, draw(rows))


def arguments() -> argparse.Namespace:
    """What the command line says."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pairs", nargs="+", help="pair files with one HF expert in common")
    parser.add_argument("--system", choices=("pt", "ptco"), default="pt")
    parser.add_argument("--atoms", type=int, default=8000)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--fractions", type=float, nargs="+", default=FRACTIONS)
    parser.add_argument(
        "--processor-time", action="store_true", help="of one thread, not wall time"
    )
    parser.add_argument("--random", metavar="ARCHITECTURE", help="an HF of random weights, too")
    parser.add_argument("--nequip", type=int, metavar="N", help="nequip's HF on so many atoms")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--plot", type=Path)
    args = parser.parse_args()
    if args.processor_time and args.threads != 1:
        parser.error("--processor-time: of one thread; leave --threads at 1")
    return args


def with_random_hf(pairs: dict[str, ExpertPair], architecture: str) -> dict[str, ExpertPair]:
    """The first pair's LF under an HF of random weights, cutoff 5 Å, of the same species."""
    name, pair = next(iter(pairs.items()))
    lf = pair.experts["lf"]
    hf = random_pair(
        architecture, None, hf_r_max=5.0, lf_r_max=5.0, species=pair.experts["hf"].species, seed=1
    ).hf
    return {f"{architecture} with the LF of {name}": ExpertPair(hf, lf, {})}


def nequip_peers(pair: ExpertPair, atoms: Atoms) -> Peers:
    """nequip's evaluations of a pair's HF, the list given; by name."""
    from duetto.measure.bench import nequip_engines as nequip

    hf = pair.whole_hf()
    assert isinstance(hf, AllegroExpert)
    given = nequip.NequipInput(nequip.eager(hf, "float32", "cpu"), atoms, "cpu")
    data, path = given.data(), nequip.compiled(hf, "float32", "cpu", atoms, say=print)
    models = {
        "nequip eager": nequip.eager(hf, "float32", "cpu"),
        "nequip compiled": nequip.load_compiled(path, "cpu"),
    }
    return {name: lambda m=m: m(dict(data)) for name, m in models.items()}


def balls(n_atoms: int, fractions: Sequence[float]) -> list[Case]:
    """Bulk platinum whose middle is complex."""
    atoms = bulk_platinum(n_atoms)
    return [Case(atoms, ball(atoms, fraction)) for fraction in fractions]


def ball(atoms: Atoms, fraction: float) -> NDArray[np.float64]:
    """Weights (A,): 1 for the atoms nearest to the middle of the cell, 0 for the others."""
    middle = atoms.cell.array.sum(axis=0) / 2
    distance = get_distances([middle], atoms.positions, atoms.cell, atoms.pbc)[1][0]
    weights = np.zeros(len(atoms))
    weights[np.argsort(distance, kind="stable")[: round(fraction * len(atoms))]] = 1.0
    return weights


def slabs(n_atoms: int, fractions: Sequence[float]) -> list[Case]:
    """Slabs under a quarter monolayer of CO, as thick as their share of complex atoms asks."""
    regions = Regions.from_dict(
        {
            "complex": {
                "any": [
                    {"species": ["C", "O"]},
                    *(
                        {"layers": {"axis": "z", side: SURFACE_LAYERS, "of": {"species": ["Pt"]}}}
                        for side in ("top", "bottom")
                    ),
                ]
            }
        }
    )
    found = []
    for fraction in fractions:
        # Of a layer's atoms there are half as many in CO.
        layers = round((2 * SURFACE_LAYERS + 0.5) / fraction - 0.5)
        atoms = platinum_with_co(n_atoms, layers=layers)
        found.append(Case(atoms, regions.weights(atoms)))
    return found


def measure(
    case: Case,
    pairs: dict[str, ExpertPair],
    rounds: int,
    clock: Callable[[], float],
    peers: Peers,
    peer_atoms: int = 1,
) -> list[dict[str, Any]]:
    """One row per pair; `peers` are timed along, on `peer_atoms` atoms each.

    Full LF is left out where LF does not know every species.
    """
    atoms, weights = case.atoms, case.weights
    positions = torch.from_numpy(atoms.positions.copy())
    cell = torch.from_numpy(atoms.cell.array.copy())

    def potential(pair: ExpertPair, weights: NDArray[np.float64]) -> Potential:
        made = Potential(pair, atoms.get_chemical_symbols(), weights, atoms.pbc)
        made.evaluate(positions, cell)
        return made

    full = potential(next(iter(pairs.values())), np.ones(len(atoms)))
    exact = full.evaluate(positions, cell).forces
    lows = {
        name: potential(pair, np.zeros(len(atoms)))
        for name, pair in pairs.items()
        if set(atoms.symbols) <= set(pair.experts["lf"].species)
    }
    mixtures = {name: potential(pair, weights) for name, pair in pairs.items()}
    tasks = {
        "full_hf": lambda: full.evaluate(positions, cell),
        **{f"lf {n}": lambda p=p: p.evaluate(positions, cell) for n, p in lows.items()},
        **{n: lambda p=p: p.evaluate(positions, cell) for n, p in mixtures.items()},
        **peers,
    }
    times = {n: t.minimum_ms for n, t in time_in_turns(tasks, rounds=rounds, clock=clock).items()}
    per_atom = {n: times[n] / peer_atoms for n in peers}
    rows = []
    for name, pair in pairs.items():
        error = (mixtures[name].evaluate(positions, cell).forces - exact).numpy()
        errors = force_errors(case, error, 2 * max_cutoff(pair.experts["lf"]))
        row = {"pair": name, "lf_kind": pair.experts["lf"].kind, "n_atoms": len(atoms)}
        row |= speeds(case, times["full_hf"], times.get(f"lf {name}"), times[name], per_atom)
        rows.append(row | errors)
        print(rows[-1], flush=True)
    return rows


def speeds(
    case: Case, hf: float, lf: float | None, mixed: float, per_atom: dict[str, float]
) -> dict[str, Any]:
    """Times in ms of full HF, full LF and the mixture, and nequip's per atom, as columns."""
    fraction = float(case.weights.mean())
    ideal = None if lf is None else hf / (fraction * hf + (1 - fraction) * lf)
    best = min(per_atom, key=lambda n: per_atom[n]) if per_atom else None
    return {
        "complex_fraction": round(fraction, 3),
        "full_hf_ms": hf,
        "full_lf_ms": lf,
        "mixture_ms": mixed,
        "speedup": hf / mixed,
        "of_ideal": None if ideal is None else hf / mixed / ideal,
        "nequip_ms_per_atom": per_atom,
        "nequip_best": best,
        "speedup_over_nequip": best and per_atom[best] * len(case.atoms) / mixed,
    }


def force_errors(case: Case, error: NDArray[np.float64], deep: float) -> dict[str, float | None]:
    """Of the complex atoms, and of those whose distance from any simple one is above `deep`, Å."""
    inside = case.weights == 1.0
    depth = KDTree(case.atoms.positions[~inside]).query(case.atoms.positions)[0]
    core = inside & (depth > deep)
    return {
        "force_rmse_complex_mev_per_angstrom": _rms(error[inside]),
        "force_rmse_core_mev_per_angstrom": _rms(error[core]) if core.any() else None,
    }


def _rms(values: NDArray[np.float64]) -> float:
    return 1e3 * float(np.sqrt(np.mean(values**2)))


def draw(rows: list[dict[str, Any]]) -> bytes:
    """Speed-up, and force error in the complex region, over the complex fraction; PNG."""
    names = list(dict.fromkeys(row["pair"] for row in rows))
    colours = dict(zip(names, (LF, MIXTURE, MUTED, INK), strict=False))

    def plot(figure: Figure) -> None:
        left, right = figure.subplots(1, 2)
        for name in names:
            chosen = [row for row in rows if row["pair"] == name]
            percent = [100 * row["complex_fraction"] for row in chosen]
            random = "with the LF of" in name
            kind = {"allegro": "Allegro"}.get(chosen[0]["lf_kind"], chosen[0]["lf_kind"])
            label = f"{kind} LF" + (f", HF {name.split()[0]}" if random else "")
            speed = [row["speedup"] for row in chosen]
            left.plot(percent, speed, "o-", color=colours[name], label=label)
            if chosen[0]["of_ideal"] is not None:
                ideal = [row["speedup"] / row["of_ideal"] for row in chosen]
                left.plot(percent, ideal, "--", color=colours[name], linewidth=1.0)
            if random:
                continue
            error = [row["force_rmse_complex_mev_per_angstrom"] for row in chosen]
            right.plot(percent, error, "o-", color=colours[name], label=label)
        for ax in (left, right):
            ax.set_xscale("log")
            ticks = sorted({100 * row["complex_fraction"] for row in rows})
            ax.set_xticks(ticks, [f"{tick:.2g}" for tick in ticks])
            ax.minorticks_off()
            ax.set_xlabel("complex atoms (%)")
            ax.grid(axis="y")
        left.set_yscale("log")
        shown = [value for value in (1, 2, 3, 5, 10, 20, 30, 50) if value <= 60]
        left.set_yticks(shown, [f"{value}×" for value in shown])
        left.set_ylabel("faster than full HF")
        left.legend()
        right.set_ylim(bottom=0.0)
        right.set_ylabel("force error, complex region (meV/Å)")

    return draw_png(plot, width=7.5, height=3.2)


if __name__ == "__main__":
    main()
