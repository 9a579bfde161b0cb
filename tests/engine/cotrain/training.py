"""Tiny trainings: frames labelled by EMT, experts of a few hundred weights."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.build import add_adsorbate, bulk, fcc111
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write

ROOT = Path(__file__).parents[3]
CONFIG = ROOT / "examples" / "ptco" / "cotrain.yaml"
TYPES = ["Pt", "C", "O"]
CUTOFFS = {"hf": 4.2, "lf": 3.6}
FITS = {"hf": "all", "lf": ["bulk*"]}
JOINT = (
    "epochs=20",
    "training_module.optimizer.lr=0.02",
    "training_module.ema_decay=0.9",
    "training_module.loss.coeffs.total_energy=10.0",
)
"""A training long enough to see that experts learn and come to agree."""


def labelled_frames(bulk_frames: int, surface_frames: int, seed: int) -> list[Atoms]:
    """Rattled bulk cells of four atoms and slabs of three with a CO, with EMT's labels.

    EMT knows nothing of chemistry: this is for the plumbing.
    """
    rng = np.random.default_rng(seed)
    frames = [_bulk(rng) for _ in range(bulk_frames)]
    for _ in range(surface_frames):
        slab = fcc111("Pt", (1, 1, 3), a=3.95, vacuum=4.0)
        add_adsorbate(slab, Atoms("CO", [(0, 0, 0), (0, 0, 1.15)]), 1.9, "ontop")
        slab.pbc = True
        slab.info.clear()
        slab.positions += rng.normal(scale=0.05, size=slab.positions.shape)
        slab.info["config_type"] = "co_surface"
        frames.append(slab)
    return [_label(frame) for frame in frames]


def _bulk(rng: np.random.Generator) -> Atoms:
    atoms = bulk("Pt", a=3.92 * (1 + rng.uniform(-0.03, 0.03)), cubic=True)
    atoms.positions += rng.normal(scale=rng.uniform(0.0, 0.2), size=atoms.positions.shape)
    atoms.info["config_type"] = "bulk_hot"
    return atoms


def _label(atoms: Atoms) -> Atoms:
    atoms.calc = EMT()
    energy, forces = atoms.get_potential_energy(), atoms.get_forces()
    atoms.calc = SinglePointCalculator(atoms, energy=energy, forces=forces)
    return atoms


def write_frames(folder: Path) -> Path:
    """The files that examples/ptco/cotrain.yaml asks for, in miniature."""
    folder.mkdir(exist_ok=True)
    write(folder / "ptco_chgnet_train.extxyz.gz", labelled_frames(10, 6, seed=1))
    write(folder / "ptco_chgnet_val.extxyz.gz", labelled_frames(4, 2, seed=2))
    write(folder / "ptco_chgnet_test.extxyz.gz", labelled_frames(2, 2, seed=3))
    unlabelled = [_bulk(np.random.default_rng((4, k))) for k in range(12)]
    write(folder / "bulk_agreement.extxyz.gz", unlabelled)
    held_out = labelled_frames(2, 0, seed=5)
    for frame in held_out:
        frame.info["config_type"] = "bulk_300K_32"
    write(folder / "bulk_agreement_test.extxyz.gz", held_out)
    return folder


def overrides(data: Path, output: Path, *changes: str) -> list[str]:
    """Overrides that make a tiny training of examples/ptco/cotrain.yaml: four steps an epoch."""
    sizes = ("num_scalar_features=8", "num_tensor_features=4")
    widths = (f"{part}_hidden_layers_width=8" for part in ("scalar_embed_mlp", "allegro_mlp"))
    expert_sizes = (*sizes, *widths, "readout_mlp_hidden_layers_width=8")
    return [
        f"data_folder={data}",
        f"output={output}",
        "run=[train]",
        f"hf_cutoff={CUTOFFS['hf']}",
        f"lf_cutoff={CUTOFFS['lf']}",
        f"largest_cutoff={CUTOFFS['hf']}",
        "agreement_warmup_steps=0",
        "trainer.log_every_n_steps=1",
        *(f"++training_module.model.{role}.{size}" for role in CUTOFFS for size in expert_sizes),
        *changes,
    ]


def logged(output: Path, column: str) -> list[float]:
    """A column of the newest log of a training, without the rows that lack it."""
    folder = max((output / "logs").iterdir(), key=lambda path: int(path.name.split("_")[1]))
    with (folder / "metrics.csv").open() as stream:
        return [float(row[column]) for row in csv.DictReader(stream) if row.get(column)]


def expert_config(role: str, folded: bool = True, **changes: Any) -> dict[str, Any]:
    """A small expert as a configuration would build it."""
    target = "duetto.cotrain.FoldedAllegroModel" if folded else "allegro.model.AllegroModel"
    config: dict[str, Any] = {
        "_target_": target,
        "seed": 11 if role == "hf" else 12,
        "model_dtype": "float64",
        "type_names": TYPES,
        "r_max": CUTOFFS[role],
        "l_max": 2 if role == "hf" else 1,
        "num_layers": 2 if role == "hf" else 1,
        "num_scalar_features": 8,
        "num_tensor_features": 4,
        "scalar_embed_mlp_hidden_layers_width": 8,
        "allegro_mlp_hidden_layers_width": 8,
        "readout_mlp_hidden_layers_width": 8,
        "radial_chemical_embed": {
            "_target_": "allegro.nn.TwoBodyBesselScalarEmbed",
            "num_bessels": 8,
        },
        "avg_num_neighbors": 12.0,
        "per_type_energy_scales": 1.0,
        "per_type_energy_shifts": 0.0,
    }
    return config | changes


def module_config(
    hf: dict[str, Any] | None = None, lf: dict[str, Any] | None = None, **changes: Any
) -> dict[str, Any]:
    """Arguments of CoTrainingModule for two small experts."""
    metrics = {"coeffs": {"per_atom_energy_rmse": 1.0, "forces_rmse": 1.0}}
    config: dict[str, Any] = {
        "model": {
            "_target_": "duetto.cotrain.ExpertModels",
            "hf": hf or expert_config("hf"),
            "lf": lf or expert_config("lf"),
        },
        "loss": {
            "_target_": "nequip.train.EnergyForceLoss",
            "per_atom_energy": True,
            "coeffs": {"total_energy": 10.0, "forces": 1.0},
        },
        "val_metrics": {"_target_": "nequip.train.EnergyForceMetrics", **metrics},
        "test_metrics": {"_target_": "nequip.train.EnergyForceMetrics", **metrics},
        "optimizer": {"_target_": "torch.optim.Adam", "lr": 0.005},
        "num_datasets": {"train": 1, "val": 1, "test": 0, "predict": 0},
        "energy_agreement": 7.0,
        "force_agreement": 0.3,
    }
    return config | changes


def make_module(**changes: Any) -> Any:
    """A CoTrainingModule as a training run would make it."""
    from nequip.utils import get_current_code_versions
    from nequip.utils.global_state import set_global_state

    from duetto.cotrain import CoTrainingModule

    set_global_state()
    config = module_config(**changes)
    info = {
        "versions": get_current_code_versions(verbose=False),
        "training_module": {"_target_": "duetto.cotrain.CoTrainingModule", **config},
        "data": {},
        "runs": ["train"],
    }
    return CoTrainingModule(**config, info_dict=info)


def save_checkpoint(module: Any, path: Path) -> Path:
    """Write a checkpoint as Lightning does during a training."""
    import lightning

    trainer = lightning.Trainer(logger=False, accelerator="cpu", enable_checkpointing=False)
    trainer.strategy.connect(module)
    trainer.save_checkpoint(path)
    return path


def make_batch(frames: Sequence[Atoms], folder: Path, unlabelled: int = 1) -> Any:
    """A batch of labelled frames, and bulk without labels."""
    from nequip.data import AtomicDataDict
    from nequip.data.transforms import ChemicalSpeciesToAtomTypeMapper, NeighborListTransform
    from nequip.utils.global_state import set_global_state

    from duetto.cotrain import CoTrainingDataset

    set_global_state()
    write(folder / "frames.extxyz", frames)
    species = dict(zip(TYPES, TYPES, strict=True))
    dataset = CoTrainingDataset(
        transforms=[
            ChemicalSpeciesToAtomTypeMapper(
                model_type_names=TYPES, chemical_species_to_atom_type_map=species
            ),
            NeighborListTransform(r_max=max(CUTOFFS.values())),
        ],
        fits=FITS,
        labelled=str(folder / "frames.extxyz"),
        unlabelled=[[_bulk(np.random.default_rng((9, k))) for k in range(unlabelled)]],
        agreement=["bulk*"],
    )
    return AtomicDataDict.batched_from_list(dataset.__getitems__(range(len(dataset))))
