"""Small models of every package that can be an expert, each skipped where the package is not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk

from duetto.experts.region import Surroundings
from duetto.experts.torch_model import TorchExpert, open_torch_expert
from duetto.potential.neighbors import NeighborList

SPECIES = ("Pt", "C", "O")
CUTOFF = 3.5  # Å, of the models with random weights
ENERGIES = {"Pt": -1.0, "C": 0.5, "O": 2.0}  # eV, of free atoms


def chgnet(folder: Path) -> TorchExpert:
    pytest.importorskip("chgnet", reason="needs chgnet: pip install duetto[chgnet]")
    return open_torch_expert("chgnet")


def nequip(folder: Path) -> TorchExpert:
    pytest.importorskip("nequip", reason="needs the train extra: pip install duetto[train]")
    return TorchExpert("nequip", "random", nequip_adapter(nequip_module()))


def nequip_module() -> Any:
    from nequip.model import NequIPGNNModel
    from nequip.utils.global_state import set_global_state

    set_global_state()

    return NequIPGNNModel(
        seed=1,
        model_dtype="float64",
        type_names=list(SPECIES),
        r_max=CUTOFF,
        num_layers=2,
        l_max=1,
        num_features=8,
        radial_mlp_depth=1,
        radial_mlp_width=8,
        type_embed_num_features=8,
        parity=True,
        avg_num_neighbors=20.0,
        per_type_energy_scales=dict.fromkeys(SPECIES, 5.0),
        per_type_energy_shifts=ENERGIES,
    )


def nequip_adapter(module: Any) -> Any:
    from duetto.conversion.site_model import NequipSiteModel

    return NequipSiteModel(module)


def mace(folder: Path) -> TorchExpert:
    pytest.importorskip("mace", reason="needs mace-torch: pip install duetto[mace]")
    from e3nn import o3
    from mace import modules

    torch.manual_seed(0)
    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        module = modules.ScaleShiftMACE(
            r_max=CUTOFF,
            num_bessel=4,
            num_polynomial_cutoff=5,
            max_ell=2,
            interaction_cls=modules.interaction_classes["RealAgnosticResidualInteractionBlock"],
            interaction_cls_first=modules.interaction_classes["RealAgnosticInteractionBlock"],
            num_interactions=2,
            num_elements=3,
            hidden_irreps=o3.Irreps("8x0e+8x1o"),
            MLP_irreps=o3.Irreps("8x0e"),
            atomic_energies=np.array([ENERGIES[name] for name in ("C", "O", "Pt")]),
            avg_num_neighbors=20,
            atomic_numbers=[6, 8, 78],
            correlation=2,
            gate=torch.nn.functional.silu,
            atomic_inter_scale=5.0,
            atomic_inter_shift=0.1,
        )
    finally:
        torch.set_default_dtype(default)
    torch.save(module, folder / "random.model")
    return open_torch_expert("mace", str(folder / "random.model"))


def metatomic(folder: Path) -> TorchExpert:
    pytest.importorskip(
        "metatomic.torch", reason="needs metatomic-torch: pip install duetto[metatomic]"
    )
    from tests.engine.experts.torch_models.metatomic_model import write_model

    return open_torch_expert("metatomic", write_model(folder / "full.pt", full_list=True))


def metatomic_half_list(folder: Path) -> TorchExpert:
    pytest.importorskip(
        "metatomic.torch", reason="needs metatomic-torch: pip install duetto[metatomic]"
    )
    from tests.engine.experts.torch_models.metatomic_model import write_model

    return open_torch_expert("metatomic", write_model(folder / "half.pt", full_list=False))


MODELS: dict[str, Callable[[Path], TorchExpert]] = {
    function.__name__: function
    for function in (chgnet, nequip, mace, metatomic, metatomic_half_list)
}


def rod(length: int, species: tuple[str, ...] = SPECIES, seed: int = 0) -> Atoms:
    """A rattled rod of platinum, `length` cells long and one thick, in a skew periodic cell."""
    rng = np.random.default_rng(seed)
    atoms = bulk("Pt", a=3.97, cubic=True).repeat((1, 1, length))
    atoms.positions += rng.normal(size=atoms.positions.shape) * 0.1
    atoms.symbols = rng.choice(species, len(atoms))
    cell = atoms.cell.array.copy()
    cell[2, 0] = 0.7
    atoms.set_cell(cell, scale_atoms=True)
    return atoms


def surroundings(expert: TorchExpert, atoms: Atoms, skin: float = 0.3) -> Surroundings:
    """All atoms with their neighbours within the expert's cutoff and a skin."""
    neighbors = NeighborList(np.full(len(atoms), expert.cutoff("", "")), atoms.pbc, skin)
    neighbors.rebuild(atoms.positions, atoms.cell.array)
    return Surroundings(
        torch.tensor(atoms.positions),
        torch.tensor(atoms.cell.array),
        atoms.pbc,
        np.array([expert.species.index(name) for name in atoms.symbols]),
        neighbors.first,
        neighbors.neighbor,
        neighbors.shift,
    )
