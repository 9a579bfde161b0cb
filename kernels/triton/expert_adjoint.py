"""Blocks of the kernels that compute the gradient of E_i with respect to the edges.

g_x stands for the gradient with respect to x; it carries the centre's energy scale from the
start. Layers are taken from the last to the first. Registers are what limits the backward
kernel, so it loads h_0 and computes wV anew where they are needed, and leaves in the stash what
is needed again much later.
"""

from __future__ import annotations

from duetto.kernels.triton import expert_forward, expert_geometry, expert_product
from duetto.kernels.triton.expert_spec import COMPONENTS
from duetto.kernels.triton.expert_writer import Writer


def gradient(w: Writer) -> None:
    """Everything from the gradient of the readout to that of the edges, which is stored."""
    for slab in w.spec.slabs:
        w(f"g_Y{slab.index} = tl.zeros([E, {COMPONENTS}], tl.float32)")
    for n in range(w.spec.num_layers - 1, -1, -1):
        _latent(w, n)
        if w.kind == "backward" and n == w.spec.num_layers - 1:
            expert_geometry.edges(w)
            expert_geometry.harmonics(w)
        if n > 0:
            _functional(w, n)
            _environment(w, n)
    _first_hidden(w)
    _tensor_weights(w)
    _environment(w, 0)
    for slab in w.spec.slabs:
        k = slab.index
        w(f"g_h0 = dot_add(Y{k}, X0_slab{k}, g_h0, PRECISION)")
    if w.kind == "backward":
        # Nothing is loaded behind it that was stored before: it keeps what is computed anew here
        # from being computed once and held through half the kernel.
        w("tl.debug_barrier()  # orders no memory")
        expert_geometry.rows(w)
        expert_geometry.edges(w)
        expert_forward.first_hidden(w, slope=True)
        if w.spec.zbl_p is not None:
            expert_geometry.zbl(w)
    _harmonics(w, 0)
    w("g_z0 = g_h0 * h0_slope")
    expert_geometry.gradient(w)


def _harmonics(w: Writer, m: int) -> None:
    """Gradient of Y through A_m."""
    w.equation(f"∂E/∂Y += h_{m} · X_{m}ᵀ")
    for slab in w.spec.slabs:
        k = slab.index
        w(f"g_Y{k} = dot_add(h{m}, transposed(X{m}_slab{k}), g_Y{k}, PRECISION)")


def _latent(w: Writer, n: int) -> None:
    """Gradients of h_{n+1}, its pre-activation and s_n."""
    spec, m = w.spec, n + 1
    if w.kind == "backward":
        z = f"load_tile({w.edge_tile(f'z_{m}')}, E, {spec.hidden_widths[m]})"
        w(f'h{m}, h{m}_slope = activation_and_slope({z}, "{spec.latent_activation}", FAST)')
        w(f"h{m} = split(h{m}, PRECISION)")
    if m < spec.num_layers:
        _harmonics(w, m)
    readers = "".join(f" + ∂E/∂z_{k + 1} · Wh_{k}{m}ᵀ" for k in range(m, spec.num_layers))
    environment = f" + Y · X_{m}" if m < spec.num_layers else ""
    w.equation(f"∂E/∂h_{m} = ∂E/∂zr · Rh_{m}ᵀ{readers}{environment}")
    factors = _upstream(w, m)
    if m < spec.num_layers:
        factors += [(f"Y{slab.index}", f"X{m}_slab{slab.index}") for slab in spec.slabs]
    w.sum_of_products(f"g_h{m}", factors)
    w.equation(f"∂E/∂z_{m} = ∂E/∂h_{m} φ', ∂E/∂s_{n} = ∂E/∂z_{m} · Ws_{n}ᵀ")
    w(f"g_z{m} = g_h{m} * h{m}_slope")
    if w.kind == "backward" and n > 0:
        # It replaces z, which other threads may have yet to load.
        w("tl.debug_barrier()")
        w(f"store_tile({w.edge_tile(f'z_{m}')}, g_z{m}, E, {spec.hidden_widths[m]})")
    w(f"g_z{m} = split(g_z{m}, PRECISION)")
    w(f"g_s{n} = dot(g_z{m}, transposed({w.weights(f'Ws_{n}')}), PRECISION)")
    if w.kind == "backward" and n > 0:
        w(f"store_tile({w.edge_tile(f'scalars_{n}')}, g_s{n}, E, {spec.channels})")


def _upstream(w: Writer, m: int) -> list[tuple[str, str]]:
    """Products that bring the gradient of h_m from the readout and the latents that read it."""
    spec = w.spec
    if w.kind == "backward":
        tile = f"load_tile({w.edge_tile('readout')}, E, {spec.readout_width})"
        w(f"g_zr = split({tile}, PRECISION)")
    factors = [("g_zr", f"transposed({w.weights(f'Rh_{m}')})")]
    for k in range(max(m, 0), spec.num_layers):
        if w.kind == "backward" and k > 0:
            tile = f"load_tile({w.edge_tile(f'z_{k + 1}')}, E, {spec.hidden_widths[k + 1]})"
            w(f"g_z{k + 1} = split({tile}, PRECISION)")
        factors.append((f"g_z{k + 1}", f"transposed({w.weights(f'Wh_{k}_{m}')})"))
    return factors


def _functional(w: Writer, n: int) -> None:
    """Gradient of N_n, and through it those of A_0 … A_n, in the stash."""
    w.equation(f"∂E/∂N_{n}[u, lm] = Σ_j ∂E/∂s_{n}[u] wV[u, l] Y_lm")
    for degree in w.spec.degrees:
        if w.kind == "backward":
            expert_forward.tensor_weights(w, degree)
        _moment(w, n, degree)
    for slab in w.spec.slabs:
        address = w.component_tile(f"cotangent_{n}", slab)
        w(f"store_tile({address}, g_N{n}_slab{slab.index}, {COMPONENTS}, {w.spec.channels})")
    # As on the way forward: what is stored as a tile is loaded as vectors, and then the reverse.
    w("tl.debug_barrier()")
    expert_product.functional_adjoint(w, n)
    w("tl.debug_barrier()")


def _moment(w: Writer, n: int, degree: int) -> None:
    """Rows of one degree of the gradient of N_n; leaves ∂E/∂s_n wV in parts as weighted."""
    slab = w.spec.slab_of(degree)
    k, name = slab.index, f"g_N{n}_slab{slab.index}"
    if degree == slab.degrees[0]:
        w(f"Y_transposed = transposed(renewed(Y{k}, PRECISION))")
    w(f"weighted = split(g_s{n} * wV_{degree}, PRECISION)")
    moments = "dot(Y_transposed, weighted, PRECISION)"
    if degree == slab.degrees[0]:
        w(f"{name} = {moments}")
    else:
        w(f"{name} = tl.where((degree{k} == {degree})[:, None], {moments}, {name})")


def _environment(w: Writer, n: int) -> None:
    """X_n (COMPONENTS, H), with which the environment's gradient reaches h_n and Y, by slabs."""
    shape = f"{COMPONENTS}, {w.spec.channels}"
    w.equation(f"X_{n} = norm · ∂E/∂A_{n} · PE_{n}ᵀ")
    for slab in w.spec.slabs:
        k = slab.index
        parts = [
            f"load_tile({w.component_tile(f'pull_{n}_{later}', slab)}, {shape})"
            for later in range(max(n, 1), w.spec.num_layers)
        ]
        if n == 0:
            parts.insert(0, f"g_N0_slab{k} * {w.floats(f'first_product_{k}')}")
        w(f"g_A = split({' + '.join(parts)}, PRECISION)")
        factors = [
            (
                expert_geometry.of_degree(slab, degree, "g_A"),
                f"transposed({w.weights(f'PE_{n}_{degree}')})",
            )
            for degree in slab.degrees
        ]
        w.sum_of_products(f"X{n}_slab{k}", factors)
        w(f"X{n}_slab{k} = split(X{n}_slab{k} * norm, PRECISION)")


def _first_hidden(w: Writer) -> None:
    """Gradient of h_0 from the networks that read it."""
    spec = w.spec
    readers = "".join(f" + ∂E/∂z_{k + 1} · Wh_{k}0ᵀ" for k in range(spec.num_layers))
    w.equation(f"∂E/∂h_0 = ∂E/∂zr · Rh_0ᵀ{readers} + …")
    w.sum_of_products("g_h0", _upstream(w, 0))


def _tensor_weights(w: Writer) -> None:
    """Gradients of wV, and through it h_0, of Y, and of N_0, from those of all s_n."""
    spec = w.spec
    if w.kind == "backward":
        _recall_functionals(w)
    w.equation("∂E/∂wV_l = Σ_n ∂E/∂s_n Y_l N_n,  ∂E/∂h_0 += ∂E/∂wV · PVᵀ")
    for degree in spec.degrees:
        k = spec.slab_of(degree).index
        if w.kind == "backward":
            expert_forward.tensor_weights(w, degree)
        _moment(w, 0, degree)
        for n in range(spec.num_layers):
            if n > 0:
                w(f"weighted = split(g_s{n} * wV_{degree}, PRECISION)")
            expert_forward.functional_by_degree(w, n, degree)
            sign = "=" if n == 0 else "+="
            w(
                f"g_Y{k} = dot_add(weighted, transposed(N{n}_{degree}), g_Y{k}, PRECISION)",
                f"g_wV {sign} g_s{n} * dot(Y{k}, N{n}_{degree}, PRECISION)",
            )
        weights = f"transposed({w.weights(f'PV_{degree}')})"
        w.product("g_h0", "split(g_wV, PRECISION)", weights, first=False)


def _recall_functionals(w: Writer) -> None:
    """Load every N_n, and the gradients of all but the first s_n, from the stash."""
    spec = w.spec
    for slab in spec.slabs:
        k = slab.index
        address = w.component_tile("environment_0", slab)
        tile = f"load_tile({address}, {COMPONENTS}, {spec.channels})"
        w(f"N0_slab{k} = split({tile} * {w.floats(f'first_product_{k}')}, PRECISION)")
    for n in range(1, spec.num_layers):
        expert_forward.recall_functional(w, n)
        w(f"g_s{n} = load_tile({w.edge_tile(f'scalars_{n}')}, E, {spec.channels})")
