"""A message-passing model in metatomic's interface, with random weights."""

from pathlib import Path
from typing import Dict, List, Optional

import torch
from metatensor.torch import Labels, TensorBlock, TensorMap
from metatomic.torch import (
    AtomisticModel,
    ModelCapabilities,
    ModelMetadata,
    ModelOutput,
    NeighborListOptions,
    System,
)

CUTOFF = 3.5


class TwoPasses(torch.nn.Module):
    """Charges of the neighbours, weighed by distance, passed on twice; an energy of the result."""

    def __init__(self, full_list: bool) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.register_buffer("charge", torch.randn(100, generator=generator, dtype=torch.float64))
        self._options = NeighborListOptions(cutoff=CUTOFF, full_list=full_list, strict=True)
        self._full = full_list

    def requested_neighbor_lists(self) -> List[NeighborListOptions]:
        return [self._options]

    def forward(
        self,
        systems: List[System],
        outputs: Dict[str, ModelOutput],
        selected_atoms: Optional[Labels],
    ) -> Dict[str, TensorMap]:
        system = systems[0]
        block = system.get_neighbor_list(self._options)
        i, j = block.samples.column("first_atom"), block.samples.column("second_atom")
        r = torch.linalg.vector_norm(block.values[:, :, 0], dim=1)
        near = (1.0 - r / 3.5) ** 3
        charge = self.charge[system.types.long()]
        for _ in range(2):
            message = torch.zeros_like(charge)
            message = message.index_add(0, i.long(), near * charge[j.long()])
            if not self._full:
                message = message.index_add(0, j.long(), near * charge[i.long()])
            charge = torch.tanh(charge + message)
        energies = charge**2 + charge
        atoms = torch.arange(len(charge), dtype=torch.int32)
        if selected_atoms is not None:
            atoms = selected_atoms.column("atom")
        if outputs["energy"].sample_kind == "atom":
            values = energies[atoms.long()][:, None]
            samples = Labels(
                ["system", "atom"], torch.stack([torch.zeros_like(atoms), atoms], dim=1)
            )
        else:
            values = energies[atoms.long()].sum()[None, None]
            samples = Labels(["system"], torch.zeros(1, 1, dtype=torch.int32))
        energy = TensorBlock(
            values, samples, [], Labels(["energy"], torch.zeros(1, 1, dtype=torch.int32))
        )
        key = Labels(["_"], torch.zeros(1, 1, dtype=torch.int32))
        return {"energy": TensorMap(key, [energy])}


def write_model(path: Path, full_list: bool = True, sample_kind: str = "atom") -> str:
    """Export the model; return the file's name."""
    capabilities = ModelCapabilities(
        outputs={"energy": ModelOutput(unit="eV", sample_kind=sample_kind)},
        atomic_types=[6, 8, 78],
        interaction_range=2 * CUTOFF,
        length_unit="angstrom",
        supported_devices=["cpu"],
        dtype="float64",
    )
    model = AtomisticModel(TwoPasses(full_list).eval(), ModelMetadata(), capabilities)
    model.save(str(path))
    return str(path)
