"""Duetto: two co-trained Allegro potentials as one energy-conserving force field."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from duetto.errors import InputError, RunStopped
    from duetto.experts.allegro.expert import AllegroExpert
    from duetto.experts.base import Expert
    from duetto.experts.pair import ExpertPair
    from duetto.frontends.ase import DuettoCalculator
    from duetto.partition.regions import Partition, Regions
    from duetto.potential.mixture import Potential

__version__ = "0.1.0"
__all__ = [
    "AllegroExpert",
    "DuettoCalculator",
    "Expert",
    "ExpertPair",
    "InputError",
    "Partition",
    "Potential",
    "Regions",
    "RunStopped",
    "__version__",
]

_HOMES = {
    "AllegroExpert": "duetto.experts.allegro.expert",
    "DuettoCalculator": "duetto.frontends.ase",
    "Expert": "duetto.experts.base",
    "ExpertPair": "duetto.experts.pair",
    "InputError": "duetto.errors",
    "Partition": "duetto.partition.regions",
    "Potential": "duetto.potential.mixture",
    "Regions": "duetto.partition.regions",
    "RunStopped": "duetto.errors",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first asked for: `import duetto` stays quick."""
    if name not in _HOMES:
        raise AttributeError(f"module 'duetto' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
