"""Weights that follow seeds, on the device: what `duetto.kernels.cpu.following` is on the CPU.

    q_i = q_i^static Π_s g((|r_i − r_s| − core) / width),   w_i = 1 − q_i

with g(x) = x³ (10 − 15 x + 6 x²), clamped to 0 below x = 0 and to 1 above x = 1.

One lane per atom near a seed runs over the seeds near it, in the order of the list: the product is
the same however many programs there are. Forces are summed in fixed point, as in
`duetto.kernels.triton.scatter`, so that what an atom gains its seeds lose, to the last bit.
"""

# mypy: disallow-untyped-defs=False, disallow-incomplete-defs=False

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import triton
import triton.language as tl
from torch import Tensor

from duetto.kernels.triton.flags import FORCE_RANGE, raise_flag
from duetto.kernels.triton.scatter import GRADIENT_LIMIT, UNITS_PER_EV_PER_A

ROWS_PER_BLOCK = 64

LAUNCH = {"enable_fp_fusion": False}
"""No contraction: weights are the same on every machine."""


@triton.jit(do_not_specialize=["n_rows"], do_not_specialize_on_alignment=["positions"])
def follow_seeds(
    positions,
    atoms,
    first,
    seeds,
    offsets,
    lengths,
    q,
    n_rows,
    BLOCK: tl.constexpr,
):
    """Multiply every near atom's share of LF by what each seed near it leaves.

    Args:
        positions: (A, 3) float64, Å.
        atoms: (R,) int32, the atoms that have seeds near them, none twice.
        first: (R + 1,) int32, where the seeds of each begin.
        seeds: (P,) int32.
        offsets: (P, 3) float64, Å, from the atom to its image that is near the seed.
        lengths: (2,) float64, core and width, Å.
        q: (A,) float64 INOUT.
    """
    atom, begin, count, left, mask = _rows_of(atoms, first, q, n_rows, BLOCK)
    core, width = tl.load(lengths), tl.load(lengths + 1)
    for k in range(tl.max(count, 0)):
        near = mask & (k < count)
        dx, dy, dz, _ = _from_seed(positions, atom, seeds, offsets, begin + k, near)
        x = (tl.sqrt(dx * dx + dy * dy + dz * dz) - core) / width
        step = x * x * x * (10.0 + x * (6.0 * x - 15.0))
        left *= tl.where(near & (x < 1.0), tl.where(x > 0.0, step, 0.0), 1.0)
    tl.store(q + atom, left, mask=mask)


@triton.jit(do_not_specialize=["n_rows"], do_not_specialize_on_alignment=["positions"])
def pull_on_seeds(
    positions,
    atoms,
    first,
    seeds,
    offsets,
    lengths,
    q,
    difference,
    forces,
    virials,
    flags,
    n_rows,
    BLOCK: tl.constexpr,
):
    """The part of the forces by which weights depend on positions, −Σ_i ΔE_i ∂w_i/∂R.

    Args:
        positions, atoms, first, seeds, offsets, lengths: as `follow_seeds`.
        q: (A,) float64, its result.
        difference: (A,) float64, ΔE_i = E_i^HF − E_i^LF, eV; counts where 0 < q < q_static alone.
        forces: (A, 3) int64 INOUT, in units of 2⁻⁴⁰ eV/Å.
        virials: (programs, 6) float64 OUTPUT, −dE/dε as xx, yy, zz, yz, xz, xy, eV.
        flags: INOUT, FORCE_RANGE.
    """
    atom, begin, count, left, mask = _rows_of(atoms, first, q, n_rows, BLOCK)
    core, width = tl.load(lengths), tl.load(lengths + 1)
    energy = tl.load(difference + atom, mask=mask, other=0.0)
    zero = tl.zeros((BLOCK,), tl.int64)
    own_x, own_y, own_z = zero, zero, zero
    nothing = tl.zeros((BLOCK,), tl.float64)
    xx, yy, zz, yz, xz, xy = nothing, nothing, nothing, nothing, nothing, nothing
    for k in range(tl.max(count, 0)):
        near = mask & (k < count) & (left > 0.0)
        dx, dy, dz, seed = _from_seed(positions, atom, seeds, offsets, begin + k, near)
        r = tl.sqrt(dx * dx + dy * dy + dz * dz)
        x = (r - core) / width
        near &= (x > 0.0) & (x < 1.0)
        # ∂w/∂r = −(q/g) g'/width, with g'/g = 30 (1 − x)² / (x (10 − 15 x + 6 x²))
        slope = 30.0 * (1.0 - x) * (1.0 - x)
        rate = slope / tl.where(near, x * (10.0 + x * (6.0 * x - 15.0)), 1.0)
        pull = tl.where(near, energy * left * rate / (width * tl.where(near, r, 1.0)), 0.0)
        fx, fy, fz = pull * dx, pull * dy, pull * dz
        # A comparison with what is not a number is false.
        ok = (tl.abs(fx) < GRADIENT_LIMIT) & (tl.abs(fy) < GRADIENT_LIMIT)
        ok &= tl.abs(fz) < GRADIENT_LIMIT
        raise_flag(flags + FORCE_RANGE, tl.max((near & (ok == 0)).to(tl.int32), 0))
        fx, fy, fz = tl.where(ok, fx, 0.0), tl.where(ok, fy, 0.0), tl.where(ok, fz, 0.0)
        xx, yy, zz = xx + dx * fx, yy + dy * fy, zz + dz * fz
        yz, xz, xy = yz + dy * fz, xz + dx * fz, xy + dx * fy
        ux, uy, uz = _to_units(fx), _to_units(fy), _to_units(fz)
        own_x, own_y, own_z = own_x + ux, own_y + uy, own_z + uz
        _add(forces + seed.to(tl.int64) * 3, -ux, -uy, -uz, near)
    _add(forces + atom.to(tl.int64) * 3, own_x, own_y, own_z, mask)
    v = virials + tl.program_id(0).to(tl.int64) * 6
    tl.store(v, tl.sum(xx, 0))
    tl.store(v + 1, tl.sum(yy, 0))
    tl.store(v + 2, tl.sum(zz, 0))
    tl.store(v + 3, tl.sum(yz, 0))
    tl.store(v + 4, tl.sum(xz, 0))
    tl.store(v + 5, tl.sum(xy, 0))


@triton.jit
def _rows_of(atoms, first, q, n_rows, BLOCK: tl.constexpr):
    """This program's atoms, where the seeds of each begin, how many it has, its q, which exist."""
    row = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = row < n_rows
    atom = tl.load(atoms + row, mask=mask, other=0)
    begin = tl.load(first + row, mask=mask, other=0)
    count = tl.load(first + row + 1, mask=mask, other=0) - begin
    return atom, begin, count, tl.load(q + atom, mask=mask, other=0.0), mask


@triton.jit
def _from_seed(positions, atom, seeds, offsets, slot, mask):
    """The vector from a seed to the atom's image near it, and the seed."""
    seed = tl.load(seeds + slot, mask=mask, other=0)
    i, s, o = atom.to(tl.int64) * 3, seed.to(tl.int64) * 3, slot.to(tl.int64) * 3
    dx = tl.load(positions + i, mask=mask, other=0.0) + tl.load(offsets + o, mask=mask, other=0.0)
    dy = tl.load(positions + i + 1, mask=mask, other=0.0)
    dy += tl.load(offsets + o + 1, mask=mask, other=0.0)
    dz = tl.load(positions + i + 2, mask=mask, other=0.0)
    dz += tl.load(offsets + o + 2, mask=mask, other=0.0)
    dx -= tl.load(positions + s, mask=mask, other=0.0)
    dy -= tl.load(positions + s + 1, mask=mask, other=0.0)
    dz -= tl.load(positions + s + 2, mask=mask, other=0.0)
    return dx, dy, dz, seed


@triton.jit
def _to_units(force):
    """Nearest integer multiple of the unit; exact below the limit."""
    return tl.floor(force * UNITS_PER_EV_PER_A + 0.5).to(tl.int64)


@triton.jit
def _add(pointers, x, y, z, mask):
    """Add a vector of integers to each of these."""
    tl.atomic_add(pointers, x, mask=mask, sem="relaxed")
    tl.atomic_add(pointers + 1, y, mask=mask, sem="relaxed")
    tl.atomic_add(pointers + 2, z, mask=mask, sem="relaxed")


@dataclass(frozen=True)
class SeedsByAtom:
    """A list of near seeds turned about: by atom instead of by seed, on the device.

    Attributes:
        atoms, first, seeds, offsets, lengths: as the kernels take them.
    """

    atoms: Tensor
    first: Tensor
    seeds: Tensor
    offsets: Tensor
    lengths: Tensor

    @classmethod
    def of(
        cls,
        centre: Any,
        neighbor: Any,
        offset: Any,
        core: float,
        width: float,
        device: torch.device | str,
    ) -> SeedsByAtom:
        """Turn pairs about.

        Args:
            centre: (P,) seeds.
            neighbor: (P,) atoms near them.
            offset: (P, 3) Å, from the atom to its image there.
            core: Å.
            width: Å.
            device: where the kernels run.
        """
        order = np.argsort(neighbor, kind="stable")
        atoms, first = np.unique(neighbor[order], return_index=True)
        tensors = {
            "atoms": atoms.astype(np.int32),
            "first": np.append(first, len(order)).astype(np.int32),
            "seeds": centre[order].astype(np.int32),
            "offsets": np.ascontiguousarray(offset[order], dtype=np.float64),
            "lengths": np.array([core, width]),
        }
        return cls(**{name: torch.from_numpy(array).to(device) for name, array in tensors.items()})

    @property
    def _grid(self) -> tuple[int]:
        return (triton.cdiv(len(self.atoms), ROWS_PER_BLOCK),)

    def follow(self, positions: Tensor, q_static: Tensor) -> Tensor:
        """q (A,) = 1 − w at `positions` (A, 3), from `q_static` (A,). Launches only."""
        q = q_static.clone()
        if len(self.atoms):
            follow_seeds[self._grid](
                positions, self.atoms, self.first, self.seeds, self.offsets, self.lengths, q,
                len(self.atoms), BLOCK=ROWS_PER_BLOCK, **LAUNCH,
            )  # fmt: skip
        return q

    def pull(
        self, positions: Tensor, q: Tensor, difference: Tensor, flags: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The extra forces (A, 3), eV/Å, and virial (3, 3), −dE/dε in eV. Launches only.

        Args:
            positions: (A, 3) float64, Å.
            q: (A,) of `follow` at these positions.
            difference: (A,) float64, E^HF − E^LF, eV; may be NaN outside the blend.
            flags: (N_FLAGS,) int32, FORCE_RANGE may be raised.
        """
        units = torch.zeros(len(q), 3, dtype=torch.int64, device=q.device)
        if not len(self.atoms):
            return units.double(), q.new_zeros(3, 3)
        virials = q.new_empty(self._grid[0], 6)
        pull_on_seeds[self._grid](
            positions, self.atoms, self.first, self.seeds, self.offsets, self.lengths, q,
            difference, units, virials, flags, len(self.atoms), BLOCK=ROWS_PER_BLOCK, **LAUNCH,
        )  # fmt: skip
        xx, yy, zz, yz, xz, xy = virials.sum(dim=0)
        virial = torch.stack([xx, xy, xz, xy, yy, yz, xz, yz, zz]).reshape(3, 3)
        return units.double() / UNITS_PER_EV_PER_A.value, virial
