"""One Allegro expert's architecture as plain data, and what of Allegro is supported.

Everything here can be written to JSON and read back; nothing here knows of weights or files.
The names are those of `allegro.model.AllegroModel`.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from ase.data import atomic_numbers
from pydantic import Field

from duetto.errors import InputError
from duetto.settings.read import NO_STRAY_KEYS, read_json

NONLINEARITIES = ("silu", "mish", "gelu", "ssp", "tanh", "sigmoid", "softplus")
"""Every nonlinearity that nequip lists; `None` stands for a linear network."""


@dataclass(frozen=True)
class BesselEmbedding:
    """Radial embedding by Bessel functions under a polynomial cutoff (TwoBodyBesselScalarEmbed)."""

    num_bessels: int
    polynomial_cutoff_p: float
    trainable: bool = False
    kind: Literal["bessel"] = "bessel"

    __pydantic_config__ = NO_STRAY_KEYS


@dataclass(frozen=True)
class SplineEmbedding:
    """Radial embedding by splines, one set per pair of types (TwoBodySplineScalarEmbed)."""

    num_splines: int
    spline_span: int
    kind: Literal["spline"] = "spline"

    __pydantic_config__ = NO_STRAY_KEYS


@dataclass(frozen=True)
class MLPShape:
    """A multilayer perceptron without biases: `depth` hidden layers of `width`.

    A linear network, whatever its depth in the original model, has depth 0.
    """

    depth: int
    width: int
    nonlinearity: str | None

    __pydantic_config__ = NO_STRAY_KEYS


@dataclass(frozen=True)
class ZBLTerm:
    """Screened nuclear repulsion added to the energy (nequip.nn.pair_potential.ZBL)."""

    polynomial_cutoff_p: float

    __pydantic_config__ = NO_STRAY_KEYS


@dataclass(frozen=True)
class AllegroArchitecture:
    """The hyperparameters of one Allegro expert.

    Attributes:
        type_names: chemical symbols in the order of the model's types, T of them.
        r_max: largest cutoff radius, Å.
        cutoffs: (T, T) cutoff per centre and neighbour type, Å.
        l_max: highest degree of the spherical harmonics, 1 to 3.
        parity: whether the tensor track holds both parities of each degree.
        num_layers: Allegro layers, 1 to 3.
        num_scalar_features: width S of the scalar track.
        num_tensor_features: channels U of the tensor track.
        embedding: radial embedding.
        embedding_dim: width of the two-body radial-chemical embedding.
        two_body, latent, readout: shapes of the three kinds of MLP.
        tp_path_channel_coupling: whether tensor-product weights differ by channel.
        weight_individual_irreps: whether environment weights differ by degree.
        avg_num_neighbors: (T,) normalisation of environment sums, per centre type.
        zbl: the ZBL term, or None.
    """

    type_names: tuple[str, ...]
    r_max: float
    cutoffs: tuple[tuple[float, ...], ...]
    l_max: int
    parity: bool
    num_layers: int
    num_scalar_features: int
    num_tensor_features: int
    embedding: Annotated[BesselEmbedding | SplineEmbedding, Field(discriminator="kind")]
    embedding_dim: int
    two_body: MLPShape
    latent: MLPShape
    readout: MLPShape
    tp_path_channel_coupling: bool
    weight_individual_irreps: bool
    avg_num_neighbors: tuple[float, ...]
    zbl: ZBLTerm | None = None

    __pydantic_config__ = NO_STRAY_KEYS

    def __post_init__(self) -> None:
        """Refuse by name what Duetto does not evaluate."""
        check_supported(self)

    @property
    def num_types(self) -> int:
        """Number of types, T."""
        return len(self.type_names)

    def to_json(self) -> dict[str, Any]:
        """Return plain lists, numbers and strings."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> AllegroArchitecture:
        """Inverse of `to_json`.

        Raises:
            InputError: a field is missing, unknown, of the wrong type or unsupported.
        """
        return read_json(cls, data, "architecture")


def check_supported(architecture: AllegroArchitecture) -> None:
    """Raise InputError naming the hyperparameter that is outside what Duetto evaluates."""
    a = architecture
    types = a.num_types
    _require(types >= 1, "type_names", a.type_names, "at least one chemical symbol")
    _require(len(set(a.type_names)) == types, "type_names", a.type_names, "distinct symbols")
    for name in a.type_names:
        known = isinstance(name, str) and atomic_numbers.get(name, 0) > 0
        _require(known, "type_names", name, "chemical symbols")
    _require_number("r_max", a.r_max, 0.0, 100.0)
    shape_ok = len(a.cutoffs) == types and all(len(row) == types for row in a.cutoffs)
    _require(shape_ok, "cutoffs", a.cutoffs, f"{types} rows of {types} numbers")
    for row in a.cutoffs:
        for cutoff in row:
            _require_number("per_edge_type_cutoff", cutoff, 0.0, a.r_max)
    _require_integer("l_max", a.l_max, 1, 3)
    _require_integer("num_layers", a.num_layers, 1, 3)
    _require_integer("num_scalar_features", a.num_scalar_features, 1, 4096)
    _require_integer("num_tensor_features", a.num_tensor_features, 1, 4096)
    _require_integer("radial_chemical_embed_dim", a.embedding_dim, 1, 4096)
    if isinstance(a.embedding, BesselEmbedding):
        even = a.embedding_dim % 2 == 0
        _require(even, "radial_chemical_embed_dim", a.embedding_dim, "an even number")
    flags = ("parity", "tp_path_channel_coupling", "weight_individual_irreps")
    for flag in flags:
        value = getattr(a, flag)
        _require(isinstance(value, bool), flag, value, "true or false")
    _check_embedding(a.embedding)
    for key in ("two_body", "latent", "readout"):
        _check_mlp(key, getattr(a, key))
    count_ok = len(a.avg_num_neighbors) == types
    _require(count_ok, "avg_num_neighbors", a.avg_num_neighbors, f"{types} numbers")
    for number in a.avg_num_neighbors:
        _require_number("avg_num_neighbors", number, 0.0, 1e6)
    if a.zbl is not None:
        _require_number("zbl.polynomial_cutoff_p", a.zbl.polynomial_cutoff_p, 1.99, 100.0)


def _check_embedding(embedding: BesselEmbedding | SplineEmbedding) -> None:
    if isinstance(embedding, BesselEmbedding):
        _require_integer("num_bessels", embedding.num_bessels, 1, 256)
        _require_number("polynomial_cutoff_p", embedding.polynomial_cutoff_p, 1.99, 100.0)
    else:
        _require_integer("num_splines", embedding.num_splines, 1, 1024)
        _require_integer("spline_span", embedding.spline_span, 0, embedding.num_splines)


def _check_mlp(key: str, shape: MLPShape) -> None:
    _require_integer(f"{key}.hidden_layers_depth", shape.depth, 0, 2)
    _require_integer(f"{key}.hidden_layers_width", shape.width, 0, 4096)
    if shape.depth > 0:
        allowed = ", ".join(NONLINEARITIES)
        known = shape.nonlinearity in NONLINEARITIES
        _require(known, f"{key}.nonlinearity", shape.nonlinearity, f"one of {allowed}")


def _require(condition: bool, key: str, given: object, allowed: str) -> None:
    if not condition:
        raise InputError(f"Allegro hyperparameter {key}: {given!r} is not supported; use {allowed}")


def _require_integer(key: str, given: object, low: int, high: int) -> None:
    valid = isinstance(given, int) and not isinstance(given, bool) and low <= given <= high
    _require(valid, key, given, f"an integer from {low} to {high}")


def _require_number(key: str, given: object, above: float, high: float) -> None:
    valid = isinstance(given, (int, float)) and not isinstance(given, bool)
    valid = valid and above < float(given) <= high  # type: ignore[arg-type]
    _require(valid, key, given, f"a number above {above:g} and at most {high:g}")
