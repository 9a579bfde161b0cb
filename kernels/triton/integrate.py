"""Velocity Verlet on the device, in two kernels around the evaluation of the forces.

Swope, Andersen, Berens, Wilson, J. Chem. Phys. 76, 637 (1982):

    v(t + h/2) = v(t) + (h/2) F(t)/m,   x(t + h) = x(t) + h v(t + h/2)      kick_and_drift
    v(t + h)   = v(t + h/2) + (h/2) F(t + h)/m                               kick

A step whose forces are void, because a flag says so, is left half done: `kick` does nothing but
raise HALTED, and while that stands `kick_and_drift` does nothing either. Steps that were launched
before the host learned of it therefore change nothing, and the host completes the one that was
interrupted from where it stands. No result ever comes from a void step.
"""

# mypy: disallow-untyped-defs=False, disallow-incomplete-defs=False

import triton
import triton.language as tl

from duetto.kernels.triton.flags import FIRST_VOIDING, HALTED, LAST_VOIDING
from duetto.kernels.triton.neighbors import flag_displacement


@triton.jit(do_not_specialize=["n_atoms"])
def kick_and_drift(
    positions,
    velocities,
    forces,
    accelerations,
    timestep,
    last_positions,
    last_velocities,
    reference,
    limits,
    flags,
    n_atoms,
    BLOCK: tl.constexpr,
):
    """First half of a step, and the check whether the neighbour list still holds.

    Args:
        positions: INOUT (A, 3) float64, Å.
        velocities: INOUT (A, 3) float64, Å/fs.
        forces: (A, 3) float64, eV/Å.
        accelerations: (A,) float64, acceleration per force, Å/fs² per eV/Å.
        timestep: (1,) float64, fs.
        last_positions, last_velocities: OUTPUT (A, 3) float64, the state before the step.
        reference, limits: as in `flag_displacement`.
        flags: INOUT, MOVED and MOVING; nothing is done while HALTED is raised.
    """
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = i < tl.where(tl.load(flags + HALTED) == 0, n_atoms, 0)
    h = tl.load(timestep)
    a = tl.load(accelerations + i, mask=mask, other=0.0)
    for axis in tl.static_range(3):
        p = i.to(tl.int64) * 3 + axis
        tl.store(last_positions + p, tl.load(positions + p, mask=mask), mask=mask)
        tl.store(last_velocities + p, tl.load(velocities + p, mask=mask), mask=mask)
    x = _advance(positions, velocities, forces, i, 0, a, h, mask)
    y = _advance(positions, velocities, forces, i, 1, a, h, mask)
    z = _advance(positions, velocities, forces, i, 2, a, h, mask)
    flag_displacement(x, y, z, reference, i, mask, limits, flags)


@triton.jit
def _advance(positions, velocities, forces, i, AXIS: tl.constexpr, acceleration, h, mask):
    p = i.to(tl.int64) * 3 + AXIS
    force = tl.load(forces + p, mask=mask, other=0.0)
    v = tl.load(velocities + p, mask=mask, other=0.0) + 0.5 * h * (force * acceleration)
    x = tl.load(positions + p, mask=mask, other=0.0) + h * v
    tl.store(velocities + p, v, mask=mask)
    tl.store(positions + p, x, mask=mask)
    return x


@triton.jit(do_not_specialize=["n_atoms"])
def kick(
    velocities,
    forces,
    accelerations,
    timestep,
    kinetic,
    steps,
    flags,
    n_atoms,
    BLOCK: tl.constexpr,
):
    """Second half of a step and its kinetic energy, or a halt if the forces are void.

    Args:
        velocities: INOUT (A, 3) float64, Å/fs.
        forces: (A, 3) float64, eV/Å, at the new positions.
        accelerations: (A,) float64, Å/fs² per eV/Å.
        timestep: (1,) float64, fs.
        kinetic: OUTPUT (programs,) float64, kinetic energy of each block of atoms, eV.
        steps: INOUT (1,) int64, steps completed.
        flags: INOUT, HALTED.
    """
    halted = tl.load(flags + HALTED)
    void = halted
    for flag in tl.static_range(FIRST_VOIDING, LAST_VOIDING + 1):
        void |= tl.load(flags + flag)
    block = tl.program_id(0)
    i = block * BLOCK + tl.arange(0, BLOCK)
    mask = i < tl.where(void == 0, n_atoms, 0)
    half = 0.5 * tl.load(timestep)
    a = tl.load(accelerations + i, mask=mask, other=1.0)
    square = tl.zeros((BLOCK,), tl.float64)
    for axis in tl.static_range(3):
        p = i.to(tl.int64) * 3 + axis
        force = tl.load(forces + p, mask=mask, other=0.0)
        v = tl.load(velocities + p, mask=mask, other=0.0) + half * (force * a)
        tl.store(velocities + p, v, mask=mask)
        square += v * v
    tl.store(kinetic + block, tl.sum(0.5 * square / a, 0), mask=void == 0)
    # Any program may read HALTED before or after this: the flags that raise it void the step too.
    tl.store(flags + HALTED, 1, mask=(block == 0) & (void != 0))
    tl.store(steps, tl.load(steps) + 1, mask=(block == 0) & (void == 0))
