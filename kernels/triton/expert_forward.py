"""Blocks of the kernels that compute the energy of centres."""

from __future__ import annotations

from duetto.kernels.triton import expert_geometry, expert_product
from duetto.kernels.triton.expert_spec import COMPONENTS
from duetto.kernels.triton.expert_writer import Writer


def energy(w: Writer) -> None:
    """Everything from the geometry to the energy, which is stored."""
    expert_geometry.edges(w)
    expert_geometry.harmonics(w)
    first_hidden(w, slope=w.kind == "whole")
    w.equation("wV = h_0 · PV")
    for degree in w.spec.degrees:
        tensor_weights(w, degree)
    for n in range(w.spec.num_layers):
        environment(w, n)
        _functional(w, n)
        _scalars(w, n)
        _latent(w, n)
    _readout(w)
    if w.spec.zbl_p is not None:
        expert_geometry.zbl(w)
    _store_energy(w)


def first_hidden(w: Writer, *, slope: bool) -> None:
    """h_0 in parts, and with `slope` φ' at its pre-activation, h0_slope."""
    expert_geometry.basis_factors(w)
    expert_geometry.two_body(w, slope=False)
    name = w.spec.two_body_activation
    if slope:
        w(f'h0, h0_slope = activation_and_slope(z0, "{name}", FAST)')
    else:
        w(f'h0 = activation(z0, "{name}", FAST)')
    w("h0 = split(h0, PRECISION)")


def tensor_weights(w: Writer, degree: int, *, again: bool = False) -> None:
    """wV_l = h_0 · PV_l of one degree, on the way back from the stash."""
    address, shape = w.edge_tile(f"weights_{degree}"), f"E, {w.spec.channels}"
    if w.kind == "backward" or again:
        w(f"wV_{degree} = load_tile({address}, {shape})")
        return
    w(f"wV_{degree} = dot(h0, {w.weights(f'PV_{degree}')}, PRECISION)")
    if w.kind == "forward":
        w(f"store_tile({address}, wV_{degree}, {shape})")


def functional_by_degree(w: Writer, n: int, degree: int) -> None:
    """The rows of one degree of N_n, in parts as N{n}_{degree}."""
    slab = w.spec.slab_of(degree)
    w(f"N{n}_{degree} = {expert_geometry.of_degree(slab, degree, f'N{n}_slab{slab.index}')}")


def environment(w: Writer, n: int) -> None:
    """A_n (COMPONENTS, U) of the centres, a slab at a time."""
    w.equation(f"H = Σ_j h_{n} Y_lm, A_{n} = norm · (PE_{n})ᵀ H")
    for slab in w.spec.slabs:
        name = f"A{n}_slab{slab.index}"
        w(
            f"Y_transposed = transposed(renewed(Y{slab.index}, PRECISION))",
            f"moments = split(dot(Y_transposed, h{n}, PRECISION), PRECISION)",
        )
        factors = [
            (expert_geometry.of_degree(slab, degree, "moments"), w.weights(f"PE_{n}_{degree}"))
            for degree in slab.degrees
        ]
        w.sum_of_products(name, factors)
        w(f"{name} = {name} * norm")
        if needs_stash(w):
            address = w.component_tile(f"environment_{n}", slab)
            w(f"store_tile({address}, {name}, {COMPONENTS}, {w.spec.channels})")


def needs_stash(w: Writer) -> bool:
    """Whether environments go through the stash: to the other kernel, or to another layer."""
    return w.kind != "whole" or w.spec.num_layers > 1


def _functional(w: Writer, n: int) -> None:
    if n == 0:
        w.equation("N_0 = e · M_0(A_0), diagonal")
        for slab in w.spec.slabs:
            k = slab.index
            w(f"N0_slab{k} = split(A0_slab{k} * {w.floats(f'first_product_{k}')}, PRECISION)")
        return
    # Vectors and tiles are spread over the threads differently: environments stored as tiles are
    # loaded as vectors, and N_n the other way round, each time by threads that did not store them.
    w("tl.debug_barrier()")
    expert_product.functional(w, n)
    w("tl.debug_barrier()")
    recall_functional(w, n)


def recall_functional(w: Writer, n: int) -> None:
    """N_n, n ≥ 1, in parts, from the stash."""
    for slab in w.spec.slabs:
        address = w.component_tile(f"functional_{n}", slab)
        tile = f"load_tile({address}, {COMPONENTS}, {w.spec.channels})"
        w(f"N{n}_slab{slab.index} = split({tile}, PRECISION)")


def _scalars(w: Writer, n: int) -> None:
    w.equation(f"s_{n}[u] = Σ_l wV[u, l] Σ_m Y_lm N_{n}[u, lm]")
    for degree in w.spec.degrees:
        if n > 0 and w.kind == "forward":
            tensor_weights(w, degree, again=True)
        functional_by_degree(w, n, degree)
        sign = "=" if degree == 0 else "+="
        slab = w.spec.slab_of(degree).index
        w(f"s{n} {sign} wV_{degree} * dot(Y{slab}, N{n}_{degree}, PRECISION)")


def _latent(w: Writer, n: int) -> None:
    m_terms = " + ".join(f"h_{m} · Wh_{n}{m}" for m in range(n + 1))
    w.equation(f"h_{n + 1} = φ({m_terms} + s_{n} · Ws_{n})")
    factors = [(f"h{m}", w.weights(f"Wh_{n}_{m}")) for m in range(n + 1)]
    w.sum_of_products(f"z{n + 1}", [(f"split(s{n}, PRECISION)", w.weights(f"Ws_{n}")), *factors])
    name = w.spec.latent_activation
    if w.kind == "forward":
        width = w.spec.hidden_widths[n + 1]
        w(
            f"store_tile({w.edge_tile(f'z_{n + 1}')}, z{n + 1}, E, {width})",
            f'h{n + 1} = split(activation(z{n + 1}, "{name}", FAST), PRECISION)',
        )
    else:
        w(
            f'h{n + 1}, h{n + 1}_slope = activation_and_slope(z{n + 1}, "{name}", FAST)',
            f"h{n + 1} = split(h{n + 1}, PRECISION)",
        )


def _readout(w: Writer) -> None:
    m_terms = " + ".join(f"h_{m} · Rh_{m}" for m in range(w.spec.num_layers + 1))
    w.equation(f"e_ij = φ({m_terms}) · ro")
    factors = [(f"h{m}", w.weights(f"Rh_{m}")) for m in range(w.spec.num_layers + 1)]
    w.sum_of_products("zr", factors)
    name = w.spec.readout_activation
    w(
        f"scale = {w.type_energy('scale')}",
        f"shift = {w.type_energy('shift')}",
        f"ro = {w.row('ro')}[None, :]",
        f'readout, readout_slope = activation_and_slope(zr, "{name}", FAST)',
        "edge_energy = tl.sum(readout * ro, 1)",
        "g_zr = (scale.to(tl.float32) * ro) * readout_slope",
    )
    if not w.spec.vanishes:
        w(
            "edge_energy = tl.where(inside, edge_energy, 0.0)",
            "g_zr = tl.where(inside[:, None], g_zr, 0.0)",
        )
    if w.kind == "forward":
        w(f"store_tile({w.edge_tile('readout')}, g_zr, E, {w.spec.readout_width})")
    else:
        w("g_zr = split(g_zr, PRECISION)")


def _store_energy(w: Writer) -> None:
    if needs_stash(w):
        # Found anew rather than held through the kernel.
        expert_geometry.rows(w)
    w.equation("E_i = scale · Σ_j e_ij + shift")
    for c in range(w.spec.centres):
        w(
            f"own_edges = tl.where(member == {c}, edge_energy, 0.0)",
            "atomic_energy = scale * tl.sum(own_edges, 0) + shift",
        )
        if w.spec.zbl_p is not None:
            w(f"atomic_energy += tl.sum(tl.where(member == {c}, repulsion, 0.0), 0)")
        # A tile too small for the centre must not pass for an energy.
        w(
            f'atomic_energy = tl.where(end{c} <= E, atomic_energy, float("nan"))',
            f"tl.store(energies + row{c}, atomic_energy, mask=row{c} >= 0)",
        )
