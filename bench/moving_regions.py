"""Long runs whose region moves: what they conserve, and what changing weights costs.

    python bench/moving_regions.py --csv bench/results/moving_regions.csv
    python bench/moving_regions.py --system slab --pairs co-trained twin crossed --dtype float32 \
        --csv bench/results/moving_regions.csv

At constant energy, with weights that follow atoms and with partitions that are updated around them,
with and without hysteresis. `bulk` is platinum around one of its atoms, `slab` is
`examples/ptco/follow.yaml`, CO on Pt(111). The shipped pair, its twin trained apart, the HF of the
one with the LF of the other, and two experts with random weights, whose energies have nothing in
common.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import torch
from nve_conservation import append, mismatched_pair, provenance, structure

from duetto.experts.pair import ExpertPair
from duetto.potential.following import Following, FollowingPotential
from duetto.potential.mixture import Potential
from duetto.run.config import RunConfig, load_config
from duetto.run.files import THERMO, TRAJECTORY
from duetto.run.run import run
from duetto.run.summary import RunSummary
from duetto.run.thermo import (
    energy_drift_error_meV_per_atom_per_ps,
    energy_drift_meV_per_atom_per_ps,
    read_thermo,
)

EXAMPLE = Path(__file__).parents[1] / "examples" / "ptco"
PAIRS = ("co-trained", "twin", "crossed", "mismatched")
BULK_PAIRS = ("co-trained", "twin", "mismatched")
SURFACES = "{layers: {axis: z, top: 1, of: {species: Pt}}}, {layers: {axis: z, bottom: 1}}"
AROUND = {
    "slab": "any: [{within: {distance: 5.0, of: {species: [C, O]}}}, " + SURFACES + "]",
    # The border is where the second shell vibrates, the worst that can be asked of an update.
    "bulk": "within: {distance: 4.0, of: {indices: [0]}}",
}
UPDATE = {
    "update": "{every: 20, average: 1000, ramp: 50, enter: 0.7, leave: 0.3}",
    # Shorter than the atoms' vibrations last.
    "update, short average": "{every: 20, average: 100, ramp: 50, enter: 0.6, leave: 0.3}",
    "update, no hysteresis": "{every: 20, ramp: 50}",
}
WAYS = ("follow", *UPDATE)
BULK = """
structure: bulk.xyz
pair: pair.duetto
regions: {follow: {seeds: {indices: [0]}, core: 3.0, blend: 2.5}}
dtype: float64
skin_A: 0.8
timestep_fs: 1.0
seed: 1
initial_temperature_K: 600
stages:
  - {ensemble: langevin, steps: 200, temperature_K: 300, friction_per_fs: 0.02}
  - {ensemble: nve, steps: 1000}
output: {dir: unused}
"""
BLOCKS = 20
"""A block of a run of 20 ps, 1 ps, is longer than what the energy's error remembers."""


def write_pair(name: str, folder: Path) -> Path:
    """The file of one of PAIRS."""
    shipped = {"co-trained": EXAMPLE / "ptco.duetto", "twin": EXAMPLE / "ptco_independent.duetto"}
    if name in shipped:
        return shipped[name]
    path = folder / f"{name}.duetto"
    if name == "mismatched":
        mismatched_pair().save(path)
    else:
        one, other = (ExpertPair.load(file) for file in shipped.values())
        ExpertPair(one.whole_hf(), other.lf, {"lf": other.provenance.get("lf")}).save(path)
    return path


def write_config(system: str, folder: Path) -> Path:
    """The YAML file that a system's runs start from."""
    if system == "slab":
        return EXAMPLE / "follow.yaml"
    ase.io.write(folder / "bulk.xyz", structure(mismatched=True)[0])
    (folder / "bulk.yaml").write_text(BULK)
    return folder / "bulk.yaml"


def partition_of(way: str, system: str, blend: float) -> list[str]:
    """Overrides that make the run's partition that of one of WAYS."""
    if way == "follow":
        return []
    words = f"complex: {{{AROUND[system]}}}, blend: {{width: {blend:g}}}, update: {UPDATE[way]}"
    return [f"regions={{{words}}}"]


def slope(time_fs: Any, energy_eV: Any, n_atoms: int) -> tuple[float, float]:
    """Drift and its standard error, meV/atom/ps: a straight line through the means of blocks."""
    drift = energy_drift_meV_per_atom_per_ps(time_fs, energy_eV, n_atoms)
    error = energy_drift_error_meV_per_atom_per_ps(time_fs, energy_eV, n_atoms, BLOCKS)
    return drift, error


def extra_force(pair: ExpertPair, config: RunConfig, frames: list[Any]) -> float:
    """Root mean square over blend atoms of −Σ (E^HF − E^LF) ∂w/∂R, eV/Å, in these frames."""
    follow, squares = config.regions.follow, []
    assert follow is not None
    first = ase.io.read(config.structure.file)
    following = Following(follow.select(first), follow.core, follow.blend)
    static = config.regions.static_weights(first)
    symbols, pbc = list(first.symbols), first.pbc
    moving = FollowingPotential(pair, symbols, static, pbc, dtype="float64", following=following)
    for atoms in frames:
        at = torch.tensor(atoms.positions), torch.tensor(atoms.cell.array)
        forces = moving.evaluate(*at).forces
        w = moving.weights
        fixed = Potential(pair, symbols, w, pbc, dtype="float64").evaluate(*at)
        blend = (w > 0.0) & (w < 1.0)
        squares.append((forces - fixed.forces).square().sum(dim=1).numpy()[blend])
    return float(np.sqrt(np.concatenate(squares).mean()))


def measure(name: str, way: str, args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Run, and put what it shows into one row."""
    pair, steps = write_pair(name, folder), args.steps
    path = write_config(args.system, folder)
    overrides = [f"pair={pair}", f"stages.1.steps={steps}", f"dtype={args.dtype}"]
    config = load_config(path, overrides)
    assert config.regions.follow is not None
    blend, output = config.regions.follow.blend, folder / f"{name}-{way}"
    every = [f"output.dir={output}", "output.trajectory_every=2000", "output.thermo_every=5"]
    summary = run(
        path,
        overrides=[*overrides, *every, *partition_of(way, args.system, blend)],
        say=lambda line: None,
    )
    table = read_thermo(output / THERMO)
    rows = table["step"] >= summary.total_steps - steps
    time_fs, kept = table["time_fs"][rows], table["conserved_eV"][rows]
    drift, error = slope(time_fs, kept, summary.n_atoms)
    ideal = np.polyval(np.polyfit(time_fs, kept, 1), time_fs)
    loaded = ExpertPair.load(pair)
    extra: float | str = ""
    if way == "follow":
        extra = 1000.0 * extra_force(loaded, config, ase.io.read(output / TRAJECTORY, "2:"))
    return {
        "system": "Pt(111)+CO" if args.system == "slab" else "Pt",
        "pair": name,
        "pair_hash": loaded.content_hash[:12],
        "region": way,
        "blend_A": blend,
        "dtype": args.dtype,
        "n_atoms": summary.n_atoms,
        "steps": steps,
        "timestep_fs": config.timestep_fs,
        "temperature_K": float(table["temperature_K"][rows].mean()),
        "drift_mev_per_atom_per_ps": drift,
        "drift_error_mev_per_atom_per_ps": error,
        "fluctuation_mev_per_atom": float(np.std(kept - ideal)) * 1000 / summary.n_atoms,
        "extra_force_rms_mev_per_angstrom": extra,
        **booked(summary),
        **provenance(),
    }


def booked(summary: RunSummary) -> dict[str, Any]:
    """What changed weights have cost, and how often atoms changed sides."""
    return {
        "booked_ev_per_ps": summary.e_repartition_eV_per_ps,
        "work_ev_per_ps": summary.repartition_work_eV_per_ps,
        "changes_per_atom_per_ps": ""
        if summary.partition_changes_per_atom is None
        else summary.partition_changes_per_atom * 1000.0 / summary.time_fs,
    }


def main() -> None:
    """Print one row per pair and way of moving, and append it to a file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=20000, help="at constant energy, of 1 fs")
    parser.add_argument("--system", default="bulk", choices=AROUND)
    parser.add_argument("--dtype", default="float64", choices=["float64", "float32"])
    parser.add_argument("--pairs", nargs="+", default=BULK_PAIRS, choices=PAIRS)
    parser.add_argument("--ways", nargs="+", default=WAYS, choices=WAYS)
    parser.add_argument("--csv", type=Path, help="append rows to this file")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for way in args.ways:
            for name in args.pairs:
                row = measure(name, way, args, Path(folder))
                print(row, flush=True)
                if args.csv:
                    append(args.csv, row)


if __name__ == "__main__":
    main()
