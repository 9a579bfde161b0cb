"""An embedded-atom potential adjusted to another expert: lattice, bulk modulus and energies.

Two experts in one crystal should want the same lattice, or the seam between them is under stress.
As in QM/MM, the cheap one is evaluated at scaled distances and its energy scaled,

    E_i'(r) = e E_i(s r) + shift,   s = a_LF / a_HF,   e = B_HF / (s³ B_LF)

so that the lattice constant becomes HF's, with e also its bulk modulus; shifts for each species
bring the energies of atoms together, which a partition that moves would otherwise have to book.
Source: Bernstein, Kermode, Csányi, Rep. Prog. Phys. 72, 026501 (2009), on the matching of regions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from ase import Atoms
from scipy.optimize import brentq

from duetto.errors import InputError
from duetto.experts.eam.expert import EamExpert
from duetto.experts.pair import ExpertPair
from duetto.potential.base import Evaluation
from duetto.potential.mixture import Potential

_SEARCH = np.linspace(0.85, 1.15, 13)
"""Lengths over those of the file, among which the equilibrium is looked for."""
_STEP = 1e-3
"""Of the length, for the slope of the pressure: truncation 1e-6 of B, rounding 1e-9."""
_GPA = 160.21766208
LARGEST_FORCE = 0.1
"""eV/Å. On sites of a perfect crystal forces vanish by symmetry, or nearly so where a site has a
coordinate of its own; displaced by 0.03 Å an atom of a metal feels more."""


@dataclass(frozen=True)
class Equilibrium:
    """A crystal where its pressure vanishes, at fixed fractional positions.

    Attributes:
        scale: its length over that of the file.
        modulus: bulk modulus, GPa.
        energy: eV.
    """

    scale: float
    modulus: float
    energy: float


class _Crystal:
    """One expert's energy of a crystal under uniform strain."""

    def __init__(self, expert: Any, atoms: Atoms, where: str) -> None:
        self.atoms, self.where = atoms, where
        self._potential = Potential(
            ExpertPair(hf=expert, lf=None),
            list(atoms.symbols),
            np.ones(len(atoms)),
            atoms.pbc,
            dtype="float64",
            skin=0.0,
        )

    def at(self, scale: float) -> tuple[float, float]:
        """Energy, eV, and pressure, eV/Å³."""
        found = self._evaluated(scale)
        volume = self.atoms.get_volume() * scale**3
        return found.energy, float(found.virial.trace()) / (3 * volume)

    def require_rest(self, scale: float) -> None:
        """Refuse atoms that are not on sites of a crystal.

        Raises:
            InputError: there are forces on them.
        """
        largest = float(self._evaluated(scale).forces.norm(dim=1).max())
        if largest > LARGEST_FORCE:
            raise InputError(
                f"{self.where}: forces of {largest:.2g} eV/Å on the atoms, at its own lattice "
                f"constant; allowed: perfect crystals, below {LARGEST_FORCE:g} eV/Å"
            )

    def _evaluated(self, scale: float) -> Evaluation:
        return self._potential.evaluate(
            torch.tensor(self.atoms.positions * scale), torch.tensor(self.atoms.cell.array * scale)
        )

    def equilibrium(self) -> Equilibrium:
        """Where the pressure vanishes, the minimum nearest to the file's own lattice."""
        pressures = [self.at(scale)[1] for scale in _SEARCH]
        falls = [k for k in range(len(_SEARCH) - 1) if pressures[k] >= 0.0 > pressures[k + 1]]
        if not falls:
            raise InputError(
                f"{self.where}: has no equilibrium between {_SEARCH[0]:g} and {_SEARCH[-1]:g} "
                "times the lattice of the file"
            )
        k = min(falls, key=lambda k: abs(_SEARCH[k] - 1.0))
        scale = float(
            brentq(lambda x: self.at(x)[1], _SEARCH[k], _SEARCH[k + 1], xtol=1e-10, rtol=1e-12)
        )
        up, down = self.at(scale * (1 + _STEP))[1], self.at(scale * (1 - _STEP))[1]
        # B = −V dP/dV, and dV/V = 3 dx/x.
        return Equilibrium(scale, -(up - down) / (6 * _STEP) * _GPA, self.at(scale)[0])


def adjust(
    lf: EamExpert, hf: Any, crystals: Sequence[Atoms], where: str, *, modulus: bool = False
) -> tuple[EamExpert, dict[str, Any]]:
    """Adjust an embedded-atom potential to another expert.

    Args:
        lf: the potential.
        hf: any expert that knows the crystals' species.
        crystals: periodic structures; the first decides on lattice and bulk modulus, all of them,
            by least squares, on the shift of each species.
        where: the crystals' file, for errors.
        modulus: also scale the energy, so that the first crystal's bulk modulus is HF's.

    Returns:
        The adjusted potential, and what was found, plain JSON.

    Raises:
        InputError: a crystal is not periodic, of unknown species, without an equilibrium, or its
            atoms are not on its sites.
    """
    for atoms in crystals:
        _check(atoms, lf, hf, where)
    wanted = []
    for atoms in crystals:
        crystal = _Crystal(hf, atoms, f"{where}: hf")
        wanted.append(crystal.equilibrium())
        crystal.require_rest(wanted[-1].scale)
    before = _Crystal(lf, crystals[0], f"{where}: lf").equilibrium()
    s = lf.distance_scale * before.scale / wanted[0].scale
    stretch = before.scale / wanted[0].scale
    e = wanted[0].modulus / (stretch**3 * before.modulus) if modulus else 1.0
    plain = lf.adjusted(s, lf.energy_scale * e, lf.shift * 0.0)
    missing = [
        hf_found.energy - _Crystal(plain, atoms, where).at(hf_found.scale)[0]
        for atoms, hf_found in zip(crystals, wanted, strict=True)
    ]
    counts = [[list(atoms.symbols).count(name) for name in lf.species] for atoms in crystals]
    shift = np.linalg.lstsq(np.array(counts, dtype=float), np.array(missing), rcond=None)[0]
    adjusted = lf.adjusted(s, lf.energy_scale * e, torch.tensor(shift))
    after = _Crystal(adjusted, crystals[0], f"{where}: lf").equilibrium()
    return adjusted, {
        "crystal": where,
        "distance_scale": s,
        "energy_scale": lf.energy_scale * e,
        "shift_eV": dict(zip(lf.species, shift.tolist(), strict=True)),
        "length": {"hf": wanted[0].scale, "before": before.scale, "after": after.scale},
        "modulus_GPa": {"hf": wanted[0].modulus, "before": before.modulus, "after": after.modulus},
    }


def _check(atoms: Atoms, lf: EamExpert, hf: Any, where: str) -> None:
    if not atoms.pbc.all():
        raise InputError(f"{where}: a crystal to adjust to must be periodic along all directions")
    for name in dict.fromkeys(atoms.symbols):
        for role, expert in (("hf", hf), ("lf", lf)):
            if name not in expert.species:
                raise InputError(f"{where}: holds {name}, which the expert {role} does not know")
