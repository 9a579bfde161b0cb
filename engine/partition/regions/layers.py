"""The region of the top or bottom atomic layers along an axis."""

from dataclasses import dataclass, field
from typing import Annotated, Any

import ase
import numpy as np

from duetto.atoms.periodic import Array, Indices
from duetto.errors import InputError
from duetto.partition.regions.geometric import AXES, Axis, wrapped_positions
from duetto.partition.regions.region import Mask, ParseRegion, Region
from duetto.settings.fields import Length, Section, count
from duetto.settings.read import read
from duetto.settings.values import Place

SPACING = 0.5  # Å: more than a layer's corrugation when warm, less than any metal's spacing


@dataclass(frozen=True)
class Layers:
    """The `count` outermost atomic layers of a region, at its upper or lower end along an axis.

    Atoms belong to one layer as long as their coordinates follow each other by no more than
    `spacing` Å. Along a periodic axis the order starts above the widest gap, the vacuum.
    """

    axis: str
    side: str
    count: int
    of: Region
    spacing: float
    place: Place = field(compare=False, repr=False)

    def select(self, atoms: ase.Atoms) -> Mask:
        """Return (A,) bool; InputError if there are fewer layers than asked for."""
        inner = np.flatnonzero(self.of.select(atoms))
        layer = self._number_layers(atoms, wrapped_positions(atoms)[inner])
        found = int(layer.max(initial=-1)) + 1
        if self.count > found:
            allowed = f"1 to {found}, the layers more than {self.spacing:g} Å (spacing) apart"
            raise self.place.at(self.side).refuse(
                self.count, allowed if found else "nothing, as `of` holds no atoms here"
            )
        mask = np.zeros(len(atoms), dtype=bool)
        mask[inner] = layer >= found - self.count if self.side == "top" else layer < self.count
        return mask

    def to_dict(self) -> dict[str, Any]:
        """Return `{layers: …}`."""
        return {
            "layers": {
                "axis": self.axis,
                self.side: self.count,
                "of": self.of.to_dict(),
                "spacing": self.spacing,
            }
        }

    def _number_layers(self, atoms: ase.Atoms, positions: Array) -> Indices:
        """Return (A,) the number of each atom's layer, from 0 at the lower end."""
        coordinate = positions[:, AXES.index(self.axis)]
        order = np.argsort(coordinate, kind="stable")
        gaps = np.diff(coordinate[order])
        period = self._period(atoms)
        if period is not None and len(order):
            around = period - (coordinate[order[-1]] - coordinate[order[0]])
            # The cell's own boundary is the cut unless another gap is clearly wider.
            if gaps.max(initial=0.0) > around + self.spacing:
                first = int(gaps.argmax()) + 1
                order = np.roll(order, -first)
                gaps = np.roll(np.append(gaps, around), -first)[:-1]
        layer = np.empty(len(order), dtype=np.int64)
        layer[order] = np.cumsum(np.append(0, gaps > self.spacing))[: len(order)]
        return layer

    def _period(self, atoms: ase.Atoms) -> float | None:
        """The length, in Å, after which the structure repeats along the axis; None if never."""
        along = np.abs(atoms.cell.array[atoms.pbc, AXES.index(self.axis)])
        along = along[along > 1e-6]
        if len(along) > 1:
            raise InputError(
                f"{self.place.at('axis').key}: several periodic cell vectors have a component "
                f"along {self.axis}, so it has no first layer; rotate the cell or use slab"
            )
        return float(along[0]) if len(along) else None


class _Layers(Section):
    axis: Axis
    top: Annotated[int, count(1)] = 0  # stands for missing
    bottom: Annotated[int, count(1)] = 0
    of: Any = "all"
    spacing: Length = SPACING


def parse_layers(value: object, place: Place, parse: ParseRegion) -> Layers:
    """Read the axis, how many layers of which side, and optionally of what."""
    fields = read(_Layers, value, place)
    sides = [side for side in ("top", "bottom") if side in fields.model_fields_set]
    if len(sides) != 1:
        given = " and ".join(sides) or "neither"
        raise InputError(f"{place.key}: got {given}; allowed: exactly one of top and bottom")
    return Layers(
        axis=fields.axis,
        side=sides[0],
        count=getattr(fields, sides[0]),
        of=parse(fields.of, place.at("of")),
        spacing=fields.spacing,
        place=place,
    )
