"""From gradients of edges to forces on atoms, the same to the last bit in whatever order.

Every contribution is rounded to an integer multiple of UNIT and integers are added, which is
associative: no order of the atomic additions can be seen in the sum, and what atom i gains atom j
loses exactly, so the forces of a step sum to zero as integers.

    F_i = Σ_j w_c ∂E_c/∂r_ij − Σ_c' w_c' ∂E_c'/∂r_c'i,     r_ij = x_j − x_i, c the centres of atom i
"""

# mypy: disallow-untyped-defs=False, disallow-incomplete-defs=False

import torch
import triton
import triton.language as tl
from torch import Tensor

from duetto.kernels.triton.flags import FORCE_RANGE, raise_flag

UNITS_PER_EV_PER_A = tl.constexpr(2.0**40)
"""One unit is 2⁻⁴⁰ ≈ 9.1e-13 eV/Å, below the rounding of any float32 gradient above 8e-6 eV/Å."""

GRADIENT_LIMIT = tl.constexpr(2.0**10)
"""Largest gradient of an edge, eV/Å. 2¹³ of them add up without leaving int64."""


@triton.jit(do_not_specialize=["capacity", "first_centre"])
def gather_forces(
    gradients,
    vectors,
    rowptr,
    neighbors,
    centre_atoms,
    weights,
    forces,
    virials,
    flags,
    virials_wanted,
    capacity,
    first_centre,
    BLOCK: tl.constexpr,
):
    """Add the weighted gradients of each centre's edges to the forces of both ends.

    One program per centre from `first_centre` on.

    Args:
        gradients: (3, capacity) float32 or float64, dE_c/dr_ij, eV/Å, in the slots of `vectors`.
        vectors, rowptr, neighbors: of `filter_edges`.
        centre_atoms: (C,) int32.
        weights: (C,) float64, weight of the centre's energy.
        forces: INOUT (A, 3) int64, in units of 2⁻⁴⁰ eV/Å, zero before.
        virials: OUTPUT (C, 6) float64, symmetric part of Σ_j w r_ij ⊗ dE_c/dr_ij as xx, yy, zz,
            yz, xz, xy, eV; not numbers unless they are wanted.
        flags: INOUT, FORCE_RANGE.
        virials_wanted: (1,) int32, 0 where they are not: vectors are not read then.
    """
    c = first_centre + tl.program_id(0)
    first = tl.load(rowptr + 2 * c)
    n_edges = (tl.load(rowptr + 2 * c + 1) - first).to(tl.int32)
    weight = tl.load(weights + c)
    zero = tl.full((), 0, tl.int64)
    total_x, total_y, total_z = zero, zero, zero
    for done in range(0, n_edges, BLOCK):
        k = done + tl.arange(0, BLOCK)
        mask = k < n_edges
        g = gradients + first + k
        gx, ok_x = _weighted(g, weight, mask)
        gy, ok_y = _weighted(g + capacity, weight, mask)
        gz, ok_z = _weighted(g + capacity + capacity, weight, mask)
        bad = mask & ((ok_x & ok_y & ok_z) == 0)
        raise_flag(flags + FORCE_RANGE, tl.max(bad.to(tl.int32), 0))
        fx, fy, fz = _to_units(gx), _to_units(gy), _to_units(gz)
        other = forces + tl.load(neighbors + first + k, mask=mask, other=0).to(tl.int64) * 3
        tl.atomic_add(other, -fx, mask=mask, sem="relaxed")
        tl.atomic_add(other + 1, -fy, mask=mask, sem="relaxed")
        tl.atomic_add(other + 2, -fz, mask=mask, sem="relaxed")
        total_x, total_y = total_x + tl.sum(fx, 0), total_y + tl.sum(fy, 0)
        total_z += tl.sum(fz, 0)
    own = forces + tl.load(centre_atoms + c).to(tl.int64) * 3
    tl.atomic_add(own, total_x, sem="relaxed")
    tl.atomic_add(own + 1, total_y, sem="relaxed")
    tl.atomic_add(own + 2, total_z, sem="relaxed")
    wanted = tl.load(virials_wanted) != 0
    # No turn of the loop, and so no memory traffic, where they are not.
    xx, yy, zz, yz, xz, xy = _virial(
        gradients + first, vectors + first, tl.where(wanted, n_edges, 0), weight, capacity, BLOCK
    )
    v = virials + c.to(tl.int64) * 6
    unknown = tl.where(wanted, 0.0, float("nan")).to(tl.float64)
    xx, yy, zz = xx + unknown, yy + unknown, zz + unknown
    yz, xz, xy = yz + unknown, xz + unknown, xy + unknown
    tl.store(v, xx)
    tl.store(v + 1, yy)
    tl.store(v + 2, zz)
    tl.store(v + 3, yz)
    tl.store(v + 4, xz)
    tl.store(v + 5, xy)


@triton.jit
def _virial(gradients, vectors, n_edges, weight, capacity, BLOCK: tl.constexpr):
    """Symmetric part of Σ_j w r_ij ⊗ dE_c/dr_ij over the edges of a centre."""
    nothing = tl.full((), 0.0, tl.float64)
    xx, yy, zz, yz, xz, xy = nothing, nothing, nothing, nothing, nothing, nothing
    for done in range(0, n_edges, BLOCK):
        k = done + tl.arange(0, BLOCK)
        mask = k < n_edges
        g, r = gradients + k, vectors + k
        gx, _ = _weighted(g, weight, mask)
        gy, _ = _weighted(g + capacity, weight, mask)
        gz, _ = _weighted(g + capacity + capacity, weight, mask)
        x = tl.load(r, mask=mask, other=0.0).to(tl.float64)
        y = tl.load(r + capacity, mask=mask, other=0.0).to(tl.float64)
        z = tl.load(r + capacity + capacity, mask=mask, other=0.0).to(tl.float64)
        xx, yy, zz = xx + tl.sum(x * gx, 0), yy + tl.sum(y * gy, 0), zz + tl.sum(z * gz, 0)
        yz += 0.5 * tl.sum(y * gz + z * gy, 0)
        xz += 0.5 * tl.sum(x * gz + z * gx, 0)
        xy += 0.5 * tl.sum(x * gy + y * gx, 0)
    return xx, yy, zz, yz, xz, xy


@triton.jit
def _weighted(pointers, weight, mask):
    """Weighted gradient, zero where it is out of range, and whether it is in range."""
    gradient = tl.load(pointers, mask=mask, other=0.0).to(tl.float64) * weight
    # A comparison with what is not a number is false, so this catches it too.
    ok = tl.abs(gradient) < GRADIENT_LIMIT
    return tl.where(ok, gradient, 0.0), ok


@triton.jit
def _to_units(gradient):
    """Nearest integer multiple of the unit; exact, since 2¹⁰ · 2⁴⁰ is below 2⁵³."""
    return tl.floor(gradient * UNITS_PER_EV_PER_A + 0.5).to(tl.int64)


@triton.jit(do_not_specialize=["n_atoms"])
def combine_atoms(
    fixed_forces,
    row_energies,
    weights,
    centres_of_atom,
    forces,
    energies,
    n_atoms,
    BLOCK: tl.constexpr,
):
    """Forces in eV/Å, and the energy of each atom: E_i = Σ_c w_c E_c over its one or two centres.

    Args:
        fixed_forces: (A, 3) int64 of `gather_forces`.
        row_energies: (2 C + 1,) float64, E_c at 2 c, eV.
        weights: (C,) float64.
        centres_of_atom: (A, 2) int32, its centre for each expert, −1 where it has none.
        forces: OUTPUT (A, 3) float64, eV/Å.
        energies: OUTPUT (A,) float64, eV.
    """
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = i < n_atoms
    p = i.to(tl.int64) * 3
    for axis in tl.static_range(3):
        units = tl.load(fixed_forces + p + axis, mask=mask, other=0)
        tl.store(forces + p + axis, units.to(tl.float64) / UNITS_PER_EV_PER_A, mask=mask)
    energy = tl.zeros((BLOCK,), tl.float64)
    for expert in tl.static_range(2):
        c = tl.load(centres_of_atom + i * 2 + expert, mask=mask, other=-1)
        present = c >= 0
        e = tl.load(row_energies + 2 * c, mask=present, other=0.0)
        energy += e * tl.load(weights + c, mask=present, other=0.0)
    tl.store(energies + i, energy, mask=mask)


@torch.library.custom_op("duetto::gather_forces", mutates_args={"flags"})
def fixed_point_forces(
    gradients: Tensor,
    vectors: Tensor,
    rowptr: Tensor,
    neighbors: Tensor,
    centre_atoms: Tensor,
    weights: Tensor,
    flags: Tensor,
    virials_wanted: Tensor,
    n_atoms: int,
    first_centre: int = 0,
) -> tuple[Tensor, Tensor]:
    """Forces in fixed point and virials by centre, as `gather_forces`. Launches only.

    It has no derivative: differentiating through it raises an error.

    Args:
        gradients, vectors: (3, capacity), contiguous.
        rowptr, neighbors, centre_atoms, weights: as in `gather_forces`.
        flags: (N_FLAGS,) int32, FORCE_RANGE may be raised.
        virials_wanted: (1,) int32, 0 where they are not.
        n_atoms: A.
        first_centre: those before it are left out.

    Returns:
        (A, 3) int64 in units of 2⁻⁴⁰ eV/Å, and (C, 6) float64 in eV, NaN unless wanted; those of
        centres that are left out mean nothing.

    Raises:
        ValueError: shapes do not fit together or memory is not contiguous.
    """
    capacity = gradients.shape[1]
    C = len(centre_atoms)
    if gradients.shape != vectors.shape or len(gradients) != 3 or len(neighbors) != capacity:
        raise ValueError(
            f"gradients {tuple(gradients.shape)}, vectors {tuple(vectors.shape)} and neighbors "
            f"{tuple(neighbors.shape)} must be (3, E), (3, E) and (E,)"
        )
    if len(rowptr) != 2 * C + 1 or len(weights) != C:
        raise ValueError(
            f"{C} centres need {2 * C + 1} row bounds and {C} weights, not {len(rowptr)} and "
            f"{len(weights)}"
        )
    if not (gradients.is_contiguous() and vectors.is_contiguous()):
        raise ValueError("gradients and vectors must be contiguous")
    forces = torch.zeros(n_atoms, 3, dtype=torch.int64, device=gradients.device)
    virials = torch.empty(C, 6, dtype=torch.float64, device=gradients.device)
    gather_forces[(C - first_centre,)](
        gradients, vectors, rowptr, neighbors, centre_atoms, weights, forces, virials, flags,
        virials_wanted, capacity, first_centre, BLOCK=32, num_warps=1, enable_fp_fusion=False,
    )  # fmt: skip
    return forces, virials


@fixed_point_forces.register_fake
def _(
    gradients: Tensor,
    vectors: Tensor,
    rowptr: Tensor,
    neighbors: Tensor,
    centre_atoms: Tensor,
    weights: Tensor,
    flags: Tensor,
    virials_wanted: Tensor,
    n_atoms: int,
    first_centre: int = 0,
) -> tuple[Tensor, Tensor]:
    forces = gradients.new_empty(n_atoms, 3, dtype=torch.int64)
    return forces, gradients.new_empty(len(centre_atoms), 6, dtype=torch.float64)
