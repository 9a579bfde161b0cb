"""What the source of an expert's kernels depends on: its structure, none of its weights."""

from __future__ import annotations

import functools
import json
from dataclasses import asdict, dataclass

from torch import Tensor

from duetto.kernels.folded import Contraction, FoldedExpert
from duetto.kernels.radial import BesselBasis

COMPONENTS = 16
"""Rows of every tile over components lm of the centres of a program, see `Slab`."""

SLOTS = 4
"""Places for centres in the list of a program's centres: at least as many as it can have."""

MAX_WIDTH = 128
"""Widest hidden vector or channel count that a tile may have."""

MAX_RADIAL = 64
"""Most radial functions."""

_VANISHING = ("linear", "silu", "mish", "gelu", "ssp", "tanh")
"""Nonlinearities with φ(0) = 0: edges at the cutoff contribute exactly nothing."""

_NONLINEARITIES = (*_VANISHING, "sigmoid", "softplus")

Term = tuple[int, int, int, int, float]


@dataclass(frozen=True)
class ProductSpec:
    """One layer's tensor product: terms (i, j, k, path, coefficient) as in `Contraction`."""

    dim_in: int
    num_paths: int
    terms: tuple[Term, ...]


@dataclass(frozen=True)
class Slab:
    """Components of some degrees of all centres of a program, in one tile of COMPONENTS rows.

    Row centre · size + lm − first holds component lm of a centre. Degrees are spread over slabs
    so that several centres have room: a product with a slab costs the same for all of them as for
    one.

    Attributes:
        index: 0, 1, …
        degrees: those that it holds, one after the other.
    """

    index: int
    degrees: tuple[int, ...]

    @property
    def first(self) -> int:
        """First component lm."""
        return self.degrees[0] ** 2

    @property
    def size(self) -> int:
        """Number of components of each centre."""
        return (self.degrees[-1] + 1) ** 2 - self.first


_SLABS = (Slab(0, (0, 1)), Slab(1, (2,)), Slab(2, (3,)))


@dataclass(frozen=True)
class KernelSpec:
    """Structure of one expert as its kernels see it. Widths are padded, see `padded_width`.

    Attributes:
        num_types: T.
        l_max: highest degree.
        num_radial: radial functions, B.
        cutoff_p: exponent of the Bessel basis's cutoff; None for splines.
        spline_span: span of the splines; None for Bessel functions.
        hidden_widths: widths of h_0 … h_L.
        readout_width: width of the readout's hidden vector.
        channels: U.
        two_body_activation, latent_activation, readout_activation: names; "linear" for φ(x) = x.
        products: L tensor products.
        zbl_p: exponent of the ZBL term's cutoff, or None.
    """

    num_types: int
    l_max: int
    num_radial: int
    cutoff_p: float | None
    spline_span: int | None
    hidden_widths: tuple[int, ...]
    readout_width: int
    channels: int
    two_body_activation: str
    latent_activation: str
    readout_activation: str
    products: tuple[ProductSpec, ...]
    zbl_p: float | None

    @property
    def num_layers(self) -> int:
        """Number of Allegro layers, L."""
        return len(self.products)

    @property
    def num_components(self) -> int:
        """Components lm of the harmonics, D."""
        return (self.l_max + 1) ** 2

    @property
    def degrees(self) -> range:
        """The degrees l, from 0 to l_max."""
        return range(self.l_max + 1)

    @property
    def slabs(self) -> tuple[Slab, ...]:
        """The slabs that hold all components."""
        return _SLABS[: self.l_max]

    @property
    def centres(self) -> int:
        """Most centres of a program: as many as every slab has room for; 4, 3, 2 for l_max."""
        return min(COMPONENTS // slab.size for slab in self.slabs)

    def slab_of(self, degree: int) -> Slab:
        """The slab that holds a degree."""
        return next(slab for slab in self.slabs if degree in slab.degrees)

    @property
    def basis_columns(self) -> int:
        """Columns of the basis tile: the radial functions, as often as there is room for them."""
        return padded_width(self.num_radial)

    @property
    def types_per_tile(self) -> int:
        """How many neighbour types the columns of the basis tile stand for at once."""
        return min(self.basis_columns // self.num_radial, self.num_types)

    @property
    def num_type_groups(self) -> int:
        """Into how many groups the neighbour types fall, one after the other on the same tile."""
        return -(-self.num_types // self.types_per_tile)

    @property
    def vanishes(self) -> bool:
        """Whether an edge at the cutoff contributes exactly nothing, so that padding need not."""
        names = (self.two_body_activation, self.latent_activation, self.readout_activation)
        return all(name in _VANISHING for name in names)

    def to_json(self) -> str:
        """Text from which `from_json` makes an equal spec; the same on every machine."""
        return json.dumps(asdict(self), sort_keys=True, separators=(",", ":"))

    @classmethod
    @functools.lru_cache(maxsize=64)
    def from_json(cls, text: str) -> KernelSpec:
        """Inverse of `to_json`."""
        fields = json.loads(text)
        fields["hidden_widths"] = tuple(fields["hidden_widths"])
        fields["products"] = tuple(
            ProductSpec(
                p["dim_in"],
                p["num_paths"],
                tuple((i, j, k, path, value) for i, j, k, path, value in p["terms"]),
            )
            for p in fields["products"]
        )
        return cls(**fields)


def padded_width(width: int) -> int:
    """Smallest power of two that is at least 16 and at least `width`.

    Zero rows and columns fill the difference. That is exact for every nonlinearity: the networks
    have no biases and the matrix that reads a padded column has zeros there.
    """
    return max(16, 1 << (width - 1).bit_length())


def unsupported_reason(expert: FoldedExpert) -> str | None:
    """Why the kernels cannot evaluate an expert, as a phrase for the log; None if they can."""
    widths = [expert.PV.shape[0], *[tensor.shape[1] for tensor in expert.Ws]]
    widths += [expert.ro.numel(), expert.num_channels]
    names = (expert.two_body_activation, expert.latent_activation, expert.readout_activation)
    if not 1 <= expert.l_max <= 3:
        return f"l_max {expert.l_max} is outside 1 to 3"
    if not 1 <= expert.num_layers <= 3:
        return f"{expert.num_layers} layers are outside 1 to 3"
    if expert.radial.size > MAX_RADIAL:
        return f"{expert.radial.size} radial functions are more than {MAX_RADIAL}"
    if expert.two_body_inner or any(expert.latent_inner) or expert.readout_inner:
        return "a network has more than one hidden layer"
    if max(widths) > MAX_WIDTH:
        return f"a layer is {max(widths)} wide, above {MAX_WIDTH}"
    for name in names:
        if (name or "linear") not in _NONLINEARITIES:
            return f"nonlinearity {name} has no kernel"
    first = expert.contractions[0]
    scalar = first.k == 0
    if not bool((first.i[scalar] == first.j[scalar]).all()):
        return "the first tensor product mixes components in its scalar row"
    return None


def kernel_spec(expert: FoldedExpert) -> KernelSpec:
    """Structure of an expert's kernels.

    Raises:
        ValueError: the kernels cannot evaluate this expert.
    """
    reason = unsupported_reason(expert)
    if reason is not None:
        raise ValueError(f"the fused kernels cannot evaluate this expert: {reason}")
    radial = expert.radial
    widths = [expert.PV.shape[0], *[tensor.shape[1] for tensor in expert.Ws]]
    return KernelSpec(
        num_types=expert.num_types,
        l_max=expert.l_max,
        num_radial=radial.size,
        cutoff_p=float(radial.p) if isinstance(radial, BesselBasis) else None,
        spline_span=None if isinstance(radial, BesselBasis) else radial.spline_span,
        hidden_widths=tuple(padded_width(width) for width in widths),
        readout_width=padded_width(expert.ro.numel()),
        channels=padded_width(expert.num_channels),
        two_body_activation=expert.two_body_activation or "linear",
        latent_activation=expert.latent_activation or "linear",
        readout_activation=expert.readout_activation or "linear",
        products=tuple(_product_spec(contraction) for contraction in expert.contractions),
        zbl_p=None if expert.zbl is None else float(expert.zbl.p),
    )


def _product_spec(contraction: Contraction) -> ProductSpec:
    def integers(tensor: Tensor) -> list[int]:
        return [int(value) for value in tensor.tolist()]

    terms = zip(
        integers(contraction.i),
        integers(contraction.j),
        integers(contraction.k),
        integers(contraction.path),
        [float(value) for value in contraction.coefficient.double().tolist()],
        strict=True,
    )
    return ProductSpec(contraction.dim_in, contraction.weights.shape[0], tuple(terms))
