"""Formation energy of a vacancy."""

from __future__ import annotations

from typing import Any

import numpy as np

from duetto.validate.bulk import at_length
from duetto.validate.case import Case
from duetto.validate.subject import WHO, weights_of

LARGEST_FORCE = 0.002
"""eV/Å: energies err by force²/stiffness, 1e-6 eV for some eV/Å² and tens of atoms."""


def measure(case: Case) -> dict[str, Any]:
    """E(N − 1 atoms, at rest) − (N − 1)/N E(N), eV, in the cell of the perfect crystal.

    The mixture's vacancy is in the complex half, in the layer at the seam.
    """
    found = {}
    for who in WHO:
        a = case.found["lattice_constant_angstrom"][who]
        crystal = at_length(case.crystal, a).repeat(case.config.vacancy_repeat)
        weights = weights_of(who, crystal)
        whole, n_atoms = case.subject.energy(crystal, weights), len(crystal)
        heights = np.where(weights == weights.max(), crystal.positions[:, 2], -np.inf)
        kept = np.arange(n_atoms) != int(heights.argmax())
        _, energy = case.subject.relaxed(crystal[kept], weights[kept], LARGEST_FORCE)
        found[who] = energy - (n_atoms - 1) / n_atoms * whole
    return {"vacancy_formation_ev": found}
