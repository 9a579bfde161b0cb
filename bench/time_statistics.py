"""Long runs with and without multiple time steps: drift, distances, spectra, adsorption.

    python bench/time_statistics.py run --timestep 0.9 --sample 4 --out outputs/time-statistics
    python bench/time_statistics.py run --every 4 --timestep 0.9 --out outputs/time-statistics
    python bench/time_statistics.py run --every 4 --timestep 0.9 --mixture \
        --out outputs/time-statistics
    python bench/time_statistics.py compare --every 4 --timestep 0.9 \
        --out outputs/time-statistics --json bench/results/time_statistics.json

A slab of platinum under CO, in float64 at constant energy, from starts that full HF has warmed up,
one for each `--seed`. Every run is kept in the folder, so that they can be made one by one.
Molecules change sites every few picoseconds, so pieces of one run are not independent: means of
what depends on the site are over runs, and their errors from how runs scatter. What a molecule is
like at a site needs no changes of site: there errors come from blocks of all runs.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from ase import Atoms
from nve_conservation import append, provenance
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))
from make_slab import make_slab

from duetto.atoms.periodic import pairs_within
from duetto.experts.pair import ExpertPair
from duetto.files import atomic_write
from duetto.md import NVE, Langevin, Limits, initial_state, run_md
from duetto.md.multiple_timestep import SplitNVE
from duetto.md.state import State, with_forces
from duetto.partition.regions import Regions
from duetto.potential.split import SplitPotential
from duetto.run.thermo import energy_drift_meV_per_atom_per_ps
from duetto.validate.statistics import Samples, compared

Array = npt.NDArray[np.float64]

PAIR = Path(__file__).parents[1] / "examples" / "ptco" / "ptco_time_linear.duetto"
REGIONS = {
    "complex": {
        "any": [
            {"species": ["C", "O"]},
            {"layers": {"axis": "z", "top": 2, "of": {"species": ["Pt"]}}},
        ]
    }
}
TEMPERATURE_K = 300.0
TIMESTEP_FS = 1.0
WARM_UP_STEPS = 1500
MOST_SEEDS = 20

BONDED = 2.6
"""Å from C within which a platinum atom is one that it sits on: bonds have 1.9 to 2.2."""


def potential_of(atoms: Atoms, pair: ExpertPair, mixture: bool) -> SplitPotential:
    """Split in time: full HF, or HF on the molecules and the two layers under them."""
    weights = Regions.from_dict(REGIONS).weights(atoms) if mixture else np.ones(len(atoms))
    return SplitPotential(pair, list(atoms.symbols), weights, atoms.pbc, dtype="float64", skin=1.0)


def started(atoms: Atoms, pair: ExpertPair, seed: int) -> State:
    """The slab at the temperature wanted, by Langevin dynamics with full HF."""
    potential = potential_of(atoms, pair, mixture=False)
    state = initial_state(atoms, potential, temperature_K=2 * TEMPERATURE_K, seed=seed)
    stage = Langevin(WARM_UP_STEPS, TEMPERATURE_K, friction_per_fs=0.02)
    for state in run_md(state, potential, [stage], timestep_fs=TIMESTEP_FS):  # noqa: B007, B020
        pass
    return replace(state, thermostat_work=0.0, step=0, time_fs=0.0, n_rebuilds=0)


def run(
    atoms: Atoms,
    state: State,
    potential: SplitPotential,
    every: int,
    ps: float,
    timestep_fs: float = TIMESTEP_FS,
    sample: int = 3,
) -> dict:
    """One run at constant energy: its drift and the instants that are kept.

    These are `sample` steps apart, or an outer step: some five in a period of the C–O stretch.
    """
    between = sample if every == 1 else every
    steps = round(1000.0 * ps / timestep_fs / between) * between
    stage = NVE(steps) if every == 1 else SplitNVE(steps, every)
    times, energies, kept = [], [], []
    first = with_forces(state, potential)
    states = run_md(
        first, potential, [stage], timestep_fs=timestep_fs, limits=Limits(), first_step=0
    )
    for reached in tqdm(states, total=steps // every, disable=None, delay=2.0):
        kinetic = reached.kinetic_energy
        times.append(reached.time_fs)
        energies.append(reached.energy + kinetic)
        if reached.step % between == 0:
            warmth = reached.temperature(kinetic)
            kept.append((reached.positions.numpy(), reached.velocities.numpy(), warmth))
    line = np.polyval(np.polyfit(times, energies, 1), times)
    n = len(atoms)
    # The scatter of slopes over blocks: what a straight line through so long a run may be off.
    cuts = np.array_split(np.arange(len(times)), 10)
    means = [float(np.mean(np.array(energies)[cut])) for cut in cuts]
    return {
        "positions": np.array([one[0] for one in kept]),
        "velocities": np.array([one[1] for one in kept]),
        "temperature_k": np.array([one[2] for one in kept]),
        "every_fs": between * timestep_fs,
        "drift": energy_drift_meV_per_atom_per_ps(times, energies, n),
        "fluctuation": float(np.std(np.array(energies) - line)) * 1000 / n,
        "block_energies": (np.array(means) - means[0]) * 1000 / n,
    }


def samples_of(file: Path) -> Samples:
    """The instants of a run."""
    with np.load(file) as data:
        keys = "positions", "velocities", "temperature_k"
        return Samples(float(data["every_fs"]), *(data[key] for key in keys))


SITES = ("on top", "on bridges", "in hollows")


@dataclass(frozen=True)
class Molecules:
    """The molecules at some instants of a run: every array (S, M).

    Attributes:
        site: index into `SITES`; −1 away from the surface.
        height: of C above the layer, Å.
        tilt: degrees.
        bond: C–O, Å.
    """

    site: npt.NDArray[np.int64]
    height: Array
    tilt: Array
    bond: Array


def molecules_of(block: Samples, atoms: Atoms) -> Molecules:
    """Where the molecules are in every fifth instant."""
    symbols = np.array(atoms.symbols)
    carbon, oxygen = np.flatnonzero(symbols == "C"), np.flatnonzero(symbols == "O")
    metal = np.flatnonzero(symbols == "Pt")
    top = metal[atoms.positions[metal, 2] > atoms.positions[metal, 2].max() - 1.0]
    site, height, tilt, bond = [], [], [], []
    for positions in block.positions[::5]:
        found = pairs_within(
            positions[carbon], positions[metal], atoms.cell.array, atoms.pbc, BONDED
        )
        site.append(np.minimum(np.bincount(found.query, minlength=len(carbon)), 3) - 1)
        # Molecules and their atoms are never wrapped apart: positions are those of one image.
        axis = positions[oxygen] - positions[carbon]
        length = np.linalg.norm(axis, axis=1)
        height.append(positions[carbon, 2] - positions[top, 2].mean())
        tilt.append(np.degrees(np.arccos(axis[:, 2] / length)))
        bond.append(length)
    return Molecules(*(np.array(values) for values in (site, height, tilt, bond)))


def of_a_run(run: Samples, atoms: Atoms) -> dict[str, float]:
    """What has to be averaged over many changes of site."""
    molecules = molecules_of(run, atoms)
    shares = {f"share {name}": float((molecules.site == k).mean()) for k, name in enumerate(SITES)}
    return shares | {
        "height of C, Å": float(molecules.height.mean()),
        "tilt, degrees": float(molecules.tilt.mean()),
        "C–O bond, Å": float(molecules.bond.mean()),
        "C–O stretch, 1/cm": stretch_per_cm(run, atoms),
        "temperature, K": float(run.temperature_k.mean()),
    }


def at_a_site(block: Samples, atoms: Atoms) -> dict[str, float]:
    """What a molecule is like as long as it stays where it is; NaN where none was."""
    molecules = molecules_of(block, atoms)
    values = {
        "height of C, Å": molecules.height,
        "tilt, degrees": molecules.tilt,
        "C–O bond, Å": molecules.bond,
    }
    return {
        f"{name}, {site}": float(value[here].mean()) if here.any() else np.nan
        for name, value in values.items()
        for k, site in enumerate(SITES)
        for here in [molecules.site == k]
    }


def stretch_per_cm(block: Samples, atoms: Atoms) -> float:
    """Mean wavenumber above 1,500 of the C–O bonds' rates, 1/cm, weighted by the spectrum."""
    symbols = np.array(atoms.symbols)
    carbon, oxygen = np.flatnonzero(symbols == "C"), np.flatnonzero(symbols == "O")
    axis = block.positions[:, oxygen] - block.positions[:, carbon]
    axis = axis / np.linalg.norm(axis, axis=2, keepdims=True)
    rate = ((block.velocities[:, oxygen] - block.velocities[:, carbon]) * axis).sum(2)
    power = (np.abs(np.fft.rfft(np.hanning(len(rate))[:, None] * rate, axis=0)) ** 2).sum(1)
    wavenumber = np.fft.rfftfreq(len(rate), block.every_fs) / 2.99792458e-5
    high = wavenumber > 1500.0
    return float((wavenumber * power)[high].sum() / power[high].sum())


def with_errors(
    pieces: dict[str, list[Samples]],
    atoms: Atoms,
    measured: Callable[[Samples, Atoms], dict[str, float]],
) -> dict[str, Any]:
    """By quantity and kind of run its mean over pieces and, of several, the standard error."""
    found: dict[str, dict[str, Any]] = {}
    for who, samples in pieces.items():
        table = [measured(one, atoms) for one in samples]
        for name in table[0]:
            values = [row[name] for row in table if np.isfinite(row[name])]
            several = len(values) > 1
            found.setdefault(name, {})[who] = {
                "mean": float(np.mean(values)) if values else None,
                "standard_error": float(np.std(values, ddof=1) / np.sqrt(len(values)))
                if several
                else None,
                "pieces": len(values),
            }
    return found


def file_of(folder: Path, mixture: bool, every: int, timestep_fs: float, seed: int) -> Path:
    """Where a run is kept."""
    name = f"{'mixture' if mixture else 'hf'}_{every}"
    name += "" if timestep_fs == TIMESTEP_FS else f"_of_{timestep_fs:g}_fs"
    return folder / (f"{name}.npz" if seed == 1 else f"{name}_seed_{seed}.npz")


def compare(
    folder: Path, atoms: Atoms, every: int, blocks: int, timestep_fs: float = TIMESTEP_FS
) -> dict[str, Any]:
    """Runs with multiple time steps beside full HF at every inner step, at the same instants."""
    kinds = {
        "hf": (False, 1),
        f"hf, k = {every}": (False, every),
        f"mixture, k = {every}": (True, every),
    }
    files = {
        who: [
            file
            for seed in range(1, MOST_SEEDS + 1)
            if (file := file_of(folder, *kind, timestep_fs, seed)).is_file()
        ]
        for who, kind in kinds.items()
    }
    runs = {who: [samples_of(file) for file in found] for who, found in files.items() if found}
    return {
        "n_atoms": len(atoms),
        "every": every,
        "timestep_fs": timestep_fs,
        "runs": {who: [_energies(file) for file in files[who]] for who in runs},
        "over_runs": with_errors(runs, atoms, of_a_run),
        "at_a_site": with_errors(
            {who: [b for run in found for b in run.blocks(blocks)] for who, found in runs.items()},
            atoms,
            at_a_site,
        ),
        "curves_within_two_errors": {
            who: _curves(runs[who], runs["hf"], atoms, blocks) for who in runs if who != "hf"
        },
    } | provenance()


def _energies(file: Path) -> dict[str, Any]:
    """What a run did to its energy."""
    with np.load(file) as data:
        return {
            "file": file.stem,
            "length_ps": len(data["positions"]) * float(data["every_fs"]) / 1000.0,
            "drift_mev_per_atom_per_ps": float(data["drift"]),
            "fluctuation_mev_per_atom": float(data["fluctuation"]),
            "mean_energy_of_tenths_mev_per_atom": data["block_energies"].round(5).tolist(),
        }


def _curves(runs: list[Samples], hf: list[Samples], atoms: Atoms, blocks: int) -> dict[str, float]:
    """The share of a curve's points that are within two standard errors of full HF's."""
    found = compared(runs, hf, atoms, blocks)
    return {
        f"{kind} {key}": curve["within_two_errors"]
        for kind in ("pairs", "spectrum")
        for key, curve in found[kind].items()
        if isinstance(curve, dict)
    }


def rows(folder: Path, pair: Path) -> list[dict[str, Any]]:
    """What every run in the folder did to its energy."""
    found = []
    for file in sorted(folder.glob("*.npz")):
        row = {"pair": pair.name, **_energies(file)}
        del row["mean_energy_of_tenths_mev_per_atom"]
        found.append(row)
    return found


def main() -> None:
    """Run, compare what has been run, or list it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["run", "compare", "rows"])
    parser.add_argument("--pair", type=Path, default=PAIR)
    parser.add_argument("--every", type=int, default=1, help="inner steps of an outer one")
    parser.add_argument("--timestep", type=float, default=TIMESTEP_FS, help="the inner step, fs")
    parser.add_argument(
        "--sample", type=int, default=3, help="steps between instants that are kept, for --every 1"
    )
    parser.add_argument("--seed", type=int, default=1, help=f"of the start, 1 to {MOST_SEEDS}")
    parser.add_argument("--mixture", action="store_true", help="HF on the surface alone")
    parser.add_argument("--ps", type=float, default=50.0)
    parser.add_argument("--layers", type=int, default=4, help="of platinum")
    parser.add_argument("--blocks", type=int, default=10)
    parser.add_argument("--out", type=Path, required=True, help="folder of the runs")
    parser.add_argument("--json", type=Path, help="of the comparison")
    parser.add_argument("--csv", type=Path, help="of the rows")
    args = parser.parse_args()
    atoms = make_slab(2, 4, args.layers)
    if args.what == "compare":
        text = json.dumps(
            compare(args.out, atoms, args.every, args.blocks, args.timestep), indent=1
        )
        print(text)
        if args.json:
            atomic_write(args.json, text + "\n")
        return
    if args.what == "rows":
        for row in rows(args.out, args.pair):
            print(row)
            if args.csv:
                append(args.csv, row | provenance())
        return
    pair = ExpertPair.load(args.pair)
    args.out.mkdir(parents=True, exist_ok=True)
    potential = potential_of(atoms, pair, args.mixture)
    start = started(atoms, pair, args.seed)
    found = run(atoms, start, potential, args.every, args.ps, args.timestep, args.sample)
    file = file_of(args.out, args.mixture, args.every, args.timestep, args.seed)
    np.savez_compressed(file, **found)
    print(file.stem, {key: value for key, value in found.items() if np.ndim(value) == 0})


if __name__ == "__main__":
    main()
