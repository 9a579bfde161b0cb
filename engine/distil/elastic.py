"""Lattice constant and elastic constants of a cubic crystal: HF's, and as constraints of a fit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from ase.build import bulk
from numpy.typing import NDArray
from torch import Tensor

from duetto.distil.equations import Constraints
from duetto.distil.rows import empty_expert, num_unknowns
from duetto.distil.settings import Crystal
from duetto.errors import InputError
from duetto.experts.base import Expert
from duetto.experts.linear.basis import basis_of, product_values
from duetto.experts.linear.description import LinearDescription
from duetto.experts.pair import ExpertPair
from duetto.kernels.linear import atomic_energies, edge_moments
from duetto.potential.mixture import Potential
from duetto.potential.neighbors import NeighborList

Array = NDArray[np.float64]
GPA = 160.21766208
"""GPa per eV/Å³."""

_WINDOWS = (0.01, 0.02, 0.04, 0.1)
"""Of lattice constants around the guess, relative."""

_STRAIN = 2e-3
"""Of the central differences of the stress; with Richardson's extrapolation their error is of the
order of strain⁴, 1e-11 of a constant."""


@dataclass(frozen=True)
class Elasticity:
    """A cubic crystal at zero pressure.

    Attributes:
        a: lattice constant, Å.
        energy: eV per atom.
        C11, C12, C44: GPa.
    """

    a: float
    energy: float
    C11: float
    C12: float
    C44: float

    @property
    def B(self) -> float:
        """Bulk modulus, GPa."""
        return (self.C11 + 2.0 * self.C12) / 3.0


def elasticity(expert: Expert, crystal: Crystal) -> Elasticity:
    """Of an expert, from its energy and virial of one atom per cell, in float64.

    Raises:
        InputError: no lattice constant with zero pressure is near the guess, or the crystal is
            not stable there.
    """
    evaluate = _cell_evaluator(expert, crystal)

    def pressure(a: float) -> float:
        return float(np.trace(evaluate(a, np.zeros((3, 3)))[1]))

    a = _root(pressure, *_bracket(pressure, crystal))
    volume = np.linalg.det(_primitive(crystal, a))

    def slope(strain: Array) -> Array:
        """dσ/dε along a strain, GPa."""

        def difference(h: float) -> Array:
            ends = [_stress(evaluate, a, volume, sign * h * strain) for sign in (1.0, -1.0)]
            return (ends[0] - ends[1]) / (2.0 * h)

        return GPA * (4.0 * difference(_STRAIN / 2) - difference(_STRAIN)) / 3.0

    along = slope(np.diag([1.0, 0.0, 0.0]))
    shear = slope(np.array([[0.0, 0.0, 0.0], [0.0, 0.0, 0.5], [0.0, 0.5, 0.0]]))
    energy = evaluate(a, np.zeros((3, 3)))[0]
    if not (along[0, 0] > abs(along[1, 1]) and shear[1, 2] > 0.0):
        raise InputError(
            f"distil.crystal: {crystal.lattice} {crystal.symbol} is not stable at {a:.3f} Å, "
            f"where its pressure is zero: C11 = {along[0, 0]:.0f}, C12 = {along[1, 1]:.0f}, "
            f"C44 = {shear[1, 2]:.0f} GPa; give a better guess of a, or leave crystal out"
        )
    return Elasticity(a, energy, float(along[0, 0]), float(along[1, 1]), float(shear[1, 2]))


def _bracket(pressure: Callable[[float], float], crystal: Crystal) -> tuple[float, float]:
    """The narrowest window around the guess whose ends are pressed and pulled.

    A fit that was never shown a crystal strained by tenths may have other zeros far away.
    """
    for width in _WINDOWS:
        low, high = (1.0 - width) * crystal.a, (1.0 + width) * crystal.a
        if pressure(low) * pressure(high) < 0:
            return low, high
    raise InputError(
        f"distil.crystal.a: no lattice constant between {low:.3f} and {high:.3f} Å at which "
        f"the pressure of {crystal.lattice} {crystal.symbol} is zero; give a better guess"
    )


def _root(function: Callable[[float], float], low: float, high: float) -> float:
    """Zero between two points of opposite sign, by false position with halved ends (Illinois)."""
    f_low, f_high = function(low), function(high)
    for _ in range(100):
        middle = (low * f_high - high * f_low) / (f_high - f_low)
        value = function(middle)
        if value * f_high < 0:
            low, f_low = high, f_high
        else:
            f_low /= 2.0
        high, f_high = middle, value
        if abs(high - low) < 1e-11 or abs(value) < 1e-13:
            break
    return high


def _primitive(crystal: Crystal, a: float) -> Array:
    cell: Array = bulk(crystal.symbol, crystal.lattice, a=a).cell.array
    return cell


def _stress(
    evaluate: Callable[[float, Array], tuple[float, Array]], a: float, volume: float, strain: Array
) -> Array:
    deformed = volume * np.linalg.det(np.eye(3) + strain)
    stress: Array = -evaluate(a, strain)[1] / deformed
    return stress


def _cell_evaluator(
    expert: Expert, crystal: Crystal
) -> Callable[[float, Array], tuple[float, Array]]:
    """Energy and virial of the primitive cell by lattice constant and strain."""
    pair = ExpertPair(expert, None)
    potential = Potential(pair, [crystal.symbol], np.ones(1), (True,) * 3, dtype="float64", skin=0)
    origin = torch.zeros(1, 3, dtype=torch.float64)

    def evaluate(a: float, strain: Array) -> tuple[float, Array]:
        cell = _primitive(crystal, a) @ (np.eye(3) + strain)
        found = potential.evaluate(origin, torch.from_numpy(cell))
        return found.energy, found.virial.numpy()

    return evaluate


def constraints_of(
    description: LinearDescription, crystal: Crystal, target: Elasticity
) -> Constraints:
    """Energy, zero pressure and elastic constants at the target's lattice constant.

    They are second derivatives of the energy by strain, and so linear in the coefficients; at zero
    pressure there is but one kind of elastic constants.
    """
    t = description.species.index(crystal.symbol)
    rows, rest = _strain_derivatives(description, crystal, target.a, t)
    volume = abs(float(np.linalg.det(_primitive(crystal, target.a)))) / GPA
    wanted = (
        ("energy", target.energy),
        ("lattice constant", 0.0),
        ("C11", target.C11 * volume),
        ("C12", target.C12 * volume),
        ("C44", target.C44 * volume),
    )
    K = basis_of(description).size
    G = torch.zeros(len(wanted), num_unknowns(description), dtype=torch.float64)
    G[:, t * (K + 1) : t * (K + 1) + K] = rows
    G[0, t * (K + 1) + K] = 1.0
    g = torch.tensor([value for _, value in wanted], dtype=torch.float64) - rest
    return Constraints(tuple(name for name, _ in wanted), G, g)


def _strain_derivatives(
    description: LinearDescription, crystal: Crystal, a: float, t: int
) -> tuple[Tensor, Tensor]:
    """Of every product (5, K), and of the wall (5,): value, slope by volume, C11, C12, C44."""
    cell = _primitive(crystal, a)
    lists = NeighborList(np.full(1, description.cutoffs[t][t]), np.ones(3, dtype=bool), 0.5)
    lists.rebuild(torch.zeros(1, 3, dtype=torch.float64), torch.from_numpy(cell))
    edges = torch.from_numpy(lists.shift.astype(np.float64) @ cell)
    form, basis = empty_expert(description).form(), basis_of(description)
    zero = torch.zeros(len(edges), dtype=torch.int64)
    types = torch.full((1,), t)

    def energies(e: Tensor) -> Tensor:
        """Products and wall of the atom, by ε_xx, ε_yy, ε_zz and γ_yz; cut off by the envelope."""
        half = 0.5 * e[3]
        none = torch.zeros_like(half)
        strain = torch.stack([e[0], none, none, none, e[1], half, none, half, e[2]]).view(3, 3)
        v = edges @ (torch.eye(3, dtype=torch.float64) + strain)
        moments = edge_moments(form, v, types[zero], types[zero]).sum(dim=0, keepdim=True)
        wall = atomic_energies(form, v, zero, types, types[zero])
        return torch.cat([product_values(basis, moments)[0], wall])

    none = torch.zeros(4, dtype=torch.float64)
    first = torch.func.jacfwd(energies)(none)
    second = torch.func.jacfwd(torch.func.jacfwd(energies))(none)
    trace = first[:, 0] + first[:, 1] + first[:, 2]
    picked = (energies(none), trace, second[:, 0, 0], second[:, 0, 1], second[:, 3, 3])
    rows = torch.stack(picked)
    return rows[:, :-1], rows[:, -1]
