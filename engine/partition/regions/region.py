"""What every region can do, and how a term's parser asks for the regions inside it."""

from collections.abc import Callable
from typing import Any, Protocol, TypeAlias

import ase
import numpy as np
import numpy.typing as npt

from duetto.settings.values import Place

Mask: TypeAlias = npt.NDArray[np.bool_]


class Region(Protocol):
    """A rule that says of each atom of a structure whether it is inside."""

    def select(self, atoms: ase.Atoms) -> Mask:
        """Return (A,) bool: True for the atoms inside.

        Raises:
            InputError: the rule does not fit the structure.
        """

    def to_dict(self) -> Any:
        """Return what the region was read from, as plain data."""


ParseRegion: TypeAlias = Callable[[object, Place], Region]
Parser: TypeAlias = Callable[[object, Place, ParseRegion], Region]
