"""Spherical harmonics and their slopes in compiled functions, written from the table.

For numbers and for vectors (`duetto.kernels.cpu.vector`) alike.
"""

# mypy: disable-error-code="untyped-decorator, misc"
from __future__ import annotations

from math import gcd
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from duetto.kernels.cpu.vector import VectorType, address, fused_multiply_add
from duetto.kernels.harmonics import HARMONICS, Powers, slope


class _Algebra:
    """Polynomials of x, y, z as LLVM instructions; equal products are written once."""

    def __init__(self, context: Any, builder: Any, kind: Any, coordinates: Any) -> None:
        """Take the coordinates, LLVM values of Numba's type `kind`."""
        self.builder, self.kind = builder, kind
        self.llvm = context.get_value_type(kind)
        self._known: dict[Powers, Any] = {
            (1, 0, 0): coordinates[0],
            (0, 1, 0): coordinates[1],
            (0, 0, 1): coordinates[2],
        }

    def constant(self, value: float) -> Any:
        """The same number in every lane."""
        lanes = self.kind.lanes if isinstance(self.kind, VectorType) else None
        return ir.Constant(self.llvm, value if lanes is None else [value] * lanes)

    def plus_product(self, total: Any, a: Any, b: Any) -> Any:
        """`total` + a · b, or the product alone where there is no total yet."""
        if total is None:
            return self.builder.fmul(a, b)
        if isinstance(self.kind, VectorType):
            return fused_multiply_add(self.builder, self.kind, a, b, total)
        return self.builder.fadd(self.builder.fmul(a, b), total)

    def monomial(self, powers: Powers) -> Any:
        """x^a y^b z^c, not all of them zero."""
        if powers not in self._known:
            axis = next(k for k in range(3) if powers[k])
            a, b, c = (p - (k == axis) for k, p in enumerate(powers))
            single = (int(axis == 0), int(axis == 1), int(axis == 2))
            self._known[powers] = self.builder.fmul(self.monomial(single), self.monomial((a, b, c)))
        return self._known[powers]

    def polynomial(self, terms: dict[Powers, int]) -> Any:
        """Σ coefficient · monomial; None stands for 1."""
        common = tuple(min(powers[k] for powers in terms) for k in range(3))
        total = None
        for powers, coefficient in sorted(terms.items(), key=lambda term: -term[1]):
            a, b, c = (p - q for p, q in zip(powers, common, strict=True))
            total = self._plus(total, coefficient, (a, b, c))
        if not any(common):
            return total
        outside = self.monomial((common[0], common[1], common[2]))
        return outside if total is None else self.builder.fmul(outside, total)

    def _plus(self, total: Any, coefficient: int, powers: Powers) -> Any:
        if not any(powers):  # of a single term, whose coefficient its user takes care of
            return None
        value = self.monomial(powers)
        if total is None and coefficient == 1:
            return value
        if coefficient in (1, -1) and total is not None:
            return (self.builder.fadd if coefficient == 1 else self.builder.fsub)(total, value)
        return self.plus_product(total, self.constant(float(coefficient)), value)


def _reduced(terms: dict[Powers, int]) -> tuple[int, dict[Powers, int]]:
    """A factor in front, and what it multiplies, whose largest coefficient is positive."""
    factor = gcd(*terms.values())
    if max(terms.values()) < 0:
        factor = -factor
    return factor, {powers: coefficient // factor for powers, coefficient in terms.items()}


def _place(
    context: Any, builder: Any, array: Any, value: Any, index: Any, given: Any, d: int
) -> Any:
    """Pointer to component d, along the second axis."""
    indices, kinds = cgutils.unpack_tuple(builder, given, len(index)), list(index.types)
    indices[1], kinds[1] = ir.Constant(context.get_value_type(types.intp), d), types.intp
    return address(context, builder, array, value, indices, kinds)


@intrinsic(prefer_literal=True)
def write_harmonics(
    typingctx: Any, l_max: Any, array: Any, index: Any, x: Any, y: Any, z: Any
) -> Any:
    """Write Y_lm up to `l_max` (a literal) along the second axis of `array`.

    At `index`, (e, 0) for numbers and (k, 0, 0) for vectors, for the unit vector x, y, z.
    """
    components = (l_max.literal_value + 1) ** 2

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        algebra = _Algebra(context, builder, x, args[3:])
        for d, (scale, terms) in enumerate(HARMONICS[:components]):
            factor, rest = _reduced(terms)
            value, number = algebra.polynomial(rest), algebra.constant(scale * factor)
            value = number if value is None else builder.fmul(number, value)
            pointer = _place(context, builder, array, args[1], index, args[2], d)
            pointer = builder.bitcast(pointer, algebra.llvm.as_pointer())
            builder.store(value, pointer, align=array.dtype.bitwidth // 8)
        return context.get_dummy_value()

    return types.void(l_max, array, index, x, y, z), codegen


@intrinsic(prefer_literal=True)
def harmonics_slope(
    typingctx: Any, l_max: Any, array: Any, index: Any, x: Any, y: Any, z: Any
) -> Any:
    """Σ_lm g_lm ∂Y_lm/∂(x, y, z), the coordinates taken as free: a tuple of three.

    The g_lm stand in `array` as `write_harmonics` writes Y_lm.
    """
    components = (l_max.literal_value + 1) ** 2

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        algebra = _Algebra(context, builder, x, args[3:])
        sums: list[Any] = [None, None, None]
        for d, (scale, terms) in enumerate(HARMONICS[:components]):
            if d == 0:
                continue
            pointer = _place(context, builder, array, args[1], index, args[2], d)
            pointer = builder.bitcast(pointer, algebra.llvm.as_pointer())
            loaded = builder.load(pointer, align=array.dtype.bitwidth // 8)
            scaled: dict[int, Any] = {}
            for axis in range(3):
                partial = slope(terms, axis)
                if not partial:
                    continue
                factor, rest = _reduced(partial)
                if factor not in scaled:
                    scaled[factor] = builder.fmul(algebra.constant(scale * factor), loaded)
                value = algebra.polynomial(rest)
                if value is not None:
                    sums[axis] = algebra.plus_product(sums[axis], value, scaled[factor])
                else:  # of degree 1: a number
                    assert sums[axis] is None
                    sums[axis] = scaled[factor]
        zero = algebra.constant(0.0)
        found = [zero if total is None else total for total in sums]
        return context.make_tuple(builder, signature.return_type, found)

    return types.UniTuple(x, 3)(l_max, array, index, x, y, z), codegen
