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


def spread(builder: Any, vector: VectorType, value: Any) -> Any:
    """A vector all of whose elements are `value`, as LLVM instructions."""
    undefined = ir.Constant(vector.llvm, ir.Undefined)
    single = builder.insert_element(undefined, value, ir.Constant(ir.IntType(32), 0))
    mask = ir.Constant(ir.VectorType(ir.IntType(32), vector.lanes), None)
    return builder.shuffle_vector(single, undefined, mask)


def fused_multiply_add(builder: Any, vector: VectorType, a: Any, b: Any, c: Any) -> Any:
    """a · b + c, rounded once, as LLVM instructions."""
    suffix = f"v{vector.lanes}f{vector.element.bitwidth}"
    kind = ir.FunctionType(vector.llvm, [vector.llvm] * 3)
    function = cgutils.get_or_insert_function(builder.module, kind, f"llvm.fma.{suffix}")
    return builder.call(function, [a, b, c])


def address(
    context: Any, builder: Any, array: types.Array, value: Any, indices: Any, index_types: Any
) -> Any:
    """Pointer to the element at `indices`, without looking at the bounds."""
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
        pointer = address(context, builder, array, args[1], indices, index.types)
        pointer = builder.bitcast(pointer, vector.llvm.as_pointer())
        return builder.load(pointer, align=array.dtype.bitwidth // 8)

    return vector(lanes, array, index), codegen


@intrinsic
def store(typingctx: Any, array: Any, index: Any, value: Any) -> Any:
    """Write a vector to consecutive elements of `array` from the tuple `index` on."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        indices = cgutils.unpack_tuple(builder, args[1], len(index))
        pointer = address(context, builder, array, args[0], indices, index.types)
        pointer = builder.bitcast(pointer, value.llvm.as_pointer())
        builder.store(args[2], pointer, align=array.dtype.bitwidth // 8)
        return context.get_dummy_value()

    return types.void(array, index, value), codegen


@intrinsic(prefer_literal=True)
def splat(typingctx: Any, lanes: Any, scalar: Any) -> Any:
    """A vector of `lanes` (a literal) equal elements."""
    vector = VectorType(scalar, lanes.literal_value)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return spread(builder, vector, args[1])

    return vector(lanes, scalar), codegen


def _elementwise(name: str, description: str) -> Any:
    """An intrinsic of two vectors that is the LLVM instruction `name`."""

    def operation(typingctx: Any, a: Any, b: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            return getattr(builder, name)(*args)

        return a(a, b), codegen

    operation.__doc__ = description
    return intrinsic(operation)


add = _elementwise("fadd", "Elementwise a + b.")
subtract = _elementwise("fsub", "Elementwise a − b.")
multiply = _elementwise("fmul", "Elementwise a · b.")
divide = _elementwise("fdiv", "Elementwise a / b.")


@intrinsic
def larger(typingctx: Any, a: Any, b: Any) -> Any:
    """Elementwise max(a, b); b where one is NaN."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.select(builder.fcmp_ordered(">", *args), *args)

    return a(a, b), codegen


@intrinsic
def smaller(typingctx: Any, a: Any, b: Any) -> Any:
    """Elementwise min(a, b); b where one is NaN."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.select(builder.fcmp_ordered("<", *args), *args)

    return a(a, b), codegen


@intrinsic
def square_root(typingctx: Any, a: Any) -> Any:
    """Elementwise √a, correctly rounded."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        suffix = f"v{a.lanes}f{a.element.bitwidth}"
        kind = ir.FunctionType(a.llvm, [a.llvm])
        name = f"llvm.sqrt.{suffix}"
        return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), args)

    return a(a), codegen


@intrinsic
def multiply_add(typingctx: Any, a: Any, b: Any, c: Any) -> Any:
    """Elementwise a · b + c, rounded once."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return fused_multiply_add(builder, a, *args)

    return a(a, b, c), codegen


@intrinsic(prefer_literal=True)
def component(typingctx: Any, lanes: Any, array: Any, index: Any, which: Any) -> Any:
    """Every fourth of 4 `lanes` consecutive elements of `array` from `index` on.

    `lanes` and `which`, the first of them, are literals. Calls for several components of the same
    elements load them once.
    """
    vector = VectorType(array.dtype, lanes.literal_value)
    whole = VectorType(array.dtype, 4 * lanes.literal_value)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        indices = cgutils.unpack_tuple(builder, args[2], len(index))
        pointer = address(context, builder, array, args[1], indices, index.types)
        pointer = builder.bitcast(pointer, whole.llvm.as_pointer())
        loaded = builder.load(pointer, align=array.dtype.bitwidth // 8)
        places = [which.literal_value + 4 * lane for lane in range(vector.lanes)]
        mask = ir.Constant(ir.VectorType(ir.IntType(32), vector.lanes), places)
        return builder.shuffle_vector(loaded, loaded, mask)

    return vector(lanes, array, index, which), codegen


@intrinsic
def store_rows(typingctx: Any, array: Any, index: Any, x: Any, y: Any, z: Any) -> Any:
    """Write x, y, z and a zero of each lane, lane after lane, from `index` on."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        lanes = x.lanes
        whole = VectorType(x.element, 4 * lanes)
        indices = cgutils.unpack_tuple(builder, args[1], len(index))
        pointer = address(context, builder, array, args[0], indices, index.types)
        double = ir.VectorType(ir.IntType(32), 2 * lanes)
        both = ir.Constant(double, list(range(2 * lanes)))
        left = builder.shuffle_vector(args[2], args[3], both)
        right = builder.shuffle_vector(args[4], ir.Constant(z.llvm, None), both)
        places = [part * lanes + lane for lane in range(lanes) for part in range(4)]
        mask = ir.Constant(ir.VectorType(ir.IntType(32), 4 * lanes), places)
        value = builder.shuffle_vector(left, right, mask)
        pointer = builder.bitcast(pointer, whole.llvm.as_pointer())
        builder.store(value, pointer, align=array.dtype.bitwidth // 8)
        return context.get_dummy_value()

    return types.void(array, index, x, y, z), codegen


@intrinsic
def doubled(typingctx: Any, a: Any) -> Any:
    """The same numbers in double precision."""
    wide = VectorType(types.float64, a.lanes)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return args[0] if a.element == types.float64 else builder.fpext(args[0], wide.llvm)

    return wide(a), codegen


@intrinsic
def store_as(typingctx: Any, array: Any, index: Any, value: Any) -> Any:
    """Write a vector to consecutive elements of `array`, rounded to its type."""
    target = VectorType(array.dtype, value.lanes)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        indices = cgutils.unpack_tuple(builder, args[1], len(index))
        pointer = address(context, builder, array, args[0], indices, index.types)
        same = array.dtype == value.element
        rounded = args[2] if same else builder.fptrunc(args[2], target.llvm)
        pointer = builder.bitcast(pointer, target.llvm.as_pointer())
        builder.store(rounded, pointer, align=array.dtype.bitwidth // 8)
        return context.get_dummy_value()

    return types.void(array, index, value), codegen


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


@intrinsic(prefer_literal=True)
def totals(
    typingctx: Any, count: Any, lanes: Any, source: Any, array: Any, row: Any, adding: Any
) -> Any:
    """Sums of the elements of `count` vectors, written or added to a row of `array`.

    The vectors are the first rows of `source` (count, lanes). Halves of two vectors are added side
    by side, so that all sums together take few more instructions than one alone. `array` (any,
    width) holds them from column 0 on; its width is at least `count` rounded up to whole vectors,
    and what is beyond `count` is unspecified. `adding` is a literal, 1 or 0.
    """
    n, width = count.literal_value, lanes.literal_value
    vector = VectorType(source.dtype, width)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        def place(kind: Any, value: Any, first: Any, second: int) -> Any:
            indices = [first, ir.Constant(context.get_value_type(types.intp), second)]
            index_types = (types.intp, types.intp)
            pointer = address(context, builder, kind, value, indices, index_types)
            return builder.bitcast(pointer, vector.llvm.as_pointer())

        align = source.dtype.bitwidth // 8
        intp = context.get_value_type(types.intp)
        number = context.cast(builder, args[4], row, types.intp)
        for begin in range(0, n, width):
            group = [
                builder.load(place(source, args[2], ir.Constant(intp, k), 0), align=align)
                for k in range(begin, min(begin + width, n))
            ]
            group += [ir.Constant(vector.llvm, None)] * (width - len(group))
            target = place(array, args[3], number, begin)
            sums = _totals(builder, group)
            if adding.literal_value:
                sums = builder.fadd(builder.load(target, align=align), sums)
            builder.store(sums, target, align=align)
        return context.get_dummy_value()

    return types.void(count, lanes, source, array, row, adding), codegen


def _totals(builder: Any, group: list[Any]) -> Any:
    """A vector of the sums of as many vectors as it has elements, as LLVM instructions.

    Before each round a vector holds, for each of the vectors joined in it so far, equally many
    partial sums in a row; neighbours are joined, and their partial sums folded in halves.
    """
    lanes = len(group)
    width = lanes
    while len(group) > 1:
        half = width // 2
        low = [base + k for base in range(0, 2 * lanes, width) for k in range(half)]
        high = [index + half for index in low]
        kind = ir.VectorType(ir.IntType(32), lanes)
        masks = [ir.Constant(kind, mask) for mask in (low, high)]
        group = [
            builder.fadd(*(builder.shuffle_vector(a, b, mask) for mask in masks))
            for a, b in zip(group[::2], group[1::2], strict=True)
        ]
        width = half
    return group[0]
