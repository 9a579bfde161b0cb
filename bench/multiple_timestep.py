"""How far apart the slow forces may lie: drift, fluctuation and spectrum over k and the timestep.

    python bench/multiple_timestep.py bulk --csv bench/results/multiple_timestep.csv
    python bench/multiple_timestep.py slab --csv bench/results/multiple_timestep.csv
    python bench/multiple_timestep.py --plot docs/images/multiple_timestep.png \
        --csv bench/results/multiple_timestep.csv

Every run starts from the same positions and velocities at constant energy, in float64. HF computes
every atom, which is the hardest case: in a mixture the slow force acts in the complex region alone.
The baseline is plain velocity Verlet with full HF at longer and longer steps. `bulk` is platinum
with the pair that shares the bulk, `slab` platinum under CO with the pair whose LF knows CO.
"""

from __future__ import annotations

import argparse
import csv
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from ase import Atoms
from ase.build import bulk
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter
from nve_conservation import append, provenance

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))
from make_slab import LATTICE_CONSTANT, make_slab

from duetto.errors import RunStopped
from duetto.experts.pair import ExpertPair
from duetto.md import NVE, Langevin, Limits, initial_state, run_md
from duetto.md.multiple_timestep import SplitNVE
from duetto.md.state import State, with_forces
from duetto.potential.split import SplitPotential
from duetto.report.style import HF, INK, LF, MIXTURE, draw_png
from duetto.run.thermo import energy_drift_meV_per_atom_per_ps

EXAMPLES = Path(__file__).parents[1] / "examples" / "ptco"
LIGHT_CM_PER_FS = 2.99792458e-5
LONG_PS = 20.0
"""Longer runs have rows and are not drawn: drift and fluctuation depend on a run's length."""


@dataclass(frozen=True)
class Case:
    """Atoms, a pair, and the steps to try.

    Attributes:
        atoms: at rest on their sites.
        pair: file of the experts.
        temperature_K: of the start.
        inner_fs: the inner step.
        every: numbers of inner steps.
        plain_fs: steps of the baseline.
    """

    atoms: Atoms
    pair: Path
    temperature_K: float
    inner_fs: float
    every: tuple[int, ...]
    plain_fs: tuple[float, ...]


def cases() -> dict[str, Case]:
    """What is measured."""
    crystal = bulk("Pt", "fcc", a=LATTICE_CONSTANT, cubic=True).repeat(3)
    covered = make_slab(2, 4, 4)
    return {
        "bulk": Case(
            atoms=crystal,
            pair=EXAMPLES / "ptco.duetto",
            temperature_K=600.0,
            inner_fs=4.0,
            every=(1, 2, 4, 8, 12),
            plain_fs=(8.0, 16.0),
        ),
        "slab": Case(
            atoms=covered,
            pair=EXAMPLES / "ptco_time_linear.duetto",
            temperature_K=300.0,
            inner_fs=1.0,
            every=(1, 2, 3, 4, 5, 6, 8, 10),
            plain_fs=(2.0, 3.0),
        ),
    }


class Recorded(SplitPotential):
    """Notes the length of every C–O bond at every inner step."""

    bonds: np.ndarray
    lengths: list[np.ndarray]

    def evaluate(self, positions: torch.Tensor, cell: torch.Tensor):
        """See `SplitPotential`."""
        self._note(positions)
        return super().evaluate(positions, cell)

    def evaluate_fast(self, positions: torch.Tensor, cell: torch.Tensor):
        """See `SplitPotential`."""
        self._note(positions)
        return super().evaluate_fast(positions, cell)

    def _note(self, positions: torch.Tensor) -> None:
        if hasattr(self, "bonds") and len(self.bonds):
            carbon, oxygen = positions.numpy()[self.bonds.T]
            self.lengths.append(np.linalg.norm(oxygen - carbon, axis=1))


def potential_of(case: Case, pair: ExpertPair) -> Recorded:
    """Full HF, split in time."""
    atoms = case.atoms
    potential = Recorded(
        pair, list(atoms.symbols), np.ones(len(atoms)), atoms.pbc, dtype="float64", skin=1.0
    )
    symbols = np.array(atoms.get_chemical_symbols())
    carbon, oxygen = np.flatnonzero(symbols == "C"), np.flatnonzero(symbols == "O")
    distances = np.linalg.norm(
        atoms.positions[carbon][:, None] - atoms.positions[oxygen][None], axis=2
    )
    nearest = oxygen[distances.argmin(1)] if len(carbon) else oxygen
    potential.bonds = np.stack([carbon, nearest], axis=1)
    potential.lengths = []
    return potential


def warmed_up(case: Case, pair: ExpertPair, steps: int) -> State:
    """The atoms at the temperature wanted, by Langevin dynamics with full HF."""
    potential = potential_of(case, pair)
    state = initial_state(case.atoms, potential, temperature_K=2 * case.temperature_K, seed=1)
    stage = Langevin(steps, case.temperature_K, friction_per_fs=0.02)
    for state in run_md(state, potential, [stage], timestep_fs=min(case.inner_fs, 2.0)):  # noqa: B007, B020
        pass
    return state


def measure(
    case: Case, pair: ExpertPair, state: State, timestep_fs: float, every: int, ps: float
) -> dict[str, float | int | str]:
    """One run at constant energy."""
    potential = potential_of(case, pair)
    state = replace(state, thermostat_work=0.0, step=0, time_fs=0.0, n_rebuilds=0)
    state = with_forces(state, potential)
    steps = round(1000.0 * ps / (timestep_fs * every)) * every
    stage = NVE(steps) if every == 1 else SplitNVE(steps, every)
    times, energies, temperatures, ended = [], [], [], ""
    potential.lengths.clear()
    try:
        run = run_md(
            state, potential, [stage], timestep_fs=timestep_fs, limits=Limits(), first_step=0
        )
        for state in run:
            kinetic = state.kinetic_energy
            times.append(state.time_fs)
            energies.append(state.energy + kinetic)
            temperatures.append(state.temperature(kinetic))
    except RunStopped as stop:
        ended = str(stop).split(";")[0]
    n = state.n_atoms
    line = np.polyval(np.polyfit(times, energies, 1), times)
    return {
        "timestep_fs": timestep_fs,
        "every": every,
        "outer_fs": round(timestep_fs * every, 9),
        "ps": round(times[-1] / 1000.0, 3),
        "n_atoms": n,
        "temperature_K": round(float(np.mean(temperatures)), 1),
        "drift_mev_per_atom_per_ps": energy_drift_meV_per_atom_per_ps(times, energies, n),
        "fluctuation_mev_per_atom": float(np.std(np.array(energies) - line)) * 1000 / n,
        "co_stretch_per_cm": stretch_per_cm(potential.lengths, timestep_fs),
        "ended": ended,
    }


def stretch_per_cm(lengths: list[np.ndarray], timestep_fs: float) -> float:
    """Mean wavenumber of the C–O stretch, 1/cm, weighted by the spectrum above 1,500; NaN if none.

    Of the velocities of the bond lengths, with a Hann window.
    """
    if not lengths:
        return float("nan")
    velocity = np.diff(np.array(lengths), axis=0)
    window = np.hanning(len(velocity))[:, None]
    power = (np.abs(np.fft.rfft(window * velocity, axis=0)) ** 2).sum(1)
    wavenumber = np.fft.rfftfreq(len(velocity), timestep_fs) / LIGHT_CM_PER_FS
    high = wavenumber > 1500.0
    return float((wavenumber * power)[high].sum() / power[high].sum())


_LINES = {
    False: (LF, "^", "multiple time steps, Allegro LF"),
    True: (MIXTURE, "o", "multiple time steps, linear LF"),
}


def draw(figure: Figure, rows: list[dict[str, str]]) -> None:
    """Drift and fluctuation over the outer step, a column of panels per system."""
    systems = [name for name in cases() if any(row["system"] == name for row in rows)]
    panels = figure.subplots(2, len(systems), sharex="col", squeeze=False)
    quantities = {
        "fluctuation_mev_per_atom": "fluctuation, meV/atom",
        "drift_mev_per_atom_per_ps": "|drift|, meV/atom/ps",
    }
    titles = {
        "bulk": "Bulk Pt, 600 K, inner step 4 fs",
        "slab": "CO on Pt(111), inner step 0.9 to 1.1 fs",
    }
    for column, system in enumerate(systems):
        mine = [row for row in rows if row["system"] == system and float(row["ps"]) < LONG_PS]
        for axes, (key, label) in zip(panels[:, column], quantities.items(), strict=True):
            for group, colour, marker, name in _lines(mine, cases()[system].inner_fs):
                group = sorted(group, key=lambda row: float(row["outer_fs"]))
                x = [float(row["outer_fs"]) for row in group]
                y = [abs(float(row[key])) for row in group]
                axes.plot(x, y, marker=marker, color=colour, label=name, markersize=4)
            axes.set_yscale("log")
            axes.yaxis.set_minor_formatter(NullFormatter())
            axes.set_ylabel(label)
            axes.grid(True, axis="y", alpha=0.5)
            _mark_fractions(axes, mine)
        panels[1, column].axhline(1e-3, color=INK, linewidth=0.8, linestyle=":")
        panels[0, column].set_title(titles[system], pad=16)
        panels[1, column].set_xlabel("time between evaluations of HF, fs")
    named = {
        name: handle
        for axes in panels[0]
        for handle, name in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    figure.legend(named.values(), named.keys(), loc="outside lower center", ncols=3)


def _lines(
    rows: list[dict[str, str]], inner_fs: float
) -> list[tuple[list[dict[str, str]], str, str, str]]:
    """What is drawn of a system: rows, colour, marker and name of every line."""
    # Every pair of a system has the same HF: plain steps are drawn from one start.
    plain = [row for row in rows if row["every"] == "1" and "linear" not in row["pair"]]
    lines = [(plain, HF, "s", "velocity Verlet, full HF")]
    for pair in dict.fromkeys(row["pair"] for row in rows):
        split = [
            row
            for row in rows
            if row["pair"] == pair
            and (int(row["every"]) > 1 or float(row["timestep_fs"]) == inner_fs)
        ]
        lines.append((split, *_LINES["linear" in pair]))
    return lines


def _mark_fractions(axes: Axes, rows: list[dict[str, str]]) -> None:
    """Lines where an outer step is a simple fraction of the period of the C–O stretch."""
    at_rest = [float(r["co_stretch_per_cm"]) for r in rows if r["outer_fs"] == "1.0"]
    if not at_rest or not np.isfinite(at_rest).all():
        return
    period = 1.0 / (LIGHT_CM_PER_FS * float(np.mean(at_rest)))
    for n in (2, 3, 4, 5):
        axes.axvline(period / n, color=INK, linewidth=0.6, alpha=0.5)
        axes.annotate(
            f"1/{n}",
            (period / n, 1.01),
            xycoords=("data", "axes fraction"),
            ha="center",
            fontsize="x-small",
        )


def split(text: str) -> tuple[float, int]:
    """Inner step in fs and number of them, from text such as 1.1x4."""
    inner, every = text.split("x")
    return float(inner), int(every)


def main() -> None:
    """Measure and append rows, or draw what is there."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("system", nargs="?", choices=sorted(cases()))
    parser.add_argument("--csv", type=Path, required=True, help="append rows to this file")
    parser.add_argument("--plot", type=Path, metavar="PNG", help="draw the rows")
    parser.add_argument("--pair", type=Path, help="another pair file")
    parser.add_argument("--ps", type=float, default=4.0, help="simulated time of a run")
    parser.add_argument("--warm-up", type=int, default=1000, metavar="STEPS")
    parser.add_argument("--every", type=int, nargs="*", help="numbers of inner steps")
    parser.add_argument(
        "--plain", type=float, nargs="*", metavar="FS", help="steps of the baseline"
    )
    parser.add_argument(
        "--split",
        type=split,
        nargs="*",
        default=[],
        metavar="FSxK",
        help="other inner steps, with numbers of them, such as 1.1x4",
    )
    args = parser.parse_args()
    if args.system:
        case = cases()[args.system]
        case = replace(
            case,
            pair=args.pair or case.pair,
            every=tuple(case.every if args.every is None else args.every),
        )
        plain = case.plain_fs if args.plain is None else args.plain
        pair = ExpertPair.load(case.pair)
        state = warmed_up(case, pair, args.warm_up)
        tries = [(case.inner_fs, every) for every in case.every] + [(h, 1) for h in plain]
        tries += args.split
        for timestep_fs, every in tries:
            row = {
                "system": args.system,
                "pair": case.pair.name,
                "pair_hash": pair.content_hash[:12],
                **measure(case, pair, state, timestep_fs, every, args.ps),
                **provenance(),
            }
            print(row, flush=True)
            append(args.csv, row)
    if args.plot:
        with args.csv.open() as stream:
            rows = list(csv.DictReader(stream))
        args.plot.parent.mkdir(parents=True, exist_ok=True)
        args.plot.write_bytes(draw_png(lambda figure: draw(figure, rows), width=7.0, height=5.0))


if __name__ == "__main__":
    main()
