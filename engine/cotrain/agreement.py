"""How far two experts are apart on atoms in shared surroundings."""

from __future__ import annotations

from nequip.data import AtomicDataDict
from torch import Tensor


def squared_differences(
    first: AtomicDataDict.Type, second: AtomicDataDict.Type, atoms: tuple[Tensor, Tensor]
) -> tuple[Tensor, Tensor]:
    """(E_i − E_i')² and |F_i − F_i'|² of the atoms that both experts were evaluated on.

    Args:
        first, second: outputs of the experts, each on its own batch.
        atoms: (n,) indices of the same atoms in the two batches.

    Returns:
        (n,) eV² and (n,) eV²/Å².
    """
    energies = [
        output[AtomicDataDict.PER_ATOM_ENERGY_KEY].view(-1)[index]
        for output, index in zip((first, second), atoms, strict=True)
    ]
    forces = [
        output[AtomicDataDict.FORCE_KEY][index]
        for output, index in zip((first, second), atoms, strict=True)
    ]
    energy = (energies[0] - energies[1]).square()
    force = (forces[0] - forces[1]).square().sum(dim=1)
    return energy, force
