"""A configuration read: the pair, the atoms and the weights that a run of it would start from."""

from __future__ import annotations

from dataclasses import dataclass

from ase import Atoms

from duetto.partition.regions.partition import Array
from duetto.partition.update import start_weights
from duetto.potential.mixture import Potential
from duetto.run.config import RunConfig
from duetto.run.pair_model import PairModel


@dataclass(frozen=True)
class Prepared:
    """A configuration's pair, atoms and weights.

    Attributes:
        config: as read.
        model: the pair on its device.
        atoms: the structure.
        weights: (A,) w.
    """

    config: RunConfig
    model: PairModel
    atoms: Atoms
    weights: Array

    def potential(self, weights: Array | None = None) -> Potential:
        """The potential of the atoms with their weights, or with others (A,), which stay."""
        symbols, pbc = self.atoms.get_chemical_symbols(), self.atoms.pbc.tolist()
        return self.model.potential(symbols, self.weights if weights is None else weights, pbc)


def prepare(
    config: RunConfig, model: PairModel | None = None, *, standing: bool = False
) -> Prepared:
    """Read what a run would start from.

    Args:
        config: names the pair, the structure and the regions.
        model: the pair, where it is open already.
        standing: refuse a partition that moves, for what keeps the weights of the start.

    Raises:
        InputError: the pair, the structure or the regions cannot be used.
    """
    model = PairModel(config) if model is None else model
    atoms = config.structure.read(model.species)
    regions = config.regions
    weights = regions.weights(atoms) if standing else start_weights(regions, atoms)
    return Prepared(config, model, atoms, weights)
