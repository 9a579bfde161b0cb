"""The structures and pairs of the round on a GPU, and the float64 forces that are carried there.

    python scripts/gpu_cases.py        write bench/gpu/forces.npz anew, on any machine, in a minute

The experts are those that scripts/gpu_benchmark.py times: what is checked is what is timed.
"""

from __future__ import annotations

import io
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase import Atoms, units
from numpy.typing import NDArray

from duetto.errors import InputError
from duetto.experts.pair import ExpertPair
from duetto.files import atomic_write
from duetto.md import Limits, initial_state, run_md
from duetto.md.multiple_timestep import SplitNVE
from duetto.md.state import State
from duetto.md.velocities import maxwell_boltzmann
from duetto.measure.bench.architectures import random_pair
from duetto.measure.bench.systems import SPECIES, bulk_platinum, complex_weights, platinum_with_co
from duetto.potential.base import Evaluation
from duetto.potential.mixture import Potential
from duetto.potential.split import SplitPotential

ROOT = Path(__file__).resolve().parent.parent
FORCES = ROOT / "bench" / "gpu" / "forces.npz"
PTCO = ROOT / "examples" / "ptco" / "ptco.duetto"
TIME = ROOT / "examples" / "ptco" / "ptco_time_linear.duetto"
NAMES = ("pt", "ptco")
TOLERANCE = 2e-4
"""Of the largest force, for products in bf16x3: each rounds to 2⁻¹⁶ = 1.5e-5, and about ten layers
there and back follow each other."""
EVERY, OUTER_STEPS, TIMESTEP_FS = 3, 4, 1.0
"""Of the run with multiple time steps."""


@dataclass(frozen=True)
class Case:
    """One structure, partly complex, partly blended, and the pair that computes it."""

    name: str
    atoms: Atoms
    pair: ExpertPair
    weights: NDArray[np.float64]

    def potential(self, **options: str) -> Potential:
        """Its potential; `options` as those of `Potential`."""
        symbols = self.atoms.get_chemical_symbols()
        return Potential(self.pair, symbols, self.weights, self.atoms.pbc, **options)

    def tensors(self, device: str) -> tuple[torch.Tensor, torch.Tensor]:
        """Positions (A, 3) and cell (3, 3), Å."""
        return (
            torch.tensor(self.atoms.positions, device=device),
            torch.tensor(self.atoms.cell.array, device=device),
        )


def timed_pair(
    architecture: str, lf_architecture: str, r_max: float, lf_r_max: float
) -> ExpertPair:
    """The pair of random weights that is timed where no pair file is given."""
    return random_pair(
        architecture, lf_architecture, hf_r_max=r_max, lf_r_max=lf_r_max, species=SPECIES, seed=0
    )


def case_named(name: str) -> Case:
    """The case `pt` or `ptco`."""
    if name == "pt":
        atoms, pair = bulk_platinum(500), timed_pair("hf64", "lf32", 5.0, 4.5)
    else:
        atoms, pair = platinum_with_co(300), ExpertPair.load(PTCO)
    return Case(name, atoms, pair, complex_weights(atoms, 0.3, blend=3.0))


def carried(case: Case) -> dict[str, NDArray[np.float64]]:
    """The float64 numbers of a case: `forces` (A, 3), `energies` (A,), `virial` (3, 3).

    Raises:
        InputError: they are of another structure or of other weights.
    """
    with np.load(FORCES, allow_pickle=False) as file:
        numbers = {key: file[f"{case.name}_{key}"] for key in ("forces", "energies", "virial")}
        same_pair = str(file[f"{case.name}_pair"]) == case.pair.content_hash
        positions = file[f"{case.name}_positions"]
    near = positions.shape == case.atoms.positions.shape
    if not same_pair or not near or np.abs(positions - case.atoms.positions).max() > 1e-9:
        what = "positions" if same_pair else "weights"
        raise InputError(f"{FORCES}: is of other {what} than the case {case.name} has here")
    return numbers


def largest_error(evaluation: Evaluation, numbers: dict[str, NDArray[np.float64]]) -> float:
    """Of forces, energies and virial, each over the largest that there is; NaN where one is."""
    largest = float(np.abs(numbers["forces"]).max())
    errors = []
    for key, expected in numbers.items():
        got = getattr(evaluation, key).cpu().numpy()
        errors.append(np.abs(got - expected).max() / max(np.abs(expected).max(), largest))
    return float(np.max(errors))


def split_case() -> Case:
    """The slab with CO and the pair for multiple time steps."""
    atoms = platinum_with_co(300)
    masses = torch.tensor(atoms.get_masses())
    atoms.set_velocities(maxwell_boltzmann(masses, 300.0, seed=0).numpy() / units.fs)
    return Case("split", atoms, ExpertPair.load(TIME), complex_weights(atoms, 0.3, blend=3.0))


def split_potential(case: Case, **options: Any) -> SplitPotential:
    """The potential of such a run; `options` as those of `Potential`."""
    symbols = case.atoms.get_chemical_symbols()
    return SplitPotential(case.pair, symbols, case.weights, case.atoms.pbc, **options)


def split_states(case: Case, potential: SplitPotential, outer_steps: int) -> list[State]:
    """The start and the states of outer steps; of a run that stays on the device, the last."""
    state = initial_state(case.atoms, potential, device=potential.device)
    stage, every = SplitNVE(outer_steps * EVERY, every=EVERY), outer_steps * EVERY
    options: Any = {"timestep_fs": TIMESTEP_FS, "every": every, "limits": Limits(None, None)}
    return [state, *run_md(state, potential, [stage], **options)]


def main() -> int:
    """Write the numbers."""
    arrays: dict[str, NDArray[np.float64] | str] = {}
    for name in NAMES:
        case = case_named(name)
        found = case.potential(device="cpu", dtype="float64").evaluate(*case.tensors("cpu"))
        arrays[f"{name}_pair"] = case.pair.content_hash
        arrays[f"{name}_positions"] = case.atoms.positions
        for key in ("forces", "energies", "virial"):
            arrays[f"{name}_{key}"] = getattr(found, key).numpy()
    stream = io.BytesIO()
    np.savez_compressed(stream, **arrays)
    FORCES.parent.mkdir(parents=True, exist_ok=True)
    atomic_write(FORCES, stream.getvalue())
    print(f"{FORCES}: {len(stream.getvalue()) / 1000:.0f} kB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
