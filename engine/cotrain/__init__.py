"""Training of expert pairs, as an extension of nequip's trainer.

The names below are what a configuration refers to as `_target_: duetto.cotrain.…`. They are
imported when they are asked for: looking at a configuration and its files needs no nequip.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from duetto.cotrain.bulk_frames import BulkFrames
    from duetto.cotrain.datasets import CoTrainingDataset
    from duetto.cotrain.experts import ExpertModels
    from duetto.cotrain.folded_model import FoldedAllegroModel, fold_model
    from duetto.cotrain.from_pair import ModelFromPair
    from duetto.cotrain.loader import mixed_loader
    from duetto.cotrain.module import CoTrainingModule
    from duetto.cotrain.statistics import ExpertStatistics

__all__ = [
    "BulkFrames",
    "CoTrainingDataset",
    "CoTrainingModule",
    "ExpertModels",
    "ExpertStatistics",
    "FoldedAllegroModel",
    "ModelFromPair",
    "fold_model",
    "mixed_loader",
]

_HOMES = {
    "BulkFrames": "bulk_frames",
    "CoTrainingDataset": "datasets",
    "CoTrainingModule": "module",
    "ExpertModels": "experts",
    "ExpertStatistics": "statistics",
    "FoldedAllegroModel": "folded_model",
    "ModelFromPair": "from_pair",
    "fold_model": "folded_model",
    "mixed_loader": "loader",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first asked for."""
    if name not in _HOMES:
        raise AttributeError(f"module 'duetto.cotrain' has no attribute {name!r}")
    return getattr(import_module(f"duetto.cotrain.{_HOMES[name]}"), name)
