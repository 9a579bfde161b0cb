"""The weights of an expert in the flat tables that its kernels read."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from duetto.kernels.constants import COULOMB as _COULOMB
from duetto.kernels.constants import ZBL_LENGTH as _ZBL_LENGTH
from duetto.kernels.constants import ZBL_POWER as _ZBL_POWER
from duetto.kernels.folded import FoldedExpert
from duetto.kernels.radial import BesselBasis
from duetto.kernels.triton.expert_spec import COMPONENTS, SLOTS, KernelSpec, Slab, kernel_spec

_ALIGNMENT = 16


@dataclass(frozen=True)
class Block:
    """A matrix inside the table, rows contiguous."""

    offset: int
    rows: int
    cols: int


@dataclass(frozen=True)
class PackedExpert:
    """What the kernels read of an expert.

    Attributes:
        spec: its structure.
        structure: the same as JSON.
        table: (N,) float32, all blocks of `table_layout` one after the other.
        high, middle, low: (N,) bfloat16, the parts of the table, split from float64: each is
            nearest to what those before it leave.
        type_energies: (2, T) float64, scale and shift of each type, eV.
    """

    spec: KernelSpec
    structure: str
    table: Tensor
    high: Tensor
    middle: Tensor
    low: Tensor
    type_energies: Tensor

    def to(self, device: torch.device | str) -> PackedExpert:
        """Copy on a device."""
        return replace(
            self,
            table=self.table.to(device),
            high=self.high.to(device),
            middle=self.middle.to(device),
            low=self.low.to(device),
            type_energies=self.type_energies.to(device),
        )


def table_layout(spec: KernelSpec) -> dict[str, Block]:
    """Where each matrix lies in the table.

    Names are those of `FoldedExpert`, followed by indices: K1_0_1 for the type of the centre and
    the group of neighbour types, PV_1 for the degree, PE_0_1 for layer and degree, Wh_1_0 for n
    and m, Ws_0, Rh_2. `path_n` holds
    path weights, `first_product_1` the scalar row of the first product for the rows of a slab,
    `unit_1` the columns of a slab that stand for lm = 0, `column` one number per column of the
    radial basis, and the rest one number per type or pair of types.
    """
    T, U, H = spec.num_types, spec.channels, spec.hidden_widths
    shapes: dict[str, tuple[int, int]] = {}
    for t in range(T):
        for group in range(spec.num_type_groups):
            shapes[f"K1_{t}_{group}"] = (spec.basis_columns, H[0])
    for degree in spec.degrees:
        shapes[f"PV_{degree}"] = (H[0], U)
    for n in range(spec.num_layers):
        for degree in spec.degrees:
            shapes[f"PE_{n}_{degree}"] = (H[n], U)
        for m in range(n + 1):
            shapes[f"Wh_{n}_{m}"] = (H[m], H[n + 1])
        shapes[f"Ws_{n}"] = (U, H[n + 1])
        shapes[f"path_{n}"] = (spec.products[n].num_paths, U)
    for m in range(spec.num_layers + 1):
        shapes[f"Rh_{m}"] = (H[m], spec.readout_width)
    shapes["ro"] = (1, spec.readout_width)
    for slab in spec.slabs:
        shapes[f"first_product_{slab.index}"] = (COMPONENTS, U)
        shapes[f"unit_{slab.index}"] = (1, COMPONENTS)
    shapes |= {"column": (1, spec.basis_columns), "norm": (1, T), "inverse_cutoff": (T, T)}
    if spec.zbl_p is not None:
        shapes |= {"zbl_energy": (T, T), "zbl_inverse_length": (T, T)}
    layout, offset = {}, 0
    for name, (rows, cols) in shapes.items():
        layout[name] = Block(offset, rows, cols)
        offset += math.ceil(rows * cols / _ALIGNMENT) * _ALIGNMENT
    return layout


def pack(expert: FoldedExpert) -> PackedExpert:
    """Lay out an expert's weights for its kernels.

    Args:
        expert: folded weights, float64 for the best split.

    Raises:
        ValueError: the kernels cannot evaluate this expert.
    """
    spec = kernel_spec(expert)
    layout = table_layout(spec)
    last = list(layout.values())[-1]
    table = torch.zeros(last.offset + last.rows * last.cols + _ALIGNMENT, dtype=torch.float64)
    matrices = _matrices(expert, spec)
    assert matrices.keys() == layout.keys()
    for name, matrix in matrices.items():
        block, (rows, cols) = layout[name], matrix.shape
        view = table[block.offset : block.offset + block.rows * block.cols]
        view.view(block.rows, block.cols)[:rows, :cols] = matrix.detach().double().cpu()
    high = table.to(torch.bfloat16)
    middle = (table - high.double()).to(torch.bfloat16)
    low = (table - high.double() - middle.double()).to(torch.bfloat16)
    type_energies = torch.stack([expert.scale, expert.shift]).detach().double().cpu().contiguous()
    return PackedExpert(spec, spec.to_json(), table.float(), high, middle, low, type_energies)


def _matrices(expert: FoldedExpert, spec: KernelSpec) -> dict[str, Tensor]:
    """The unpadded matrices, by the names of `table_layout`."""
    matrices: dict[str, Tensor] = {}
    for t in range(spec.num_types):
        for group, types in enumerate(expert.K1[t].split(spec.types_per_tile)):
            matrices[f"K1_{t}_{group}"] = types.flatten(0, 1)
    for degree in spec.degrees:
        matrices[f"PV_{degree}"] = expert.PV[:, degree]
    for n in range(spec.num_layers):
        for degree in spec.degrees:
            matrices[f"PE_{n}_{degree}"] = expert.PE[n][:, degree]
        for m, matrix in enumerate(expert.Wh[n]):
            matrices[f"Wh_{n}_{m}"] = matrix
        matrices[f"Ws_{n}"] = expert.Ws[n]
        matrices[f"path_{n}"] = expert.contractions[n].weights
    for m, matrix in enumerate(expert.Rh):
        matrices[f"Rh_{m}"] = matrix
    matrices["ro"] = expert.ro[None, :]
    first_product = _first_product(expert)
    unit = torch.eye((expert.l_max + 1) ** 2, 1, dtype=torch.float64)
    for slab in spec.slabs:
        matrices[f"first_product_{slab.index}"] = _in_slab(first_product, slab)
        matrices[f"unit_{slab.index}"] = _in_slab(unit, slab).T
    matrices["column"] = _column_parameters(expert, spec)
    matrices["norm"] = expert.norm[None, :]
    matrices["inverse_cutoff"] = 1 / expert.cutoffs
    if expert.zbl is not None:
        z = expert.zbl.atomic_numbers.double()
        powers = z**_ZBL_POWER
        matrices["zbl_energy"] = 0.5 * _COULOMB * z[:, None] * z[None, :]
        matrices["zbl_inverse_length"] = (powers[:, None] + powers[None, :]) / _ZBL_LENGTH
    return matrices


def _first_product(expert: FoldedExpert) -> Tensor:
    """(D, U) with N_0 = first_product · A_0: the scalar row of the first product is diagonal."""
    first = expert.contractions[0]
    scalar = first.k == 0
    factor = first.weights[first.path[scalar]] * first.coefficient[scalar, None]
    rows = factor.new_zeros((expert.l_max + 1) ** 2, expert.num_channels)
    return rows.index_add(0, first.i[scalar], factor)


def _in_slab(rows: Tensor, slab: Slab) -> Tensor:
    """(COMPONENTS, …), the rows of `rows` (D, …) that a slab holds, for each centre again."""
    of_centre = rows[slab.first : slab.first + slab.size]
    return torch.cat([of_centre] * SLOTS)[:COMPONENTS]


def _column_parameters(expert: FoldedExpert, spec: KernelSpec) -> Tensor:
    """(1, columns): root of each Bessel function, or lower end of each spline's support."""
    radial = expert.radial
    if isinstance(radial, BesselBasis):
        parameters = radial.roots.detach().double()
    else:
        indices = torch.arange(radial.num_splines, dtype=torch.float64)
        parameters = (indices - radial.spline_span) / radial.num_splines
    return parameters.cpu().repeat(spec.types_per_tile)[None, :]
