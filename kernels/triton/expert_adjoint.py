"""Blocks of the kernels that compute the gradient of E_i with respect to the edges.

g_x stands for the gradient with respect to x; it carries the centre's energy scale from the
start. Layers are taken from the last to the first. Registers are what limits the backward
kernel, so it computes h_0 and wV anew where they are needed, and leaves in the stash what is
needed again much later.
"""

from __future__ import annotations

from duetto.kernels.triton import expert_forward, expert_geometry, expert_product
from duetto.kernels.triton.expert_spec import COMPONENTS
from duetto.kernels.triton.expert_writer import Writer


def gradient(w: Writer) -> None:
    """Everything from the gradient of the readout to that of the edges, which is stored."""
    w(f"g_Y = tl.zeros([E, {COMPONENTS}], tl.float32)")
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
    w("g_h0 = dot_add(Y_parts, X0, g_h0, PRECISION)")
    w("g_Y = dot_add(h0, transposed(X0), g_Y, PRECISION)")
    if w.kind == "backward":
        # Nothing is loaded behind it that was stored before: it keeps what is computed anew here
        # from being computed once and held through half the kernel.
        w("tl.debug_barrier()  # orders no memory")
        expert_geometry.edges(w)
        expert_forward.first_hidden(w, slope=True)
        if w.spec.zbl_p is not None:
            expert_geometry.zbl(w)
    w("g_z0 = g_h0 * h0_slope")
    expert_geometry.gradient(w)


def _latent(w: Writer, n: int) -> None:
    """Gradients of h_{n+1}, its pre-activation and s_n."""
    spec, m = w.spec, n + 1
    if w.kind == "backward":
        z = f"load_tile({w.edge_tile(f'z_{m}')}, E, {spec.hidden_widths[m]})"
        w(f'h{m}, h{m}_slope = activation_and_slope({z}, "{spec.latent_activation}", FAST)')
        w(f"h{m} = split(h{m}, PRECISION)")
    if m < spec.num_layers:
        w.equation(f"∂E/∂Y += h_{m} · X_{m}ᵀ")
        w(f"g_Y = dot_add(h{m}, transposed(X{m}), g_Y, PRECISION)")
    readers = "".join(f" + ∂E/∂z_{k + 1} · Wh_{k}{m}ᵀ" for k in range(m, spec.num_layers))
    environment = f" + Y · X_{m}" if m < spec.num_layers else ""
    w.equation(f"∂E/∂h_{m} = ∂E/∂zr · Rh_{m}ᵀ{readers}{environment}")
    factors = _upstream(w, m)
    if m < spec.num_layers:
        factors.append(("Y_parts", f"X{m}"))
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
    """Gradient of N_n, and through it those of A_0 … A_n."""
    if w.kind == "backward":
        expert_forward.first_hidden(w, slope=False)
    w.equation(f"∂E/∂N_{n}[u, lm] = Σ_j ∂E/∂s_{n}[u] wV[u, l] Y_lm")
    w(f"g_N{n} = tl.zeros([{COMPONENTS}, {w.spec.channels}], tl.float32)")
    for degree in w.spec.degrees:
        if w.kind == "backward":
            expert_forward.tensor_weights(w, degree)
        _moment(w, n, degree)
    address = w.component_tile(f"cotangent_{n}")
    w(f"store_tile({address}, g_N{n}, {COMPONENTS}, {w.spec.channels})", "tl.debug_barrier()")
    expert_product.functional_adjoint(w, n)


def _moment(w: Writer, n: int, degree: int) -> None:
    """Rows of one degree of the gradient of N_n; leaves ∂E/∂s_n wV in parts as weighted."""
    w(
        f"weighted = split(g_s{n} * wV_{degree}, PRECISION)",
        "moments = dot(Y_transposed, weighted, PRECISION)",
        f"g_N{n} = tl.where((degree == {degree})[:, None], moments, g_N{n})",
    )


def _environment(w: Writer, n: int) -> None:
    """X_n (COMPONENTS, H), with which the environment's gradient reaches h_n and Y."""
    later = range(max(n, 1), w.spec.num_layers)
    parts = [f"g_A{n}_N{k}" for k in later]
    if n == 0:
        parts.insert(0, f"g_N0 * {w.floats('first_product')}")
    w.equation(f"X_{n} = norm · ∂E/∂A_{n} · PE_{n}ᵀ")
    w(f"g_A = split({' + '.join(parts)}, PRECISION)")
    factors = [
        (f"masked((degree == {d})[:, None], g_A)", f"transposed({w.weights(f'PE_{n}_{d}')})")
        for d in w.spec.degrees
    ]
    w.sum_of_products(f"X{n}", factors)
    w(f"X{n} = split(X{n} * norm, PRECISION)")


def _first_hidden(w: Writer) -> None:
    """Gradient of h_0 from the networks that read it."""
    spec = w.spec
    if w.kind == "backward":
        expert_forward.first_hidden(w, slope=False)
    readers = "".join(f" + ∂E/∂z_{k + 1} · Wh_{k}0ᵀ" for k in range(spec.num_layers))
    w.equation(f"∂E/∂h_0 = ∂E/∂zr · Rh_0ᵀ{readers} + …")
    w.sum_of_products("g_h0", _upstream(w, 0))


def _tensor_weights(w: Writer) -> None:
    """Gradients of wV, and through it h_0, of Y, and of N_0, from those of all s_n."""
    spec = w.spec
    if w.kind == "backward":
        _recall_functionals(w)
    w.equation("∂E/∂wV_l = Σ_n ∂E/∂s_n Y_l N_n,  ∂E/∂h_0 += ∂E/∂wV · PVᵀ")
    w(f"g_N0 = tl.zeros([{COMPONENTS}, {spec.channels}], tl.float32)")
    for degree in spec.degrees:
        if w.kind == "backward":
            expert_forward.tensor_weights(w, degree)
        _moment(w, 0, degree)
        for n in range(spec.num_layers):
            if n > 0:
                w(f"weighted = split(g_s{n} * wV_{degree}, PRECISION)")
            expert_forward.functional_by_degree(w, n, degree)
            sign = "=" if n == 0 else "+="
            w(
                f"g_Y = dot_add(weighted, transposed(N{n}_{degree}), g_Y, PRECISION)",
                f"g_wV {sign} g_s{n} * dot(Y_parts, N{n}_{degree}, PRECISION)",
            )
        weights = f"transposed({w.weights(f'PV_{degree}')})"
        w.product("g_h0", "split(g_wV, PRECISION)", weights, first=False)


def _recall_functionals(w: Writer) -> None:
    """Load every N_n, and the gradients of all but the first s_n, from the stash."""
    spec = w.spec
    address = w.component_tile("environment_0")
    w(f"A0 = load_tile({address}, {COMPONENTS}, {spec.channels})")
    w(f"N0_parts = split(A0 * {w.floats('first_product')}, PRECISION)")
    for n in range(1, spec.num_layers):
        address = w.component_tile(f"functional_{n}")
        w(f"N{n}_parts = split(load_tile({address}, {COMPONENTS}, {spec.channels}), PRECISION)")
        w(f"g_s{n} = load_tile({w.edge_tile(f'scalars_{n}')}, E, {spec.channels})")
