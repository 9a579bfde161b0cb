"""A vector register as a Numba type, so that inner loops say what the processor shall do.

LLVM cannot prove that two arrays do not overlap, and without that it leaves loops scalar that read
one and add to the other. Vectors of fixed length, loaded and stored by hand, need no proof. The
length is a power of two; LLVM splits what is longer than the machine's registers.
"""

# mypy: disable-error-code="untyped-decorator, misc"
from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, models, register_model

_ELEMENTS = {types.float32: ir.FloatType(), types.float64: ir.DoubleType()}


class VectorType(types.Type):
    """`lanes` numbers of type `element` in one register."""

    def __init__(self, element: types.Float, lanes: int) -> None:
        self.element = element
        self.lanes = lanes
        super().__init__(name=f"Vector({element}, {lanes})")

    @property
    def llvm(self) -> ir.VectorType:
        """The LLVM type."""
        return ir.VectorType(_ELEMENTS[self.element], self.lanes)


@register_model(VectorType)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, manager: Any, vector: VectorType) -> None:
        super().__init__(manager, vector, vector.llvm)


def lanes_for(dtype: str, width: int) -> int:
    """Longest power of two that divides `width`, up to one 64-byte register."""
    lanes = 16 if dtype == "float32" else 8
    while width % lanes:
        lanes //= 2
    return lanes


def _address(
    context: Any, builder: Any, array: types.Array, value: Any, indices: Any, index_types: Any
) -> Any:
    structure = context.make_array(array)(context, builder, value)
    return cgutils.get_item_pointer2(
        context,
        builder,
        structure.data,
        cgutils.unpack_tuple(builder, structure.shape, array.ndim),
        cgutils.unpack_tuple(builder, structure.strides, array.ndim),
        array.layout,
        [
            context.cast(builder, index, source, types.intp)
            for index, source in zip(indices, index_types, strict=True)
        ],
        wraparound=False,
        boundscheck=False,
    )


@intrinsic(prefer_literal=True)
def load(typingctx: Any, lanes: Any, array: Any, index: Any) -> Any:
    """The `lanes` (a literal) consecutive elements of `array` from the tuple `index` on."""
    vector = VectorType(array.dtype, lanes.literal_value)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        indices = cgutils.unpack_tuple(builder, args[2], len(index))
        pointer = _address(context, builder, array, args[1], indices, index.types)
        pointer = builder.bitcast(pointer, vector.llvm.as_pointer())
        return builder.load(pointer, align=array.dtype.bitwidth // 8)

    return vector(lanes, array, index), codegen


@intrinsic
def store(typingctx: Any, array: Any, index: Any, value: Any) -> Any:
    """Write a vector to consecutive elements of `array` from the tuple `index` on."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        indices = cgutils.unpack_tuple(builder, args[1], len(index))
        pointer = _address(context, builder, array, args[0], indices, index.types)
        pointer = builder.bitcast(pointer, value.llvm.as_pointer())
        builder.store(args[2], pointer, align=array.dtype.bitwidth // 8)
        return context.get_dummy_value()

    return types.void(array, index, value), codegen


@intrinsic(prefer_literal=True)
def splat(typingctx: Any, lanes: Any, scalar: Any) -> Any:
    """A vector of `lanes` (a literal) equal elements."""
    vector = VectorType(scalar, lanes.literal_value)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        undefined = ir.Constant(vector.llvm, ir.Undefined)
        zero = ir.Constant(ir.IntType(32), 0)
        single = builder.insert_element(undefined, args[1], zero)
        mask = ir.Constant(ir.VectorType(ir.IntType(32), vector.lanes), None)
        return builder.shuffle_vector(single, undefined, mask)

    return vector(lanes, scalar), codegen


@intrinsic
def multiply(typingctx: Any, a: Any, b: Any) -> Any:
    """Elementwise a · b."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.fmul(*args)

    return a(a, b), codegen


@intrinsic
def multiply_add(typingctx: Any, a: Any, b: Any, c: Any) -> Any:
    """Elementwise a · b + c, rounded once."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        suffix = f"v{a.lanes}f{a.element.bitwidth}"
        kind = ir.FunctionType(a.llvm, [a.llvm] * 3)
        function = cgutils.get_or_insert_function(builder.module, kind, f"llvm.fma.{suffix}")
        return builder.call(function, args)

    return a(a, b, c), codegen


@intrinsic
def total(typingctx: Any, a: Any) -> Any:
    """Sum of a vector's elements, by halves."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        value, lanes = args[0], a.lanes
        while lanes > 1:
            half = lanes // 2
            kind = ir.VectorType(ir.IntType(32), half)
            low = ir.Constant(kind, list(range(half)))
            high = ir.Constant(kind, list(range(half, lanes)))
            value = builder.fadd(
                builder.shuffle_vector(value, value, low),
                builder.shuffle_vector(value, value, high),
            )
            lanes = half
        return builder.extract_element(value, ir.Constant(ir.IntType(32), 0))

    return a.element(a), codegen
