"""Blocks of the kernels that contract Wigner 3j symbols, every centre and channel apart.

With M_t(A)[i, k] = Σ_n w[path_n] c_n A[j_n] over the terms n of layer t that have i_n = i and
k_n = k, and Q_{n+1} the unit row vector of the scalar component,

    Q_t = M_t(A_t) Q_{t+1},    N_n = Q_0 = e · M_n(A_n) ··· M_0(A_0)

Vectors over the channels of all centres of a program, one after the other, are named A{t}_{j},
Q{t}_{i}; their gradients carry a prefix g_. They come from the stash and go there: elsewhere the
components of the centres are rows of tiles.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable

from duetto.kernels.triton.expert_spec import SLOTS, Term
from duetto.kernels.triton.expert_writer import Writer

Factors = Callable[[Term], str]


def functional(w: Writer, n: int) -> None:
    """N_n = e · M_n(A_n) ··· M_0(A_0) for n ≥ 1, from the stash to the stash."""
    w.equation(f"N_{n} = e · " + " ".join(f"M_{t}(A_{t})" for t in range(n, -1, -1)))
    _load_path_weights(w, n)
    for t in range(n + 1):
        _load_vectors(w, f"A{t}", f"environment_{t}")
    for t in range(n, -1, -1):
        _apply(w, n, t)
    _store_vectors(w, "Q0", f"functional_{n}")


def functional_adjoint(w: Writer, n: int) -> None:
    """Gradients of A_0 … A_n from that of N_n, n ≥ 1, which lies in the stash.

    Leaves there the part of the gradient of A_t that comes through N_n, pull_t_n.
    """
    w.equation(f"∂E/∂A_0 … ∂E/∂A_{n} through N_{n}")
    _load_path_weights(w, n)
    for t in range(n + 1):
        _load_vectors(w, f"A{t}", f"environment_{t}")
    _load_vectors(w, "g_Q0", f"cotangent_{n}")
    for t in range(n, 0, -1):
        _apply(w, n, t)
    for t in range(n + 1):
        _apply_adjoint(w, n, t)
        _store_vectors(w, f"g_A{t}", f"pull_{t}_{n}")


def _load_path_weights(w: Writer, n: int) -> None:
    w(f"channel = tl.arange(0, {SLOTS * w.spec.channels}) % {w.spec.channels}")
    for t in range(n + 1):
        for path in sorted({term[3] for term in _terms(w, n, t)}):
            first = f"{w.offset(f'path_{t}')} + {path * w.spec.channels}"
            w(f"w{t}_{path} = tl.load(table + {first} + channel)")


def _load_vectors(w: Writer, name: str, tile: str) -> None:
    for d in range(w.spec.num_components):
        w(f"{name}_{d} = load_component({w.component_row(tile, d)}, {SLOTS})")


def _store_vectors(w: Writer, name: str, tile: str) -> None:
    for d in range(w.spec.num_components):
        w(f"store_component({w.component_row(tile, d)}, {SLOTS}, {name}_{d})")


def _terms(w: Writer, n: int, t: int) -> tuple[Term, ...]:
    """Terms of layer t that N_n reads: of the last product only the scalar row."""
    terms = w.spec.products[t].terms
    return tuple(term for term in terms if term[2] == 0) if t == n else terms


def _apply(w: Writer, n: int, t: int) -> None:
    """Q_t = M_t(A_t) Q_{t+1}."""

    def factors(term: Term) -> str:
        _, j, k, _, _ = term
        return f"A{t}_{j}" if t == n else f"(A{t}_{j} * Q{t + 1}_{k})"

    for i in range(w.spec.products[t].dim_in):
        _sum(w, f"Q{t}_{i}", t, (term for term in _terms(w, n, t) if term[0] == i), factors)


def _apply_adjoint(w: Writer, n: int, t: int) -> None:
    """Gradients of A_t and Q_{t+1} from that of Q_t."""
    terms = _terms(w, n, t)

    def environment_factors(term: Term) -> str:
        i, _, k, _, _ = term
        return f"g_Q{t}_{i}" if t == n else f"(Q{t + 1}_{k} * g_Q{t}_{i})"

    def functional_factors(term: Term) -> str:
        i, j, _, _, _ = term
        return f"(A{t}_{j} * g_Q{t}_{i})"

    for j in range(w.spec.num_components):
        selected = (term for term in terms if term[1] == j)
        _sum(w, f"g_A{t}_{j}", t, selected, environment_factors)
    if t < n:
        for k in range(w.spec.products[t + 1].dim_in):
            selected = (term for term in terms if term[2] == k)
            _sum(w, f"g_Q{t + 1}_{k}", t, selected, functional_factors)


def _sum(w: Writer, name: str, t: int, terms: Iterable[Term], factors: Factors) -> None:
    """name = Σ_path w[path] Σ_n c_n · factors, one line per path."""
    by_path: dict[int, list[Term]] = defaultdict(list)
    for term in terms:
        by_path[term[3]].append(term)
    for index, (path, group) in enumerate(by_path.items()):
        inner = " + ".join(f"{term[4]!r} * {factors(term)}" for term in group)
        w(f"{name} {'=' if index == 0 else '+='} w{t}_{path} * ({inner})")
    if not by_path:
        w(f"{name} = tl.zeros([{SLOTS * w.spec.channels}], tl.float32)")
