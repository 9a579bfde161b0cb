"""Energy conservation at length: mixture and full HF from the same start, in both precisions.

    python bench/nve_conservation.py --pair examples/ptco/ptco.duetto --csv bench/results/nve.csv

A Pt(111) slab with CO is warmed up by the mixture, then every engine runs at constant energy from
the same positions and velocities. `--mismatched` takes two experts with random weights in place of
the pair, and bulk platinum, which ZBL keeps stiff and the periodic cell together: conservation
rests on the energy's form, not on agreement.
"""

from __future__ import annotations

import argparse
import csv
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.build import bulk
from tqdm import tqdm

from duetto.environment import package_versions, processor_name
from duetto.experts.allegro.architecture import (
    AllegroArchitecture,
    BesselEmbedding,
    MLPShape,
    ZBLTerm,
)
from duetto.experts.allegro.expert import AllegroExpert
from duetto.experts.allegro.folding import random_weights
from duetto.experts.pair import ExpertPair
from duetto.md import NVE, Langevin, Limits, initial_state, run_md
from duetto.md.state import State, with_forces
from duetto.partition.regions import Regions
from duetto.potential.mixture import Potential
from duetto.run.thermo import energy_drift_meV_per_atom_per_ps

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))
from make_slab import LATTICE_CONSTANT, make_slab

TIMESTEP_FS = 1.0
TEMPERATURE_K = 300.0
REGIONS = {
    "complex": {
        "any": [
            {"species": ["C", "O"]},
            {"layers": {"axis": "z", "top": 2, "of": {"species": ["Pt"]}}},
            {"layers": {"axis": "z", "bottom": 2, "of": {"species": ["Pt"]}}},
        ]
    }
}


def mismatched_pair(seed: int = 3) -> ExpertPair:
    """Two experts with random weights and nothing in common but a repulsive core."""
    species = ("Pt", "C", "O")

    def expert(l_max: int, layers: int, width: int, r_max: float, seed: int) -> AllegroExpert:
        mlp = MLPShape(1, width, "silu")
        architecture = AllegroArchitecture(
            type_names=species,
            r_max=r_max,
            cutoffs=((r_max,) * 3,) * 3,
            l_max=l_max,
            parity=True,
            num_layers=layers,
            num_scalar_features=width,
            num_tensor_features=width // 2,
            embedding=BesselEmbedding(8, 6.0),
            embedding_dim=width,
            two_body=mlp,
            latent=mlp,
            readout=mlp,
            tp_path_channel_coupling=True,
            weight_individual_irreps=True,
            avg_num_neighbors=(30.0,) * 3,
            zbl=ZBLTerm(6.0),
        )
        weights = random_weights(architecture, seed)
        # Random energies of some eV would melt it: half an eV beside ZBL's one per pair will not.
        return AllegroExpert(
            architecture, weights | {"energy.scale": 0.1 * weights["energy.scale"]}
        )

    return ExpertPair(expert(2, 2, 16, 5.0, seed), expert(1, 1, 16, 4.5, seed + 1))


def structure(mismatched: bool) -> tuple[Atoms, dict]:
    """The atoms and the words of their partition."""
    if not mismatched:
        return make_slab(4, 4, 12), REGIONS
    atoms = bulk("Pt", "fcc", a=LATTICE_CONSTANT, cubic=True).repeat(4)
    return atoms, {"complex": {"slab": {"axis": "z", "min": atoms.cell[2, 2] / 2}}}


def start(atoms: Atoms, pair: ExpertPair, weights: np.ndarray, steps: int) -> State:
    """The slab at the target temperature, warmed up by the mixture."""
    potential = Potential(pair, list(atoms.symbols), weights, atoms.pbc, dtype="float64", skin=1.0)
    state = initial_state(atoms, potential, temperature_K=2 * TEMPERATURE_K, seed=1)
    stage = Langevin(steps, TEMPERATURE_K, friction_per_fs=0.03)
    for state in run_md(state, potential, [stage], timestep_fs=TIMESTEP_FS):  # noqa: B007, B020
        pass
    return state


def conserve(name: str, state: State, potential: Potential, steps: int) -> dict[str, float | int]:
    """Run at constant energy; drift, fluctuation and momentum."""
    # The first evaluation is this engine's own: what came before belongs to the warm-up.
    state = replace(with_forces(state, potential), thermostat_work=0.0, step=0, time_fs=0.0)
    times, energies, temperatures, momenta = [], [], [], []
    # No limit on the drift: measuring it is the point.
    run = run_md(
        state, potential, [NVE(steps)], timestep_fs=TIMESTEP_FS, limits=Limits(), first_step=0
    )
    for state in tqdm(run, total=steps, desc=name, disable=not sys.stderr.isatty()):
        kinetic = state.kinetic_energy
        times.append(state.time_fs)
        energies.append(state.energy + kinetic)
        temperatures.append(state.temperature(kinetic))
        momentum = (state.masses[:, None] * state.velocities).sum(0)
        momenta.append(float(momentum.abs().max()))
    n = state.n_atoms
    drift = energy_drift_meV_per_atom_per_ps(times, energies, n)
    ideal = np.polyval(np.polyfit(times, energies, 1), times)
    return {
        "n_atoms": n,
        "steps": steps,
        "timestep_fs": TIMESTEP_FS,
        "temperature_K": float(np.mean(temperatures)),
        "drift_mev_per_atom_per_ps": drift,
        "fluctuation_mev_per_atom": float(np.std(np.array(energies) - ideal)) * 1000 / n,
        "momentum_max_amu_angstrom_per_fs": max(momenta),
    }


def main() -> None:
    """Run all engines and append one row each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pair", type=Path, help="pair file")
    parser.add_argument("--mismatched", action="store_true", help="random experts instead")
    parser.add_argument("--steps", type=int, default=20_000)
    parser.add_argument("--warm-up", type=int, default=1000, metavar="STEPS")
    parser.add_argument("--engines", nargs="+", default=["mixture", "full_hf"])
    parser.add_argument("--dtypes", nargs="+", default=["float64", "float32"])
    parser.add_argument("--blend", type=float, default=0.0, help="width of the blend layer, Å")
    parser.add_argument("--csv", type=Path, help="append rows to this file")
    args = parser.parse_args()
    if args.mismatched == (args.pair is not None):
        parser.error("give either --pair or --mismatched")
    pair = mismatched_pair() if args.mismatched else ExpertPair.load(args.pair)
    atoms, regions = structure(args.mismatched)
    blend = {"blend": {"width": args.blend, "profile": "cosine"}} if args.blend else {}
    mixed = Regions.from_dict(regions | blend).weights(atoms)
    state = start(atoms, pair, mixed, args.warm_up)
    for dtype in args.dtypes:
        for engine in args.engines:
            weights = {"mixture": mixed, "full_hf": np.ones(len(atoms))}[engine]
            potential = Potential(
                pair, list(atoms.symbols), weights, atoms.pbc, dtype=dtype, skin=1.0
            )
            row = {
                "system": "Pt" if args.mismatched else "Pt(111)+CO",
                "pair": "mismatched" if args.mismatched else args.pair.name,
                "pair_hash": pair.content_hash[:12],
                "engine": engine,
                "dtype": dtype,
                "complex_fraction": float(weights.mean()),
                **conserve(f"{engine} {dtype}", state, potential, args.steps),
                **provenance(),
            }
            print(row, flush=True)
            if args.csv:
                append(args.csv, row)


def provenance() -> dict[str, str]:
    """Commit, versions, processor, date."""
    root = Path(__file__).parents[1]
    git = ["git", "-C", str(root), "describe", "--always", "--dirty"]
    commit = subprocess.run(git, capture_output=True, text=True, check=False).stdout.strip()
    versions = package_versions()
    return {
        "commit": commit or "unknown",
        "torch": str(versions["torch"]),
        "processor": processor_name(),
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
    }


def append(path: Path, row: dict) -> None:
    """Add one row; the first brings the header."""
    new = not path.exists()
    with path.open("a", newline="") as stream:
        writer = csv.DictWriter(stream, list(row), lineterminator="\n")
        if new:
            writer.writeheader()
        writer.writerow(row)


if __name__ == "__main__":
    main()
