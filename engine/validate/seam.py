"""A planar seam in the crystal: forces, stress and energies across it, cold and hot."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from ase import Atoms, units

from duetto.potential.mixture import Term
from duetto.potential.terms import mixture_terms
from duetto.validate.bulk import at_length
from duetto.validate.case import Case
from duetto.validate.subject import Array, half, stress_of
from duetto.validate.uncertainty import jackknife
from duetto.validate.warm import expanded, snapshots

MPA = units.GPa / 1000.0
"""eV/Å³ of one MPa."""

LARGEST_FORCE = 1e-4
"""eV/Å: over the area of an atom of a layer, some 8 Å², 2 MPa at most."""

NEWTON_STEPS = 4
"""From tens of MPa, with a slope good to a few percent, below 1e-3 MPa."""

SAME_LAYER = 1e-3  # Å


def measure(case: Case) -> dict[str, Any]:
    """In a crystal without stress, half of it complex.

    At rest it is without stress by HF; at a temperature it is as large as LF, which drives the run,
    makes it without pressure.

    Returns:
        `interface_stress_mpa`: largest component of the stress of any layer, the atoms at rest;
        `layer_stress_mpa`: by height in Å the layers' lateral and normal stress; `seam`: for each
        temperature `lattice_constant_angstrom` and what `_compared` says.
    """
    cell = without_stress(case)
    layers = _layer_stress(case, cell.repeat(case.config.seam.repeat))
    return {
        "interface_stress_mpa": layers.pop("largest"),
        "layer_stress_mpa": layers,
        "seam": [_at(case, cell, t) for t in case.config.seam.temperatures_K],
    }


def _at(case: Case, cell: Atoms, temperature: float) -> dict[str, Any]:
    """The seam on lattice sites, or at a temperature in K on instants of a run."""
    repeat = case.config.seam.repeat
    crystal = cell.repeat(repeat)
    instants, pressures = [crystal], None
    if temperature > 0.0:
        crystal = expanded(case, crystal, temperature)
        instants, pressures = snapshots(case, crystal, temperature)
    return {
        "temperature_k": temperature,
        "lattice_constant_angstrom": float(crystal.cell.lengths()[0]) / repeat[0],
        **_compared(case, crystal, instants, pressures),
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


def _compared(
    case: Case, ideal: Atoms, snapshots: list[Atoms], pressures: Array | None
) -> dict[str, Any]:
    """HF, LF and mixtures of every blend on the same atoms.

    Standard errors come from leaving out one snapshot at a time, of the largest of several numbers,
    too; there are none of a single one.

    Returns:
        `snapshots`, and `snapshots_apart_fs` where there are several;
        `force_jump_mev_per_angstrom`: largest of the layers' root mean square of mixture − HF, no
        blend or the narrowest; `stress_jump_mpa`: largest component of LF − HF in the crystal;
        `stress_mpa`: the same of mixture − HF; `atom_energy_mean_mev`, `atom_energy_spread_mev`:
        of E_i^HF − E_i^LF; `pressure_gpa`: of LF's run, where there is one; `standard_error`: of
        these, by name, and `correlation_fs`: over what time snapshots remember each other in them;
        `force_error`: for each blend the errors by depth, Å from the nearest atom that is not all
        HF, negative outside: from the nearest that is; the largest, `largest_…`, and the largest of
        layers that are all HF, `largest_inside_…`.
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
    seam = case.config.seam
    apart_fs = seam.steps_between * seam.timestep_fs
    by_blend = np.swapaxes(np.array(squares), 0, 1)  # (blends, snapshots, A)
    errors = [
        {"blend_angstrom": blend, **_by_depth(ideal, w, squared)}
        for blend, w, squared in zip(blends, weights, by_blend, strict=True)
    ]
    return {
        "snapshots": len(snapshots),
        **({"snapshots_apart_fs": apart_fs} if len(snapshots) > 1 else {}),
        **_with_errors(
            errors[0], np.array(stresses) / MPA, 1e3 * np.array(energies), pressures, apart_fs
        ),
        "force_error": errors,
    }


def _with_errors(
    narrowest: dict[str, Any],
    stresses: Array,
    energies: Array,
    pressures: Array | None,
    apart_fs: float,
) -> dict[str, Any]:
    """Single numbers of the snapshots, their errors and how long snapshots remember each other.

    Args:
        narrowest: the force errors of the narrowest blend.
        stresses: (N, 2, 6) MPa, of LF − HF and of mixture − HF.
        energies: (N, A) meV.
        pressures: (N,) GPa, None at rest.
        apart_fs: from snapshot to snapshot.
    """
    moments = np.stack([energies.mean(axis=1), (energies**2).mean(axis=1)], axis=1)
    stress_jump, stress = (
        jackknife(stresses[:, k], lambda mean: np.abs(mean).max()) for k in (0, 1)
    )
    mean = jackknife(moments[:, :1], lambda m: m)
    # Of atoms that are all alike rounding may leave a variance below nil.
    spread = jackknife(moments, lambda m: np.sqrt(max(0.0, m[1] - m[0] ** 2)))
    found = {
        "stress_jump_mpa": stress_jump,
        "stress_mpa": stress,
        "atom_energy_mean_mev": mean,
        "atom_energy_spread_mev": spread,
    }
    if pressures is not None:
        found["pressure_gpa"] = jackknife(pressures[:, None], lambda m: m)
    largest = "force_jump_mev_per_angstrom"
    values = {largest: narrowest["largest_mev_per_angstrom"]}
    values |= {name: float(one.value[0]) for name, one in found.items()}
    if len(energies) < 2:
        return values
    errors = {largest: narrowest["largest_standard_error_mev_per_angstrom"]}
    times = {largest: narrowest["correlation_instants"] * apart_fs}
    for name, one in found.items():
        assert one.standard_error is not None
        assert one.correlation is not None
        errors[name] = float(one.standard_error[0])
        times[name] = one.correlation * apart_fs
    return values | {"standard_error": errors, "correlation_fs": times}


def _by_depth(ideal: Atoms, weights: Array, squares: Array) -> dict[str, Any]:
    """Root mean square of the error, meV/Å, by depth of the ideal crystal's layers, Å.

    Args:
        ideal: the crystal at rest.
        weights: (A,) of HF.
        squares: (N, A) by snapshot, (eV/Å)².
    """
    height, period = ideal.positions[:, 2], float(ideal.cell[2, 2])
    inside = weights == 1.0
    depth = _distance(height, height[~inside], period) - _distance(height, height[inside], period)
    numbers = np.rint(depth / SAME_LAYER).astype(np.int64)
    kinds = np.unique(numbers)
    depths = np.array([float(depth[numbers == k].mean()) for k in kinds])
    layers = np.stack([squares[:, numbers == k].mean(axis=1) for k in kinds], axis=1)

    def said(mean: Array) -> Array:
        errors = 1e3 * np.sqrt(mean)
        return np.append(errors, [errors.max(), errors[depths > 0].max()])

    found = jackknife(layers, said)
    rows = {"": found.value}
    if found.standard_error is not None:
        rows["standard_error_"] = found.standard_error
    named: dict[str, Any] = {"depth_angstrom": depths.tolist()}
    for prefix, row in rows.items():
        named[f"{prefix or 'error_'}mev_per_angstrom"] = row[:-2].tolist()
        named[f"largest_{prefix}mev_per_angstrom"] = float(row[-2])
        named[f"largest_inside_{prefix}mev_per_angstrom"] = float(row[-1])
    if found.correlation is not None:
        named["correlation_instants"] = found.correlation
    return named


def _distance(heights: Array, others: Array, period: float) -> Array:
    """(A,) Å along z to the nearest of others in a cell of this period; 0 for one of them."""
    apart = heights[:, None] - others[None, :]
    return np.asarray(np.abs(apart - period * np.rint(apart / period)).min(axis=1))
