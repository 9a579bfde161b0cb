"""A planar seam in the crystal: forces, stress and energies across it, cold and hot."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from ase import Atoms, units

from duetto.md.loop import Langevin, run_md
from duetto.md.state import initial_state
from duetto.potential.mixture import Term
from duetto.potential.terms import mixture_terms
from duetto.validate.bulk import at_length
from duetto.validate.case import Case
from duetto.validate.subject import Array, half, stress_of

MPA = units.GPa / 1000.0
"""eV/Å³ of one MPa."""

LARGEST_FORCE = 1e-4
"""eV/Å: over the area of an atom of a layer, some 8 Å², 2 MPa at most."""

NEWTON_STEPS = 4
"""From tens of MPa, with a slope good to a few percent, below 1e-3 MPa."""

FRICTION_PER_FS = 0.01
SAME_LAYER = 1e-3  # Å


def measure(case: Case) -> dict[str, Any]:
    """In a crystal without stress by HF, half of it complex.

    Returns:
        `interface_stress_mpa`: largest component of the stress of any layer, the atoms at rest;
        `layer_stress_mpa`: by height in Å the layers' lateral and normal stress; `seam`: for each
        temperature what `_compared` says.
    """
    crystal = without_stress(case).repeat(case.config.seam.repeat)
    layers = _layer_stress(case, crystal)
    rows = [
        {"temperature_k": t, **_compared(case, crystal, list(_snapshots(case, crystal, t)))}
        for t in case.config.seam.temperatures_K
    ]
    return {
        "interface_stress_mpa": layers.pop("largest"),
        "layer_stress_mpa": layers,
        "seam": rows,
    }


def without_stress(case: Case) -> Atoms:
    """One cell whose pressure by HF is nil: a fit of energies leaves some tens of MPa."""
    length = case.found["lattice_constant_angstrom"]["hf"]
    modulus = case.found["bulk_modulus_gpa"]["hf"] * units.GPa
    for _ in range(NEWTON_STEPS):
        crystal = at_length(case.crystal, length)
        found = case.subject.evaluate(crystal, np.ones(len(crystal)))
        # Stress of a change of length: three times the bulk modulus.
        length *= 1.0 - float(stress_of(found, crystal.get_volume())[:3].mean()) / (3 * modulus)
    return at_length(case.crystal, length)


def _layer_stress(case: Case, crystal: Atoms) -> dict[str, Any]:
    """Stress of layers of centres: the virial of their energies over their share of the volume."""
    weights = half(crystal)
    rest, _ = case.subject.relaxed(crystal, weights, LARGEST_FORCE)
    heights, member = _layers(crystal)
    stresses = stresses_of(case, rest, weights, [member == k for k in range(len(heights))])
    return {
        "largest": float(np.abs(stresses).max()),
        "height_angstrom": heights.tolist(),
        "lateral": stresses[:, :2].mean(axis=1).tolist(),
        "normal": stresses[:, 2].tolist(),
    }


def stresses_of(
    case: Case, atoms: Atoms, weights: Array, groups: Sequence[npt.NDArray[np.bool_]]
) -> Array:
    """(K, 6) MPa, of groups (A,) of centres: their energies' virial over their share of the volume.

    Components are in ASE's order and sign, see `stress_of`.
    """
    volume = atoms.get_volume()
    found = case.subject.evaluate_terms(atoms, [mixture_terms_of(weights, g) for g in groups])
    return np.array(
        [stress_of(f, volume * float(g.mean())) / MPA for f, g in zip(found, groups, strict=True)]
    )


def mixture_terms_of(weights: Array, chosen: npt.NDArray[np.bool_]) -> tuple[Term, ...]:
    """The chosen centres' share of the mixture's energy."""
    hf, lf = mixture_terms(weights)
    return Term("hf", hf.coefficients * chosen), Term("lf", lf.coefficients * chosen)


def _layers(crystal: Atoms) -> tuple[Array, npt.NDArray[np.int64]]:
    """Heights of an ideal crystal's layers along z (L,), Å, and each atom's layer (A,)."""
    heights = crystal.positions[:, 2]
    order = np.argsort(heights, kind="stable")
    starts = np.diff(heights[order], prepend=heights[order[0]]) > SAME_LAYER
    member = np.empty(len(heights), dtype=np.int64)
    member[order] = np.cumsum(starts)
    return np.array([heights[member == k].mean() for k in range(member.max() + 1)]), member


def _snapshots(case: Case, crystal: Atoms, temperature: float) -> Iterator[Atoms]:
    """Lattice sites, or instants of a Langevin run by LF, which is cheap."""
    if temperature == 0.0:
        yield crystal
        return
    seam = case.config.seam
    potential = case.subject.potential(crystal, np.zeros(len(crystal)))
    # Half of the energy of atoms on their sites becomes potential energy.
    state = initial_state(crystal, potential, temperature_K=2 * temperature, seed=case.config.seed)
    steps = seam.warm_up_steps + (seam.snapshots - 1) * seam.steps_between
    bath = Langevin(steps, temperature, FRICTION_PER_FS)
    for reached in run_md(state, potential, [bath], timestep_fs=seam.timestep_fs):
        late = reached.step - seam.warm_up_steps
        if late >= 0 and late % seam.steps_between == 0:
            atoms = crystal.copy()
            atoms.positions = reached.positions.numpy()
            yield atoms


def _compared(case: Case, ideal: Atoms, snapshots: list[Atoms]) -> dict[str, Any]:
    """HF, LF and mixtures of every blend on the same atoms.

    Returns:
        `force_jump_mev_per_angstrom`: largest of the layers' root mean square of mixture − HF, no
        blend or the narrowest; `stress_jump_mpa`: largest component of LF − HF in the crystal;
        `stress_mpa`: the same of mixture − HF; `atom_energy_mean_mev`, `atom_energy_spread_mev`:
        of E_i^HF − E_i^LF; `force_error`: for each blend the errors by depth, Å from the nearest
        atom that is not all HF, negative outside: from the nearest that is.
    """
    blends = case.config.seam.blends_A
    weights = [half(ideal, blend) for blend in blends]
    every, none = np.ones(len(ideal)), np.zeros(len(ideal))
    groups = [mixture_terms(w) for w in (every, none, *weights)]
    squares, stresses, energies = [], [], []
    for atoms in snapshots:
        hf, lf, *mixtures = case.subject.evaluate_terms(atoms, groups)
        squares.append([(m.forces - hf.forces).square().mean(1).numpy() for m in mixtures])
        volume = atoms.get_volume()
        stresses.append([stress_of(x, volume) - stress_of(hf, volume) for x in (lf, mixtures[0])])
        energies.append((hf.site_energies["hf"] - hf.site_energies["lf"]).numpy())
    mean = np.mean(squares, axis=0)
    jump, mixed = np.abs(np.mean(stresses, axis=0)).max(axis=1) / MPA
    errors: list[dict[str, Any]] = [
        {"blend_angstrom": blend, **_by_depth(ideal, w, squared)}
        for blend, w, squared in zip(blends, weights, mean, strict=True)
    ]
    return {
        "snapshots": len(snapshots),
        "force_jump_mev_per_angstrom": max(errors[0]["error_mev_per_angstrom"]),
        "stress_jump_mpa": float(jump),
        "stress_mpa": float(mixed),
        "atom_energy_mean_mev": 1e3 * float(np.mean(energies)),
        "atom_energy_spread_mev": 1e3 * float(np.std(energies)),
        "force_error": errors,
    }


def _by_depth(ideal: Atoms, weights: Array, squares: Array) -> dict[str, list[float]]:
    """Root mean square of the error, meV/Å, by depth of the ideal crystal's layers, Å."""
    height, period = ideal.positions[:, 2], float(ideal.cell[2, 2])
    inside = weights == 1.0
    depth = _distance(height, height[~inside], period) - _distance(height, height[inside], period)
    numbers = np.rint(depth / SAME_LAYER).astype(np.int64)
    kinds = np.unique(numbers)
    return {
        "depth_angstrom": [float(depth[numbers == k].mean()) for k in kinds],
        "error_mev_per_angstrom": [
            1e3 * float(np.sqrt(squares[numbers == k].mean())) for k in kinds
        ],
    }


def _distance(heights: Array, others: Array, period: float) -> Array:
    """(A,) Å along z to the nearest of others in a cell of this period; 0 for one of them."""
    apart = heights[:, None] - others[None, :]
    return np.asarray(np.abs(apart - period * np.rint(apart / period)).min(axis=1))
