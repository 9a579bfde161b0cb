"""Linear experts on a GPU: moments, their polynomial, and the adjoint, one centre to a thread.

The equations are those of `duetto.kernels.linear`, whose `atomic_energies` is the reference. A
thread walks over its centre's edges with the moments in registers, so nothing is summed across
threads. Moments and the energy's gradient by them pass from kernel to kernel through scratch memory
of one column per centre, which neighbouring threads read side by side.

Letters as there. PAIR numbers per pair of types, and what a launch may vary, are arguments; the
shape of the expert is compiled in.
"""

# mypy: disallow-untyped-defs=False, disallow-incomplete-defs=False
# mypy: disable-error-code="assignment"
# ruff: noqa: RUF005 (Triton joins tuples by +; it does not unpack them)

import triton
import triton.language as tl

from duetto.kernels.constants import ZBL_COEFFICIENTS, ZBL_EXPONENTS
from duetto.kernels.linear import COMPRESSION
from duetto.kernels.triton.expert_spec import SLOTS

PAIR = 7
"""Numbers of a pair of types in the table: 1/cutoff, inner radius, slope and offset of y(x), then
of the wall 1/radius, 1/screening length, ½ e² Z Z'."""

MOST_REGISTERS = 64
"""Moments that a thread holds at once; radial functions beyond are left to another pass."""

COUNTED = [
    "first", "stride", "n_types", "n_species", "per_species", "begin_1", "begin_2", "begin_3",
    "columns",
]  # fmt: skip
PLANNED = ["first", "n_moments", "n_quadratic", "n_cubic", "columns"]
"""Arguments of the kernels whose values nothing is compiled for."""
LISTED = ["packs", "count"]
"""Those that begin anywhere in a list: nothing is compiled for where in memory they do."""

_WIDTH = tl.constexpr(COMPRESSION)
_PAIR = tl.constexpr(PAIR)
_SLOTS = tl.constexpr(SLOTS)
_3, _5, _15 = (tl.constexpr(n**0.5) for n in (3, 5, 15))
_105, _21_8, _35_8, _7 = (tl.constexpr(n**0.5) for n in (105, 21 / 8, 35 / 8, 7))
_C0, _C1, _C2, _C3 = (tl.constexpr(n) for n in ZBL_COEFFICIENTS)
_X0, _X1, _X2, _X3 = (tl.constexpr(n) for n in ZBL_EXPONENTS)


@triton.jit
def load_edge(vectors, stride, slot, inside):
    """Unit vector, distance and its inverse; what is not inside lies beyond every cutoff."""
    rx = tl.load(vectors + slot, mask=inside, other=1e3)
    ry = tl.load(vectors + stride + slot, mask=inside, other=0.0)
    # Added twice: twice the stride may not fit into 32 bits.
    rz = tl.load(vectors + stride + stride + slot, mask=inside, other=0.0)
    length = tl.sqrt(rx * rx + ry * ry + rz * rz)
    inverse = 1.0 / length
    return rx * inverse, ry * inverse, rz * inverse, length, inverse


@triton.jit
def radial_parts(length, pair, table):
    """y, its slope by r, the envelope (1 − x)³ and its slope by r."""
    inverse_cutoff, inner = tl.load(table + pair), tl.load(table + pair + 1)
    steepness, offset = tl.load(table + pair + 2), tl.load(table + pair + 3)
    t = tl.minimum(tl.maximum((inner - length) / _WIDTH, 0.0), 1.0)
    s = tl.maximum(length, inner) - t * _WIDTH * (1.0 - t * t * (1.0 - 0.5 * t))
    ds = (1.0 - t * t * (3.0 - 2.0 * t)) * inverse_cutoff
    rest = tl.maximum(1.0 - s * inverse_cutoff, 0.0)
    y = steepness * (s * inverse_cutoff) + offset
    return y, steepness * ds, rest * rest * rest, -3.0 * rest * rest * ds


@triton.jit
def chebyshev(y, SIZE: tl.constexpr):
    """T_0 … T_SIZE−1 and their derivatives, as tuples."""
    values, slopes = (y * 0.0 + 1.0,), (y * 0.0,)
    if SIZE > 1:
        values, slopes = values + (y,), slopes + (y * 0.0 + 1.0,)
    for n in tl.static_range(2, SIZE):
        following = 2.0 * y * values[n - 1] - values[n - 2]
        slope = 2.0 * (values[n - 1] + y * slopes[n - 1]) - slopes[n - 2]
        values, slopes = values + (following,), slopes + (slope,)
    return values, slopes


@triton.jit
def harmonics(x, y, z, DEGREES: tl.constexpr):
    """Y_lm of a unit vector as a tuple, the table's of `duetto.kernels.harmonics`.

    The table is the truth: these and their adjoint are factored by hand, for the least number of
    instructions, and held against it in every degree by `tests/kernels/triton/test_expert_math.py`.
    """
    Y = (x * 0.0 + 1.0,)
    if DEGREES > 1:
        Y = Y + (x * _3, y * _3, z * _3)
    if DEGREES > 2:
        xx, yy, zz = x * x, y * y, z * z
        Y = Y + (x * z * _15, x * y * _15, (yy - 0.5 * (xx + zz)) * _5)
        Y = Y + (y * z * _15, (zz - xx) * 0.5 * _15)
        if DEGREES > 3:
            Y = Y + ((3.0 * zz - xx) * x * _35_8, x * y * z * _105)
            Y = Y + ((4.0 * yy - xx - zz) * x * _21_8,)
            Y = Y + ((yy - 1.5 * (xx + zz)) * y * _7,)
            Y = Y + ((4.0 * yy - xx - zz) * z * _21_8, (zz - xx) * y * 0.5 * _105)
            Y = Y + ((zz - 3.0 * xx) * z * _35_8,)
    return Y


@triton.jit
def harmonics_adjoint(x, y, z, g, DEGREES: tl.constexpr):
    """Σ_d g_d ∂Y_d/∂(x, y, z), the three taken as free."""
    gx, gy, gz = g[1] * _3, g[2] * _3, g[3] * _3
    if DEGREES > 2:
        gx += (z * g[4] + y * g[5] - x * g[8]) * _15 - x * g[6] * _5
        gy += (x * g[5] + z * g[7]) * _15 + 2.0 * y * g[6] * _5
        gz += (x * g[4] + y * g[7] + z * g[8]) * _15 - z * g[6] * _5
    if DEGREES > 3:
        xx, yy, zz = x * x, y * y, z * z
        gx += (3.0 * (zz - xx) * g[9] - 6.0 * x * z * g[15]) * _35_8
        gx += (y * z * g[10] - x * y * g[14]) * _105 - 3.0 * x * y * g[12] * _7
        gx += ((4.0 * yy - 3.0 * xx - zz) * g[11] - 2.0 * x * z * g[13]) * _21_8
        gy += (x * z * g[10] + 0.5 * (zz - xx) * g[14]) * _105
        gy += 8.0 * y * (x * g[11] + z * g[13]) * _21_8 + 1.5 * (2.0 * yy - xx - zz) * g[12] * _7
        gz += (6.0 * x * z * g[9] + 3.0 * (zz - xx) * g[15]) * _35_8
        gz += (x * y * g[10] + y * z * g[14]) * _105 - 3.0 * y * z * g[12] * _7
        gz += ((4.0 * yy - xx - 3.0 * zz) * g[13] - 2.0 * x * z * g[11]) * _21_8
    return gx, gy, gz


@triton.jit
def zbl(length, pair, table, P: tl.constexpr, WHOLE: tl.constexpr):
    """Half the ZBL energy of an edge under its cutoff, eV, and its slope, eV/Å."""
    x = length * tl.load(table + pair + 4)
    inverse = tl.load(table + pair + 5)
    a = tl.exp(inverse * _X0 * length) * _C0
    b = tl.exp(inverse * _X1 * length) * _C1
    c = tl.exp(inverse * _X2 * length) * _C2
    d = tl.exp(inverse * _X3 * length) * _C3
    screening = a + b + c + d
    falling = a * _X0 + b * _X1 + c * _X2 + d * _X3
    bare = tl.load(table + pair + 6) / length
    within = tl.minimum(x, 1.0)
    rest = 1.0 - within
    lower = tl.exp2((P - 1.0) * tl.log2(within))
    if WHOLE > 0:
        # (1 − x)³ Σ_{k < p} (k + 1) (k + 2) / 2 x^k, the same without cancellation near x = 1.
        cutoff = within * 0.0 + 0.5 * WHOLE * (WHOLE + 1)
        for k in tl.static_range(2, WHOLE + 1):
            cutoff = cutoff * within + 0.5 * (WHOLE - k + 1) * (WHOLE - k + 2)
        cutoff *= rest * rest * rest
    else:
        quadratic = within * (P * (P + 2.0) - 0.5 * P * (P + 1.0) * within)
        cutoff = 1.0 - lower * within * (0.5 * (P + 1.0) * (P + 2.0) - quadratic)
    steep = -0.5 * P * (P + 1.0) * (P + 2.0) * lower * rest * rest
    slope = bare * (
        screening * steep * tl.load(table + pair + 4)
        - cutoff * (screening / length - inverse * falling)
    )
    return tl.where(x < 1.0, bare * screening * cutoff, 0.0), tl.where(x < 1.0, slope, 0.0)


@triton.jit
def centre_edges(packs, count, first, rowptr, row_types, BLOCK: tl.constexpr):
    """Of each thread's centre: type, first slot, number of edges, and if there is one."""
    place = first + tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    listed = place < tl.load(count)
    row = tl.load(packs + place * _SLOTS, mask=listed, other=0)
    begin = tl.load(rowptr + row, mask=listed, other=0)
    edges = (tl.load(rowptr + row + 1, mask=listed, other=0) - begin).to(tl.int32)
    types = tl.load(row_types + row, mask=listed, other=0)
    return types, begin, edges, listed


@triton.jit
def zeros(like, COUNT: tl.constexpr):
    """A tuple of zeros."""
    found = ()
    for _ in tl.static_range(COUNT):
        found = found + (like * 0.0,)
    return found


@triton.jit
def add_degree(new, sums, envelope, T, Y, L: tl.constexpr, BEGIN: tl.constexpr, END: tl.constexpr):
    """The sums of a degree with an edge's products R_n Y_lm added, behind those in `new`."""
    for n in tl.static_range(BEGIN, END):
        R = envelope * T[n]
        for d in tl.static_range(L * L, (L + 1) * (L + 1)):
            new = new + (sums[len(new)] + R * Y[d],)
    return new


@triton.jit
def store_degree(
    sums, target, columns, listed, OFFSET: tl.constexpr, L: tl.constexpr, BEGIN: tl.constexpr,
    END: tl.constexpr,
):  # fmt: skip
    """Write a degree's sums, which begin at OFFSET, to rows n (2 l + 1) + m."""
    for n in tl.static_range(BEGIN, END):
        for m in tl.static_range(2 * L + 1):
            value = sums[OFFSET + (n - BEGIN) * (2 * L + 1) + m]
            tl.store(target + (n * (2 * L + 1) + m) * columns, value, mask=listed)


@triton.jit
def load_degree(
    found, source, columns, listed, L: tl.constexpr, BEGIN: tl.constexpr, END: tl.constexpr
):
    """A degree's rows n (2 l + 1) + m behind those in `found`."""
    for n in tl.static_range(BEGIN, END):
        for m in tl.static_range(2 * L + 1):
            at = source + (n * (2 * L + 1) + m) * columns
            found = found + (tl.load(at, mask=listed, other=0.0),)
    return found


@triton.jit
def contract(
    along, across, G, parts, T, dT, Y, OFFSET: tl.constexpr, L: tl.constexpr, BEGIN: tl.constexpr,
    END: tl.constexpr,
):  # fmt: skip
    """A degree's share of dE/d|r| through the radial functions, and its dE/dY_lm behind the others.

    Both follow from Σ_n T_n G_nlm and Σ_n T'_n G_nlm.
    """
    envelope, slope, climb = parts
    for m in tl.static_range(2 * L + 1):
        values, slopes = along * 0.0, along * 0.0
        for n in tl.static_range(BEGIN, END):
            g = G[OFFSET + (n - BEGIN) * (2 * L + 1) + m]
            values += g * T[n]
            slopes += g * dT[n]
        along += Y[L * L + m] * (slope * values + climb * slopes)
        across = across + (envelope * values,)
    return along, across


@triton.jit
def store_gradient(
    gradients, stride, slot, mask, along, across, unit, inverse, BEGIN: tl.constexpr,
    DEGREES: tl.constexpr,
):  # fmt: skip
    """Harmonics depend on the direction alone: their gradient is projected off it."""
    ux, uy, uz = unit
    gx, gy, gz = ux * 0.0, ux * 0.0, ux * 0.0
    if DEGREES > 1:
        gx, gy, gz = harmonics_adjoint(ux, uy, uz, across, DEGREES)
    rest = along - (gx * ux + gy * uy + gz * uz) * inverse
    gx, gy, gz = gx * inverse + rest * ux, gy * inverse + rest * uy, gz * inverse + rest * uz
    x = gradients + slot
    # Added twice: twice the stride may not fit into 32 bits.
    y = x + stride
    z = y + stride
    if BEGIN > 0:
        gx += tl.load(x, mask=mask, other=0.0)
        gy += tl.load(y, mask=mask, other=0.0)
        gz += tl.load(z, mask=mask, other=0.0)
    tl.store(x, gx, mask=mask)
    tl.store(y, gy, mask=mask)
    tl.store(z, gz, mask=mask)


@triton.jit(do_not_specialize=COUNTED, do_not_specialize_on_alignment=LISTED)
def moments(
    packs, count, first, rowptr, vectors, stride, neighbor_types, row_types, table, species_of,
    n_types, n_species, per_species, begin_1, begin_2, begin_3, scratch, columns, wall_energy,
    BEGIN: tl.constexpr, E0: tl.constexpr, E1: tl.constexpr, E2: tl.constexpr, E3: tl.constexpr,
    DEGREES: tl.constexpr, SIZE: tl.constexpr, COUNT: tl.constexpr, P: tl.constexpr,
    WHOLE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """A = Σ_j R_n Y_lm of every species, radial functions BEGIN to before E_l of degree l.

    One program per BLOCK listed centres from `first` on.

    Args:
        packs, count: the work list, (≥ count, SLOTS) int32 with one row each, and (1,) int32.
        rowptr, vectors, neighbor_types, row_types: of `EdgeRows`; `stride` between the planes of
            `vectors`.
        table: (n_types², PAIR) float32. species_of: (n_types,) int32, −1 without moments.
        n_species: S. per_species: moments of one. begin_1, …: where degree l's begin among them.
        scratch: OUTPUT (M, columns) float32, one column per place in the list from `first` on.
        wall_energy: OUTPUT (columns,) float32, eV, by the pass with BEGIN = 0.
        DEGREES: l_max + 1. SIZE: greatest E_l. COUNT: moments of this pass. P: the wall's exponent,
            0: no wall; WHOLE: the same if it is a whole number, else 0.
    """
    types, begin, edges, listed = centre_edges(packs, count, first, rowptr, row_types, BLOCK)
    most = tl.max(edges, 0)
    column = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    for species in range(n_species):
        sums = zeros(column.to(tl.float32), COUNT)
        for k in range(most):
            inside = k < edges
            other = tl.load(neighbor_types + begin + k, mask=inside, other=0)
            pair = (types * n_types + other) * _PAIR
            edge = load_edge(vectors, stride, begin + k, inside)
            radial = radial_parts(edge[3], pair, table)
            envelope = tl.where(tl.load(species_of + other) == species, radial[2], 0.0)
            T = chebyshev(radial[0], SIZE)[0]
            Y = harmonics(edge[0], edge[1], edge[2], DEGREES)
            new = add_degree((), sums, envelope, T, Y, 0, BEGIN, E0)
            new = add_degree(new, sums, envelope, T, Y, 1, BEGIN, E1)
            new = add_degree(new, sums, envelope, T, Y, 2, BEGIN, E2)
            sums = add_degree(new, sums, envelope, T, Y, 3, BEGIN, E3)
        target = scratch + species * per_species * columns + column
        store_degree(sums, target, columns, listed, 0, 0, BEGIN, E0)
        at = target + begin_1 * columns
        store_degree(sums, at, columns, listed, E0 - BEGIN, 1, BEGIN, E1)
        at = target + begin_2 * columns
        store_degree(sums, at, columns, listed, (E0 - BEGIN) + 3 * (E1 - BEGIN), 2, BEGIN, E2)
        at = target + begin_3 * columns
        store_degree(sums, at, columns, listed, COUNT - 7 * (E3 - BEGIN), 3, BEGIN, E3)
    if P > 0 and BEGIN == 0:
        energy = column.to(tl.float32) * 0.0
        for k in range(most):
            inside = k < edges
            other = tl.load(neighbor_types + begin + k, mask=inside, other=0)
            edge = load_edge(vectors, stride, begin + k, inside)
            pair = (types * n_types + other) * _PAIR
            energy += zbl(edge[3], pair, table, P, WHOLE)[0]
        tl.store(wall_energy + column, energy, mask=listed)


@triton.jit(do_not_specialize=PLANNED, do_not_specialize_on_alignment=LISTED)
def polynomial(
    packs, count, first, row_types, linear, quadratic_first, quadratic_column, quadratic_value,
    cubic_first, cubic_columns, cubic_value, n_moments, n_quadratic, n_cubic, scratch, columns,
    wall_energy, shift, gradient, energies, WALL: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """E_i and dE_i/dA of the listed rows from their moments.

    With q_a = Σ_b Q_ab A_b and k_a = Σ_bc K_abc A_b A_c, the parts of degrees two and three of the
    gradient dE/dA_a = c1_a + q_a + k_a, the energy is Σ_a A_a (c1_a + q_a / 2 + k_a / 3) by Euler's
    theorem.

    Args:
        packs, count, row_types, scratch, columns, wall_energy: see `moments`.
        linear: c1 (T, M). quadratic_…: rows of Q (M + 1,), columns (N,) and values (T, N).
        cubic_…: rows of K (M + 1,), pairs of columns (2, N') and values (T, N').
        shift: (T,) float64, eV.
        gradient: OUTPUT (M, columns) float32.
        energies: OUTPUT (R,) float64, eV.
    """
    place = first + tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    listed = place < tl.load(count)
    row = tl.load(packs + place * _SLOTS, mask=listed, other=0)
    types = tl.load(row_types + row, mask=listed, other=0)
    column = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    energy = column.to(tl.float32) * 0.0
    for a in range(n_moments):
        own = tl.load(scratch + a * columns + column, mask=listed, other=0.0)
        single = tl.load(linear + types * n_moments + a)
        q, k = energy * 0.0, energy * 0.0
        for entry in range(tl.load(quadratic_first + a), tl.load(quadratic_first + a + 1)):
            b = tl.load(quadratic_column + entry)
            value = tl.load(quadratic_value + types * n_quadratic + entry)
            q += value * tl.load(scratch + b * columns + column, mask=listed, other=0.0)
        for entry in range(tl.load(cubic_first + a), tl.load(cubic_first + a + 1)):
            b = tl.load(cubic_columns + entry)
            c = tl.load(cubic_columns + n_cubic + entry)
            value = tl.load(cubic_value + types * n_cubic + entry)
            left = tl.load(scratch + b * columns + column, mask=listed, other=0.0)
            k += value * left * tl.load(scratch + c * columns + column, mask=listed, other=0.0)
        energy += own * (single + 0.5 * q + k * 0.3333333333333333)
        tl.store(gradient + a * columns + column, single + q + k, mask=listed)
    if WALL:
        energy += tl.load(wall_energy + column, mask=listed, other=0.0)
    tl.store(energies + row, energy.to(tl.float64) + tl.load(shift + types), mask=listed)


@triton.jit(do_not_specialize=COUNTED, do_not_specialize_on_alignment=LISTED)
def adjoint(
    packs, count, first, rowptr, vectors, stride, neighbor_types, row_types, table, species_of,
    n_types, n_species, per_species, begin_1, begin_2, begin_3, gradient, columns, gradients,
    BEGIN: tl.constexpr, E0: tl.constexpr, E1: tl.constexpr, E2: tl.constexpr, E3: tl.constexpr,
    DEGREES: tl.constexpr, SIZE: tl.constexpr, P: tl.constexpr, WHOLE: tl.constexpr,
    BLOCK: tl.constexpr,
):  # fmt: skip
    """∂E_i/∂r_ij from dE_i/dA: written by the pass with BEGIN = 0, added to by the others.

    Args:
        gradient: (M, columns) float32, of `polynomial`.
        gradients: OUTPUT (3, any) float32, eV/Å, in the slots of `vectors`.
        The others: see `moments`.
    """
    types, begin, edges, listed = centre_edges(packs, count, first, rowptr, row_types, BLOCK)
    most = tl.max(edges, 0)
    column = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    for species in range(n_species):
        source = gradient + species * per_species * columns + column
        G = load_degree((), source, columns, listed, 0, BEGIN, E0)
        G = load_degree(G, source + begin_1 * columns, columns, listed, 1, BEGIN, E1)
        G = load_degree(G, source + begin_2 * columns, columns, listed, 2, BEGIN, E2)
        G = load_degree(G, source + begin_3 * columns, columns, listed, 3, BEGIN, E3)
        for k in range(most):
            inside = k < edges
            slot = begin + k
            other = tl.load(neighbor_types + slot, mask=inside, other=0)
            pair = (types * n_types + other) * _PAIR
            ux, uy, uz, length, inverse = load_edge(vectors, stride, slot, inside)
            y, dy, envelope, slope = radial_parts(length, pair, table)
            own = tl.load(species_of + other)
            # Edges without moments are the first species' to write.
            mine = inside & (tl.maximum(own, 0) == species)
            envelope, slope = tl.where(own < 0, 0.0, envelope), tl.where(own < 0, 0.0, slope)
            T, dT = chebyshev(y, SIZE)
            Y = harmonics(ux, uy, uz, DEGREES)
            parts = (envelope, slope, dy * envelope)
            along, across = contract(length * 0.0, (), G, parts, T, dT, Y, 0, 0, BEGIN, E0)
            if DEGREES > 1:
                A1: tl.constexpr = E0 - BEGIN
                along, across = contract(along, across, G, parts, T, dT, Y, A1, 1, BEGIN, E1)
            if DEGREES > 2:
                A2: tl.constexpr = E0 - BEGIN + 3 * (E1 - BEGIN)
                along, across = contract(along, across, G, parts, T, dT, Y, A2, 2, BEGIN, E2)
            if DEGREES > 3:
                A3: tl.constexpr = E0 - BEGIN + 3 * (E1 - BEGIN) + 5 * (E2 - BEGIN)
                along, across = contract(along, across, G, parts, T, dT, Y, A3, 3, BEGIN, E3)
            if P > 0 and BEGIN == 0:
                along += zbl(length, pair, table, P, WHOLE)[1]
            unit = (ux, uy, uz)
            store_gradient(
                gradients, stride, slot, mine, along, across, unit, inverse, BEGIN, DEGREES
            )
