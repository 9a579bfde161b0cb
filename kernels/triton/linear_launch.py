"""A linear expert on one device: its tables, scratch memory and launches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
import triton
from torch import Tensor

from duetto.kernels.constants import COULOMB, ZBL_LENGTH, ZBL_POWER
from duetto.kernels.linear import COMPRESSION, LinearForm, MomentLayout, gradient_entries
from duetto.kernels.triton import linear as kernels
from duetto.kernels.triton.expert_launch import (
    EdgeRows,
    PackedEdgeRows,
    WorkList,
    check_arguments,
    interpreted,
    work_lists,
)

LAUNCH = {"num_warps": 1, "num_stages": 1, "enable_fp_fusion": True}
"""One warp a program: threads do not wait for those whose centres have more edges."""

BLOCK = 32
"""Centres of a program, one to a thread."""

MAX_CENTRES = 65536
"""Centres of one launch, which bounds the scratch: 8 bytes per moment, 24 MB for 45 moments."""

MOST_WHOLE = 12
"""Exponents of the wall up to which its cutoff is expanded."""


@dataclass(frozen=True)
class Pass:
    """Radial functions that a thread holds the moments of at once.

    Attributes:
        begin: the first.
        ends: (4,) where they end, by degree; at least `begin`.
    """

    begin: int
    ends: tuple[int, int, int, int]

    @property
    def constants(self) -> dict[str, int]:
        """As the kernels take them."""
        ends = {f"E{degree}": end for degree, end in enumerate(self.ends)}
        return {"BEGIN": self.begin, **ends, "SIZE": max(1, *self.ends)}

    @property
    def count(self) -> int:
        """Moments of this pass."""
        return sum((2 * degree + 1) * (end - self.begin) for degree, end in enumerate(self.ends))


def passes(layout: MomentLayout) -> list[Pass]:
    """All radial functions, so many at once that their moments fit into the registers."""
    degrees = len(layout.radials)
    step = max(1, kernels.MOST_REGISTERS // degrees**2)
    borders = [*range(0, layout.size, step), layout.size]
    radials = (*layout.radials, 0, 0, 0)[:4]
    return [
        Pass(begin, tuple(max(begin, min(end, n)) for n in radials))
        for begin, end in pairwise(borders)
    ]


def constants_of(layout: MomentLayout, exponent: float) -> list[dict[str, Any]]:
    """What the kernels of each pass are compiled for, but the size of a block.

    Args:
        layout: of the moments.
        exponent: of the wall; 0 for none.
    """
    whole = int(exponent) if exponent.is_integer() and exponent <= MOST_WHOLE else 0
    shape = {"DEGREES": len(layout.radials), "P": exponent, "WHOLE": whole, "WALL": exponent > 0}
    return [{**part.constants, **shape, "COUNT": part.count} for part in passes(layout)]


class LinearKernels:
    """A linear expert ready to be evaluated on one device, all in float32 but sums of atoms.

    Attributes:
        pack_size: most centres of a pack; here a thread takes one.
        generation: changes whenever a buffer does: graphs captured before must be captured again.
    """

    def __init__(
        self, form: LinearForm, device: str | torch.device, max_centres: int = MAX_CENTRES
    ) -> None:
        """Lay out the tables.

        Args:
            form: weights.
            device: where they go.
            max_centres: most centres of one launch.
        """
        self.form = form
        self.generation = 0
        self.pack_size = 1
        self.max_centres = max_centres
        layout = form.layout
        blocks = (*layout.blocks, 0, 0, 0)
        self._layout = {
            "n_types": form.num_types,
            "n_species": layout.num_species,
            "per_species": layout.blocks[-1],
            **{f"begin_{degree}": blocks[degree] for degree in (1, 2, 3)},
        }
        self._passes = constants_of(layout, 0.0 if form.wall is None else float(form.wall.pair.p))
        self._table = _table(form).float().to(device)
        self._species_of = form.species_of.int().to(device)
        self._polynomial = {
            name: value.to(device) if isinstance(value, Tensor) else value
            for name, value in _polynomial(form).items()
        }
        self._shift = form.shift.double().to(device)
        self._moments = torch.empty(0, dtype=torch.float32, device=device)
        self._gradient, self._wall = (torch.empty_like(self._moments) for _ in range(2))

    def evaluate(
        self, edges: PackedEdgeRows, index: int, energies: Tensor, gradients: Tensor
    ) -> None:
        """Evaluate the packs that `edges` lists for expert `index`; launches only.

        See `duetto.kernels.triton.mixture.DeviceExpert`.
        """
        self.evaluate_rows(edges, work_lists(edges, index), energies, gradients)

    def evaluate_rows(
        self, edges: EdgeRows, work: Sequence[WorkList], energies: Tensor, gradients: Tensor
    ) -> None:
        """Energies of the listed rows and their gradients with respect to the edges.

        Args:
            edges: edge rows.
            work: lists of packs of one row each, which may have any number of edges.
            energies: OUTPUT (R,) float64, eV; rows that are not listed keep theirs.
            gradients: OUTPUT (3, capacity) float32, eV/Å; edges of other rows keep theirs.

        Raises:
            ValueError: an argument has the wrong shape, type or layout.
        """
        check_arguments(edges, work, energies, gradients)
        columns = min(self.max_centres, max((item.capacity for item in work), default=0))
        needed = columns * self.form.layout.num_moments
        if needed > self._moments.numel():
            self._moments, self._gradient, self._wall = (
                self._moments.new_empty(size) for size in (needed, needed, columns)
            )
            self.generation += 1
        for item in work:
            for first in range(0, item.capacity, self.max_centres):
                centres = min(self.max_centres, item.capacity - first)
                self._launch(edges, item, first, centres, energies, gradients)

    def _launch(
        self,
        edges: EdgeRows,
        item: WorkList,
        first: int,
        centres: int,
        energies: Tensor,
        gradients: Tensor,
    ) -> None:
        # Small blocks suit a GPU; in the interpreter few operations do.
        block = triton.next_power_of_2(max(16, min(centres, 1024))) if interpreted() else BLOCK
        grid = (triton.cdiv(centres, block),)
        rows = {"packs": item.packs, "count": item.count, "first": first}
        kept = {"columns": self._columns(), "BLOCK": block, **LAUNCH}
        geometry = {
            "rowptr": edges.rowptr,
            "vectors": edges.vectors,
            "stride": edges.vectors.stride(0),
            "neighbor_types": edges.neighbor_types,
            "row_types": edges.row_types,
            "table": self._table,
            "species_of": self._species_of,
            **self._layout,
        }
        for constants in self._passes:
            kernels.moments[grid](
                **rows, **geometry, **_without(constants, "WALL"), **kept,
                scratch=self._moments, wall_energy=self._wall,
            )  # fmt: skip
        kernels.polynomial[grid](
            **rows, **kept, **self._polynomial, row_types=edges.row_types, scratch=self._moments,
            wall_energy=self._wall, shift=self._shift, gradient=self._gradient, energies=energies,
            WALL=self.form.wall is not None,
        )  # fmt: skip
        for constants in self._passes:
            kernels.adjoint[grid](
                **rows, **geometry, **_without(constants, "WALL", "COUNT"), **kept,
                gradient=self._gradient, gradients=gradients,
            )  # fmt: skip

    def _columns(self) -> int:
        return self._moments.numel() // self.form.layout.num_moments


def _without(constants: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in constants.items() if name not in names}


def _table(form: LinearForm) -> Tensor:
    """(T², PAIR) float64, see `linear.PAIR`."""
    lowest = (form.inner - 0.5 * COMPRESSION) / form.cutoffs
    nothing = torch.zeros_like(form.cutoffs)
    # A wall of no radius is beyond its end at every distance.
    wall = [nothing + 1e6, nothing, nothing]
    if form.wall is not None:
        z = form.wall.pair.atomic_numbers.double()
        screening = (z[:, None] ** ZBL_POWER + z[None, :] ** ZBL_POWER) / ZBL_LENGTH
        ends = torch.where(form.wall.radii > 0, 1.0 / form.wall.radii, 1e6)
        wall = [ends, screening, 0.5 * COULOMB * z[:, None] * z[None, :]]
    columns = (
        1.0 / form.cutoffs,
        form.inner,
        2.0 / (1.0 - lowest),
        -(1.0 + lowest) / (1.0 - lowest),
        *wall,
    )
    return torch.stack(columns, dim=-1).view(-1, kernels.PAIR).contiguous()


def _polynomial(form: LinearForm) -> dict[str, Any]:
    """The gradient's parts of degrees one, two and three as `linear.polynomial` takes them."""
    given: dict[str, Any] = {
        "linear": form.c1.float().contiguous(),
        "n_moments": form.layout.num_moments,
    }
    for order, name, columns in ((2, "quadratic", "column"), (3, "cubic", "columns")):
        rows, factors, values = gradient_entries(form, order)
        counts = torch.bincount(rows, minlength=form.layout.num_moments)
        given[f"{name}_first"] = torch.cat([counts.new_zeros(1), counts.cumsum(0)]).int()
        if not len(rows):
            # One entry at least, though no row has it: a kernel is given pointers to something.
            factors, values = factors.new_zeros(1, order - 1), values.new_zeros(len(values), 1)
        given[f"{name}_{columns}"] = factors.T.int().contiguous()
        given[f"{name}_value"] = values.float().contiguous()
        given[f"n_{name}"] = values.shape[1]
    return given
