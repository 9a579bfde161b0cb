"""The short configuration of a co-training, written out as nequip's.

Works on plain data: nothing of nequip is imported.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from duetto.cotrain.config import CrystalFrames, ExpertConfig, TrainConfig

_AVERAGED = 60
"""The moving average of the weights looks back over this part of the training."""


def nequip_configuration(config: TrainConfig, steps_per_epoch: int) -> dict[str, Any]:
    """What `nequip-train` would be given, as plain data.

    Args:
        config: the short configuration.
        steps_per_epoch: batches in an epoch; the warm-up and the moving average follow from it.
    """
    expanded = {
        "run": ["train", "test"] if config.data.test else ["train"],
        "data": data_section(config),
        "trainer": _trainer(config),
        "training_module": _module(config, steps_per_epoch),
        "hydra": {"run": {"dir": str(config.output / "hydra")}},
    }
    return _laid_over(expanded, config.nequip)


def data_section(config: TrainConfig) -> dict[str, Any]:
    """The data of nequip's configuration."""
    data = config.data
    splits: dict[str, dict[str, Any]] = {"train": {"labelled": _paths(data.labelled)}}
    splits["val"] = {"labelled": _paths(data.labelled)}
    if isinstance(data.validation, float):
        for name, part in (("train", "train"), ("val", "held_out")):
            splits[name] |= {"held_out": data.validation, "part": part}
    else:
        splits["val"]["labelled"] = _paths(data.validation)
    splits["train"]["unlabelled"] = [
        made(source, config.seed) if isinstance(source, CrystalFrames) else str(source)
        for source in data.unlabelled
        if _compared(config)
    ]
    section: dict[str, Any] = {
        "_target_": "nequip.data.datamodule.NequIPDataModule",
        "seed": config.seed,
        "train_dataset": _dataset(config, **splits["train"]),
        "val_dataset": _dataset(config, **splits["val"]),
        "train_dataloader": {
            "_target_": "duetto.cotrain.mixed_loader",
            "batch_size": config.batch_size,
            "agreement_fraction": config.agreement_fraction,
        },
        "val_dataloader": {"batch_size": 2 * config.batch_size},
        "stats_manager": {
            "_target_": "duetto.cotrain.ExpertStatistics",
            "type_names": config.species,
            "cutoffs": {role: expert.cutoff for role, expert in _trained(config).items()},
            "dataloader_kwargs": {"batch_size": 30},
        },
    }
    if data.test:
        tests = [_dataset(config, optional=True, labelled=[str(path)]) for path in data.test]
        section["test_dataset"] = tests
        section["test_dataloader"] = {"batch_size": 2 * config.batch_size}
    return section


def _trained(config: TrainConfig) -> dict[str, ExpertConfig]:
    """The experts that are trained, by role: LF unless it is given, or fitted at the end."""
    return {"hf": config.hf} if config.lf is None else {"hf": config.hf, "lf": config.lf}


def _compared(config: TrainConfig) -> bool:
    """Whether the experts are asked to agree: an LF that is fitted at the end is not there yet."""
    return config.lf is not None or config.lf_pair is not None


def _dataset(config: TrainConfig, **what: Any) -> dict[str, Any]:
    optional = what.pop("optional", False)
    patterns: dict[str, Any] = {"hf": config.fits.hf, "lf": config.fits.lf}
    fits = {role: patterns[role] for role in _trained(config)}
    return {
        "_target_": "duetto.cotrain.CoTrainingDataset",
        "transforms": _transforms(config),
        "fits": fits,
        "agreement": config.agreement.frames,
        "agreement_array": config.agreement.array,
        "stress": config.data.stress,
        "keys": config.data.keys,
        # A file of one kind of frames need not have the others.
        "every_pattern": not optional,
        **({} if config.lf_pair is None else {"minus_lf": str(config.lf_pair)}),
        **what,
    }


def _transforms(config: TrainConfig) -> list[dict[str, Any]]:
    return [
        {
            "_target_": "nequip.data.transforms.ChemicalSpeciesToAtomTypeMapper",
            "model_type_names": config.species,
            "chemical_species_to_atom_type_map": {name: name for name in config.species},
        },
        {
            "_target_": "nequip.data.transforms.NeighborListTransform",
            "r_max": max(expert.cutoff for expert in _trained(config).values()),
        },
    ]


def made(frames: CrystalFrames, seed: int) -> dict[str, Any]:
    """Arguments of `BulkFrames`, with its `_target_`."""
    arguments = frames.model_dump()
    structure = arguments.pop("crystal")
    arguments["repeat"] = list(arguments["repeat"])
    return {
        "_target_": "duetto.cotrain.BulkFrames",
        "structure": structure,
        "seed": seed,
        **arguments,
    }


def _trainer(config: TrainConfig) -> dict[str, Any]:
    folder = str(config.output)
    return {
        "_target_": "lightning.Trainer",
        "accelerator": config.device,
        "devices": 1,
        "max_epochs": config.epochs,
        "log_every_n_steps": 20,
        "logger": {
            "_target_": "lightning.pytorch.loggers.CSVLogger",
            "save_dir": folder,
            "name": "logs",
        },
        "callbacks": [
            {
                "_target_": "lightning.pytorch.callbacks.ModelCheckpoint",
                "monitor": "val0_epoch/loss",
                "dirpath": folder,
                "filename": "best",
                "save_last": True,
                "enable_version_counter": False,
            },
        ],
    }


def _module(config: TrainConfig, steps_per_epoch: int) -> dict[str, Any]:
    coefficients: dict[str, float] = {
        "total_energy": config.loss.energy,
        "forces": config.loss.forces,
    }
    measured = {"per_atom_energy_rmse": 1.0, "forces_rmse": 1.0}
    kind = "EnergyForce"
    if config.data.stress:
        kind = "EnergyForceStress"
        coefficients["stress"] = config.loss.stress
        measured["stress_rmse"] = 1.0
    metrics = {"_target_": f"nequip.train.{kind}Metrics", "coeffs": measured}
    window = max(10, config.epochs * steps_per_epoch // _AVERAGED)
    return {
        "_target_": "duetto.cotrain.CoTrainingModule",
        "energy_agreement": config.agreement.energy if _compared(config) else 0.0,
        "force_agreement": config.agreement.forces if _compared(config) else 0.0,
        "agreement_warmup_steps": config.agreement.warmup_epochs * steps_per_epoch,
        "ema_decay": 1.0 - 1.0 / window,
        **({"hf_form": config.hf_form} if config.hf_form != "whole" else {}),
        "loss": {
            "_target_": f"nequip.train.{kind}Loss",
            "per_atom_energy": True,
            "coeffs": coefficients,
        },
        "val_metrics": metrics,
        "test_metrics": metrics,
        # arXiv 2409.11321; needs a fraction of Adam's epochs.
        "optimizer": {
            "_target_": "pytorch_optimizer.SOAP",
            "lr": config.learning_rate,
            "weight_decay": 0.0,
        },
        "lr_scheduler": {
            "scheduler": {
                "_target_": "torch.optim.lr_scheduler.CosineAnnealingLR",
                "T_max": config.epochs,
                "eta_min": config.learning_rate / 400,
            },
            "interval": "epoch",
            "frequency": 1,
        },
        "model": {
            "_target_": "duetto.cotrain.ExpertModels",
            **{role: _expert(config, role, size) for role, size in _trained(config).items()},
        },
    }


def _expert(config: TrainConfig, role: str, size: ExpertConfig) -> dict[str, Any]:
    widths = ("scalar_embed_mlp", "allegro_mlp", "readout_mlp")
    return {
        "_target_": "duetto.cotrain.FoldedAllegroModel",
        "seed": config.seed,
        "model_dtype": config.dtype,
        "type_names": config.species,
        "r_max": size.cutoff,
        "l_max": size.l_max,
        "parity": True,
        "num_layers": size.layers,
        "num_scalar_features": size.scalars,
        "num_tensor_features": size.tensors,
        **{f"{part}_hidden_layers_width": size.scalars for part in widths},
        "radial_chemical_embed": {
            "_target_": "allegro.nn.TwoBodyBesselScalarEmbed",
            "num_bessels": 8,
        },
        "avg_num_neighbors": f"${{training_data_stats:{role}_num_neighbors_mean}}",
        "per_type_energy_scales": f"${{training_data_stats:{role}_forces_rms}}",
        "per_type_energy_shifts": _shifts(config, role),
    }


def _shifts(config: TrainConfig, role: str) -> str | float:
    """The zero of the atomic energies: the same for both, and none of a correction."""
    if config.hf_form == "correction" and role == "hf" and config.lf is not None:
        return 0.0
    return "${training_data_stats:hf_per_type_energy}"


def _paths(files: list[Path]) -> list[str]:
    return [str(path) for path in files]


def _laid_over(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Nested mappings merged; everything else replaced, and what is made by another target."""
    merged = dict(base)
    for key, value in changes.items():
        old = merged.get(key)
        if isinstance(old, Mapping) and isinstance(value, Mapping) and _same_target(old, value):
            merged[key] = _laid_over(old, value)
        else:
            merged[key] = value
    return merged


def _same_target(old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    return bool(new.get("_target_", old.get("_target_")) == old.get("_target_"))
