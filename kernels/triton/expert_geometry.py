"""Blocks of the kernels that know of distances and angles, and their derivatives."""

from __future__ import annotations

import math

from duetto.kernels.constants import ZBL_COEFFICIENTS as _ZBL_COEFFICIENTS
from duetto.kernels.constants import ZBL_EXPONENTS as _ZBL_EXPONENTS
from duetto.kernels.harmonics import HARMONICS, Harmonic, slope
from duetto.kernels.triton.expert_spec import COMPONENTS, Slab
from duetto.kernels.triton.expert_writer import Writer


def expression(harmonic: Harmonic) -> str:
    """Source of a harmonic, or of a slope of one, at the unit vector ux, uy, uz."""
    terms = []
    for powers, coefficient in harmonic.terms.items():
        factors = [f"u{axis}" for axis, p in zip("xyz", powers, strict=True) for _ in range(p)]
        # Quadratic factors first and in brackets, so that equal ones are computed once.
        product = f"({' * '.join(factors[:2])}) * {factors[2]}" if len(factors) == 3 else ""
        number = repr(harmonic.scale * coefficient)
        terms.append(" * ".join([number, product or " * ".join(factors)]).rstrip(" *"))
    return " + ".join(terms)


def rows(w: Writer) -> None:
    """Find the centres of the program, and of every row of its tiles centre and place in memory."""
    w.equation("rows of the tiles: the edges of one centre after the other's, then padding")
    w("end = 0", "member = tl.zeros([E], tl.int32)")
    for c in range(w.spec.centres):
        # Places that are not taken hold −1: a row without edges.
        w(
            f"row{c} = tl.load(pack + {c})",
            f"start{c} = tl.load(rowptr + row{c}, mask=row{c} >= 0, other=0)",
            f"next{c} = tl.load(rowptr + row{c} + 1, mask=row{c} >= 0, other=0)",
        )
        place = f"start{c} - end + edge"
        w(f"place = {place}" if c == 0 else f"place = tl.where(edge >= end, {place}, place)")
        w(
            f"end = end + (next{c} - start{c}).to(tl.int32)",
            f"end{c} = end",
            "member += (edge >= end).to(tl.int32)",
        )
    w("num_edges = end", "inside = edge < num_edges")


def edges(w: Writer) -> None:
    """Load the edges of the centres: unit vectors, distances, scaled distances."""
    w.equation("unit vectors and distances; padding lies beyond every cutoff")
    w(
        "rx = tl.load(vectors + place, mask=inside, other=1.0)",
        "ry = tl.load(vectors + stride + place, mask=inside, other=0.0)",
        "rz = tl.load(vectors + stride + stride + place, mask=inside, other=0.0)",
        "inverse_length = anchored(reciprocal_root(rx * rx + ry * ry + rz * rz, FAST), FAST)",
        "length = (rx * rx + ry * ry + rz * rz) * inverse_length",
        "ux = anchored(rx * inverse_length, FAST)",
        "uy = anchored(ry * inverse_length, FAST)",
        "uz = anchored(rz * inverse_length, FAST)",
    )
    if w.spec.num_types > 1:
        w("neighbour_type = tl.load(neighbor_types + place, mask=inside, other=0)")
    w(
        f"inverse_cutoff = {w.per_pair('inverse_cutoff')}",
        "x = anchored(tl.where(inside, length * inverse_cutoff, 2.0), FAST)",
        "inverse_x = reciprocal(x, FAST)",
    )
    if not w.spec.vanishes:
        w("inside = inside & (x < 1.0)")


def cutoff(w: Writer, name: str, p: float) -> None:
    """The polynomial cutoff and its derivative.

    1 − (p+1)(p+2)/2 x^p + p(p+2) x^(p+1) − p(p+1)/2 x^(p+2) = (1 − x)³ Σ_{k<p} (k+1)(k+2)/2 x^k
    for whole p: a form without cancellation near x = 1.
    """
    w("complement = tl.maximum(1.0 - x, 0.0)")
    if p.is_integer() and p <= 12:
        w(f"series = x * 0.0 + {float(p * (p + 1) / 2)!r}")
        for k in range(int(p) - 2, -1, -1):
            w(f"series = series * x + {(k + 1) * (k + 2) / 2!r}")
        power = " * ".join(["x"] * (int(p) - 1))
        w(f"{name} = complement * complement * complement * series")
    else:
        power = f"tl.exp2({p - 1!r} * tl.log2(x))"
        w(f"power = {power} * x")
        polynomial = f"({-p * (p + 1) / 2!r} * x + {p * (p + 2)!r}) * x - {(p + 1) * (p + 2) / 2!r}"
        w(f"{name} = tl.where(x < 1.0, 1.0 + power * ({polynomial}), 0.0)")
    slope = f"{-p * (p + 1) * (p + 2) / 2!r} * ({power})"
    w(f"{name}_slope = {slope} * complement * complement")


def basis_factors(w: Writer) -> None:
    """What all radial functions of an edge have in common."""
    if w.spec.cutoff_p is None:
        return
    w.equation("cutoff of the Bessel functions")
    cutoff(w, "cut", w.spec.cutoff_p)
    w(
        f"sine_factor = cut * inverse_x * {1 / math.pi!r}",
        f"sine_slope = (cut_slope - cut * inverse_x) * inverse_x * {1 / math.pi!r}",
        "cosine_slope = cut * inverse_x",
    )


def two_body(w: Writer, *, slope: bool) -> None:
    """z_0 = B · K1[t_i, t_j]; with `slope`, its derivative along x instead, z0_slope."""
    spec = w.spec
    target = "z0_slope" if slope else "z0"
    w.equation("∂z_0/∂x = ∂B/∂x · K1[t_i, t_j]" if slope else "h_0 = φ(B(r_ij) · K1[t_i, t_j])")
    _radial_functions(w, slope=slope)
    w("basis = split(basis, PRECISION)")
    for group in range(spec.num_type_groups):
        factor = "basis"
        if spec.num_types > 1:
            types = f"{group * spec.types_per_tile} + column // {spec.num_radial}"
            w(f"matches = neighbour_type[:, None] == ({types})[None, :]")
            factor = "masked(matches, basis)"
        w.product(target, factor, w.first_weights(group), first=group == 0)


def _radial_functions(w: Writer, *, slope: bool) -> None:
    """The tile of B or ∂B/∂x. Its columns repeat the functions; types are matched later."""
    spec = w.spec
    w(
        f"column = tl.arange(0, {spec.basis_columns})",
        f"parameter = tl.load(table + {w.offset('column')} + 0 * edge[:, None] + column[None, :])",
    )
    if spec.cutoff_p is not None:
        w("sine, cosine = sine_and_cosine_of_pi(x[:, None] * parameter)")
        if slope:
            w("basis = parameter * cosine * cosine_slope[:, None] + sine * sine_slope[:, None]")
        else:
            w("basis = sine * sine_factor[:, None]")
        return
    assert spec.spline_span is not None
    inverse_width = spec.num_radial / (spec.spline_span + 1)
    # ¼ (1 − cos 2πq)² = sin⁴ πq, and sin πq = cos π(q − ½).
    w(
        f"q = tl.minimum(tl.maximum((x[:, None] - parameter) * {inverse_width!r}, 0.0), 1.0)",
        "minus_cosine, sine = sine_and_cosine_of_pi(q - 0.5)",
    )
    if slope:
        w(f"basis = sine * sine * sine * minus_cosine * {-4 * math.pi * inverse_width!r}")
    else:
        w("basis = (sine * sine) * (sine * sine)")


def harmonics(w: Writer) -> None:
    """The tiles Y{slab} (E, COMPONENTS) of harmonics, zero in columns of other centres."""
    w.equation("Y_lm, columns lm of each centre; an edge has those of its own")
    w(f"column = tl.arange(0, {COMPONENTS})")
    for slab in w.spec.slabs:
        k, size = slab.index, slab.size
        w(
            f"component{k} = column % {size} + {slab.first}",
            f"own{k} = {_own(w, slab)}",
        )
        if len(slab.degrees) > 1:
            steps = [f"(component{k} >= {d**2}).to(tl.int32)" for d in slab.degrees[1:]]
            w(f"degree{k} = {' + '.join([str(slab.degrees[0]), *steps])}")
        place = f"{w.offset(f'unit_{k}')} + 0 * edge[:, None] + column[None, :]"
        w(f"Y{k} = tl.load(table + {place})")
        for d in range(max(slab.first, 1), slab.first + size):
            value = f"({expression(HARMONICS[d])})[:, None]"
            w(f"Y{k} = tl.where(component{k}[None, :] == {d}, {value}, Y{k})")
        w(f"Y{k} = split(tl.where(own{k}, Y{k}, 0.0), PRECISION)")


def _own(w: Writer, slab: Slab) -> str:
    """Expression for the mask of the columns of a slab that belong to the centre of the edge."""
    own = f"member[:, None] == (column // {slab.size})[None, :]"
    return own if w.spec.vanishes else f"({own}) & inside[:, None]"


def of_degree(slab: Slab, degree: int, parts: str) -> str:
    """Expression for the tile of a slab (COMPONENTS, …) in parts, zero in other degrees' rows."""
    if len(slab.degrees) == 1:
        return parts
    return f"masked((degree{slab.index} == {degree})[:, None], {parts})"


def zbl(w: Writer) -> None:
    """Half the ZBL energy of each edge and its derivative along the distance, eV, eV/Å."""
    assert w.spec.zbl_p is not None
    w.equation("ZBL repulsion")
    w(
        f"zbl_inverse_length = {w.per_pair('zbl_inverse_length')}",
        "scaled = length * zbl_inverse_length",
        "screening = x * 0.0",
        "screening_slope = x * 0.0",
    )
    for coefficient, exponent in zip(_ZBL_COEFFICIENTS, _ZBL_EXPONENTS, strict=True):
        w(
            f"decay = {coefficient!r} * exponential({exponent!r} * scaled, FAST)",
            "screening += decay",
            f"screening_slope += {exponent!r} * decay",
        )
    cutoff(w, "zbl_cut", w.spec.zbl_p)
    w(
        f"coulomb = {w.per_pair('zbl_energy')} * inverse_length",
        "repulsion = coulomb * screening * zbl_cut",
        "repulsion_slope = coulomb * (screening_slope * zbl_inverse_length * zbl_cut",
        "    + screening * (zbl_cut_slope * inverse_cutoff - zbl_cut * inverse_length))",
    )


def gradient(w: Writer) -> None:
    """Gradient of each edge from those of Y (g_Y) and of the first pre-activation (g_z0)."""
    two_body(w, slope=True)
    w.equation("∂E/∂r_ij from ∂E/∂Y_lm and ∂E/∂r")
    w("g_length = tl.sum(g_z0 * z0_slope, 1) * inverse_cutoff")
    if w.spec.zbl_p is not None:
        w("g_length += repulsion_slope")
    terms: dict[str, list[str]] = {"x": [], "y": [], "z": []}
    w(f"column = tl.arange(0, {COMPONENTS})")
    for slab in w.spec.slabs:
        k = slab.index
        w(f"g_Y{k} = tl.where({_own(w, slab)}, g_Y{k}, 0.0)")
        for d in range(max(slab.first, 1), slab.first + slab.size):
            w(f"g_Y_{d} = tl.sum(tl.where(component{k}[None, :] == {d}, g_Y{k}, 0.0), 1)")
            for axis, name in enumerate("xyz"):
                partial = Harmonic(HARMONICS[d].scale, slope(HARMONICS[d].terms, axis))
                if partial.terms:
                    terms[name].append(f"g_Y_{d} * ({expression(partial)})")
    for name, parts in terms.items():
        w(f"g_u{name} = {parts[0]}")
        for part in parts[1:]:
            w(f"g_u{name} += {part}")
    w("g_radial = g_ux * ux + g_uy * uy + g_uz * uz")
    for axis, name in enumerate("xyz"):
        value = f"(g_u{name} - g_radial * u{name}) * inverse_length + g_length * u{name}"
        # Added once for each axis: twice a stride may not fit into 32 bits.
        plane = " + ".join(["gradients", *["stride"] * axis])
        w(f"tl.store({plane} + place, {value}, mask=edge < num_edges)")
