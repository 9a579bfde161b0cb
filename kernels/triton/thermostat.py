"""The first half of a step of Langevin dynamics on the device, by the BAOAB splitting.

Leimkuhler, Matthews, Appl. Math. Res. Express 2013, 34, doi:10.1093/amrx/abs010. With c = exp(−γh),
R standard normal and V the drift of the centre of mass:

    v ← v + (h/2) F/m;  x ← x + (h/2) v;  v ← c v + √(1 − c²) √(k_B T/m) R      kick_and_thermalize
    v ← v − V;          x ← x + (h/2) v                                          drift_thermalized

The second half of the kick is that of velocity Verlet. The noise is a function of seed, step and
atom, so that a run which is taken up again goes on with the same numbers.
"""

# mypy: disallow-untyped-defs=False, disallow-incomplete-defs=False

import triton
import triton.language as tl

from duetto.kernels.triton.expert_math import sine_and_cosine_of_pi
from duetto.kernels.triton.flags import HALTED
from duetto.kernels.triton.neighbors import flag_displacement


@triton.jit
def normal_numbers(seed, step, i):
    """Three standard normal numbers per atom i, float64.

    Philox 4×32-10 (Salmon, Moraes, Dror, Shaw, SC11, doi:10.1145/2063384.2063405) of the counter
    (atom, step) and the key `seed`, then Box and Muller's transform.

    Args:
        seed, step: () int64.
        i: (BLOCK,) int32.
    """
    nothing = (i * 0).to(tl.uint32)
    low = nothing + (step & 0xFFFFFFFF).to(tl.uint32)
    high = nothing + ((step >> 32) & 0xFFFFFFFF).to(tl.uint32)
    a, b, c, d = tl.philox(seed, i.to(tl.uint32), low, high, nothing)
    sine, cosine = _direction(b)
    radius = _radius(a)
    _, third = _direction(d)
    return radius * cosine, radius * sine, _radius(c) * third


@triton.jit
def _radius(bits):
    """√(−2 log u) of a uniform u in (0, 1]."""
    return tl.sqrt(-2.0 * tl.log((bits.to(tl.float64) + 1.0) * 2.0**-32))


@triton.jit
def _direction(bits):
    """Sine and cosine of a uniform angle; float32 holds 2⁻²⁴ of a turn."""
    half_turns = (bits >> 8).to(tl.int32).to(tl.float32) * 2.0**-23
    sine, cosine = sine_and_cosine_of_pi(half_turns)
    return sine.to(tl.float64), cosine.to(tl.float64)


@triton.jit(do_not_specialize=["n_atoms", "n_blocks"])
def kick_and_thermalize(
    positions,
    velocities,
    forces,
    accelerations,
    timestep,
    thermostat,
    seed,
    steps,
    last_positions,
    last_velocities,
    momenta,
    kinetic_before,
    flags,
    n_atoms,
    n_blocks,
    BLOCK: tl.constexpr,
):
    """Half a kick, half a drift, and the exact Ornstein–Uhlenbeck step, its drift still in it.

    Args:
        positions: INOUT (A, 3) float64, Å.
        velocities: INOUT (A, 3) float64, Å/fs.
        forces: (A, 3) float64, eV/Å.
        accelerations: (A,) float64, acceleration per force 1/m, Å/fs² per eV/Å.
        timestep: (1,) float64, h, fs.
        thermostat: (2,) float64, c and k_B T (1 − c²), the latter in eV.
        seed: (1,) int64. steps: (1,) int64, steps completed.
        last_positions, last_velocities: OUTPUT (A, 3) float64, the state before the step.
        momenta: OUTPUT (3, programs) float64, Σ m v of each block of atoms, eV fs/Å.
        kinetic_before: OUTPUT (programs,) float64, kinetic energy before the noise, eV.
        flags: nothing is done while HALTED is raised.
    """
    block = tl.program_id(0)
    i = block * BLOCK + tl.arange(0, BLOCK)
    going = tl.load(flags + HALTED) == 0
    mask = i < tl.where(going, n_atoms, 0)
    h = tl.load(timestep)
    a = tl.load(accelerations + i, mask=mask, other=1.0)
    kept = tl.load(thermostat)
    spread = tl.sqrt(tl.load(thermostat + 1) * a)
    noise = normal_numbers(tl.load(seed), tl.load(steps), i)
    square = tl.zeros((BLOCK,), tl.float64)
    for axis in tl.static_range(3):
        p = i.to(tl.int64) * 3 + axis
        x = tl.load(positions + p, mask=mask, other=0.0)
        v = tl.load(velocities + p, mask=mask, other=0.0)
        tl.store(last_positions + p, x, mask=mask)
        tl.store(last_velocities + p, v, mask=mask)
        v += 0.5 * h * (tl.load(forces + p, mask=mask, other=0.0) * a)
        tl.store(positions + p, x + 0.5 * h * v, mask=mask)
        square += v * v
        v = tl.where(mask, kept * v + spread * noise[axis], 0.0)
        tl.store(velocities + p, v, mask=mask)
        tl.store(momenta + axis * n_blocks + block, tl.sum(v / a, 0), mask=going)
    tl.store(kinetic_before + block, tl.sum(0.5 * square / a, 0), mask=going)


@triton.jit(do_not_specialize=["n_atoms"])
def drift_thermalized(
    positions,
    velocities,
    accelerations,
    timestep,
    momentum,
    mass,
    kinetic_before,
    heat,
    last_heat,
    reference,
    limits,
    flags,
    n_atoms,
    BLOCK: tl.constexpr,
):
    """Take off the drift, drift for the other half, and check whether the list still holds.

    Args:
        positions, velocities, accelerations, timestep, kinetic_before: of `kick_and_thermalize`.
        momentum: (3,) float64, Σ m v of all atoms, eV fs/Å.
        mass: (1,) float64, Σ m, eV fs²/Å².
        heat: INOUT (programs,) float64, kinetic energy that the noise has given so far, eV.
        last_heat: OUTPUT (programs,) float64, the same before the step.
        reference, limits: as in `flag_displacement`.
        flags: INOUT, MOVED and MOVING; nothing is done while HALTED is raised.
    """
    block = tl.program_id(0)
    i = block * BLOCK + tl.arange(0, BLOCK)
    going = tl.load(flags + HALTED) == 0
    mask = i < tl.where(going, n_atoms, 0)
    half = 0.5 * tl.load(timestep)
    total = tl.load(mass)
    a = tl.load(accelerations + i, mask=mask, other=1.0)
    x, vx = _drift(positions, velocities, momentum, total, half, i, 0, mask)
    y, vy = _drift(positions, velocities, momentum, total, half, i, 1, mask)
    z, vz = _drift(positions, velocities, momentum, total, half, i, 2, mask)
    kinetic = tl.sum(tl.where(mask, 0.5 * (vx * vx + vy * vy + vz * vz) / a, 0.0), 0)
    before = tl.load(heat + block)
    tl.store(last_heat + block, before, mask=going)
    tl.store(heat + block, before + kinetic - tl.load(kinetic_before + block), mask=going)
    flag_displacement(x, y, z, reference, i, mask, limits, flags)


@triton.jit
def _drift(positions, velocities, momentum, mass, time, i, AXIS: tl.constexpr, mask):
    p = i.to(tl.int64) * 3 + AXIS
    v = tl.load(velocities + p, mask=mask, other=0.0) - tl.load(momentum + AXIS) / mass
    x = tl.load(positions + p, mask=mask, other=0.0) + time * v
    tl.store(velocities + p, v, mask=mask)
    tl.store(positions + p, x, mask=mask)
    return x, v
