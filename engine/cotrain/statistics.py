"""What the experts' models start from, measured on the frames that each is trained on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from nequip.data import AtomicDataDict
from torch import Tensor

from duetto.cotrain.frames import edges_within, fits_key, select_frames
from duetto.errors import InputError


class ExpertStatistics:
    """A nequip `stats_manager` with numbers per expert.

    For use in a configuration as `${training_data_stats:hf_num_neighbors_mean}`; with each role
    in place of `hf`:

    - `hf_num_neighbors_mean`: average number of neighbours within the expert's cutoff;
    - `hf_forces_rms`: root mean square of the force components, eV/Å;
    - `hf_per_type_energy`: eV per atom of each type, the least-squares fit of the total energies
      by the composition; the minimum-norm solution where compositions do not tell types apart.

    Args:
        type_names: those of the models.
        cutoffs: Å, of each expert.
        dataloader_kwargs: changes to the training loader while the numbers are taken.
    """

    def __init__(
        self,
        type_names: Sequence[str],
        cutoffs: Mapping[str, float],
        dataloader_kwargs: dict[str, Any] | None = None,
    ):
        self.type_names = list(type_names)
        self.cutoffs = dict(cutoffs)
        self.dataloader_kwargs = dataloader_kwargs

    def get_statistics(self, batches: Iterable[AtomicDataDict.Type]) -> dict[str, Any]:
        """Pass once over the training data.

        Raises:
            InputError: no frame trains an expert.
        """
        sums = {role: _Sums(len(self.type_names)) for role in self.cutoffs}
        T = len(self.type_names)
        for batch in batches:
            for role, cutoff in self.cutoffs.items():
                trained = batch[fits_key(role)] > 0
                if bool(trained.any()):
                    data = select_frames(batch, trained)
                    sums[role].add(edges_within(data, torch.full((T, T), cutoff).double()))
        statistics: dict[str, Any] = {}
        for role, total in sums.items():
            if not total.energies:
                raise InputError(f"no labelled frame trains the expert {role}")
            statistics[f"{role}_num_neighbors_mean"] = total.edges / total.atoms
            statistics[f"{role}_forces_rms"] = (total.squares / (3 * total.atoms)) ** 0.5
            energies = total.energy_per_type().tolist()
            statistics[f"{role}_per_type_energy"] = dict(
                zip(self.type_names, energies, strict=True)
            )
        return statistics


class _Sums:
    def __init__(self, types: int):
        self.types = types
        self.atoms = self.edges = 0
        self.squares = 0.0
        self.compositions: list[Tensor] = []
        self.energies: list[Tensor] = []

    def add(self, data: AtomicDataDict.Type) -> None:
        types = data[AtomicDataDict.ATOM_TYPE_KEY].view(-1)
        frames = data[AtomicDataDict.BATCH_KEY]
        energies = data[AtomicDataDict.TOTAL_ENERGY_KEY].view(-1)
        composition = torch.zeros(len(energies), self.types, dtype=torch.float64)
        ones = torch.ones(len(types), dtype=torch.float64)
        composition.index_put_((frames, types), ones, accumulate=True)
        self.atoms += len(types)
        self.edges += data[AtomicDataDict.EDGE_INDEX_KEY].shape[1]
        self.squares += float(data[AtomicDataDict.FORCE_KEY].square().sum())
        self.compositions.append(composition)
        self.energies.append(energies.double())

    def energy_per_type(self) -> Tensor:
        matrix, energies = torch.cat(self.compositions), torch.cat(self.energies)
        # gelsd: the minimum-norm solution, with an absent type at zero.
        return torch.linalg.lstsq(matrix, energies[:, None], driver="gelsd").solution[:, 0]
