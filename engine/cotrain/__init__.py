"""Training of expert pairs, as an extension of nequip's trainer. Imports nequip and allegro.

The names below are what a configuration refers to as `_target_: duetto.cotrain.…`.
"""

from duetto.cotrain.datasets import BulkFrames, CoTrainingDataset
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
