"""Device functions that the generated expert kernels call: matrix products, bases, nonlinearities.

Matrix products work on the parts of tiles, `(high, middle, low)`, made by `split` or
`weight_tile`. What the parts are depends on the precision, so that the generated source does not:

    IEEE      the float32 tile; one product in full float32, for the interpreter: compiled, it
              keeps the tensor cores idle and spills
    BF16X3    x ≈ high + middle in bfloat16 and a b ≈ Σ a_p b_q over the three p + q ≤ 1, summed
              in float32, with a relative error of about 2⁻¹⁶
    BF16X6    x = high + middle + low, which holds a float32 whole, and the six p + q ≤ 2, with
              an error like that of float32 arithmetic
    … | HELD  the same numbers held in float32, for the interpreter, whose own bfloat16 products
              are wrong

TF32 is not among them: Triton hands raw float32 bits to the tensor core, which truncates them.

FAST takes the approximate instructions of the chip (relative errors near 2⁻²²); without it the
functions are plain arithmetic that the interpreter understands. The approximate reciprocal and
exponential are marked impure on purpose: Triton would otherwise evaluate them anew for every
layout in which their result is needed.
"""

# mypy: disallow-untyped-defs=False, disallow-incomplete-defs=False

import triton
import triton.language as tl

IEEE = 0
BF16X3 = 3
BF16X6 = 6
HELD = 16

# The constants again, as Triton wants those that functions see.
_IEEE = tl.constexpr(IEEE)
_X3 = tl.constexpr(BF16X3)
_X6 = tl.constexpr(BF16X6)
_HELD = tl.constexpr(HELD)

_SPLIT_IN_TWO = tl.constexpr(
    "{ .reg .b32 h, t, u; .reg .f32 a, b;"
    " cvt.rn.bf16x2.f32 h, $3, $2;"
    " shl.b32 t, h, 16; and.b32 u, h, 0xffff0000;"
    " mov.b32 a, t; mov.b32 b, u; sub.f32 a, $2, a; sub.f32 b, $3, b;"
    " cvt.rn.bf16x2.f32 $1, b, a; mov.b32 $0, h; }"
)
_SPLIT_IN_THREE = tl.constexpr(
    "{ .reg .b32 h, m, t, u; .reg .f32 a, b, c, d;"
    " cvt.rn.bf16x2.f32 h, $4, $3;"
    " shl.b32 t, h, 16; and.b32 u, h, 0xffff0000;"
    " mov.b32 c, t; mov.b32 d, u; sub.f32 a, $3, c; sub.f32 b, $4, d;"
    " cvt.rn.bf16x2.f32 m, b, a;"
    " shl.b32 t, m, 16; and.b32 u, m, 0xffff0000;"
    " mov.b32 c, t; mov.b32 d, u; sub.f32 a, a, c; sub.f32 b, b, d;"
    " cvt.rn.bf16x2.f32 $2, b, a; mov.b32 $1, m; mov.b32 $0, h; }"
)
# Two numbers at a time: each part is the bfloat16 nearest to what the parts before it leave.


@triton.jit
def _round_to_bfloat16(x):
    """Nearest bfloat16, ties to even, held in float32."""
    bits = x.to(tl.int32, bitcast=True)
    bits = (bits + 0x7FFF + ((bits >> 16) & 1)) & -65536
    return bits.to(tl.float32, bitcast=True)


@triton.jit
def split(x, PRECISION: tl.constexpr):
    """Parts that stand for the float32 tile x in matrix products."""
    if PRECISION == _IEEE:
        high = x
        middle = x
        low = x
    elif PRECISION == _X3:
        high, middle = tl.inline_asm_elementwise(
            _SPLIT_IN_TWO, "=r,=r,f,f", [x], dtype=(tl.bfloat16, tl.bfloat16), is_pure=True, pack=2
        )
        low = middle
    elif PRECISION == _X6:
        high, middle, low = tl.inline_asm_elementwise(
            _SPLIT_IN_THREE,
            "=r,=r,=r,f,f",
            [x],
            dtype=(tl.bfloat16, tl.bfloat16, tl.bfloat16),
            is_pure=True,
            pack=2,
        )
    else:
        high = _round_to_bfloat16(x)
        middle = _round_to_bfloat16(x - high)
        low = _round_to_bfloat16(x - high - middle)
    return high, middle, low


@triton.jit
def transposed(parts):
    """Parts of the transposed tile."""
    return tl.trans(parts[0]), tl.trans(parts[1]), tl.trans(parts[2])


@triton.jit
def renewed(parts, PRECISION: tl.constexpr):
    """The same parts, laid out anew for the products that take them.

    The layout of a factor takes many registers. Were it not for this, products far apart would
    share it, and it would be held from the first to the last.
    """
    high, middle, low = parts[0], parts[1], parts[2]
    if PRECISION < _HELD and PRECISION != _IEEE:
        high = _copied(high)
        middle = _copied(middle)
        low = middle
        if PRECISION == _X6:
            low = _copied(parts[2])
    return high, middle, low


@triton.jit
def _copied(x):
    return tl.inline_asm_elementwise(
        "mov.b32 $0, $1;", "=r,r", [x], dtype=tl.bfloat16, is_pure=False, pack=2
    )


@triton.jit
def masked(mask, parts):
    """Parts of the tile where the mask holds, of zero elsewhere."""
    high, middle, low = parts[0], parts[1], parts[2]
    zero = tl.zeros([1, 1], high.dtype)
    return tl.where(mask, high, zero), tl.where(mask, middle, zero), tl.where(mask, low, zero)


@triton.jit
def dot(a, b, PRECISION: tl.constexpr):
    """Matrix product of two tiles in parts."""
    nothing = tl.zeros([a[0].shape[0], b[0].shape[1]], tl.float32)
    return dot_add(a, b, nothing, PRECISION)


@triton.jit
def dot_add(a, b, total, PRECISION: tl.constexpr):
    """Matrix product of two tiles in parts, added to a float32 tile."""
    if PRECISION == _X6 or PRECISION == _X6 + _HELD:
        total = tl.dot(a[2], b[0], acc=total, input_precision="ieee")
        total = tl.dot(a[1], b[1], acc=total, input_precision="ieee")
        total = tl.dot(a[0], b[2], acc=total, input_precision="ieee")
    if PRECISION != _IEEE:
        total = tl.dot(a[1], b[0], acc=total, input_precision="ieee")
        total = tl.dot(a[0], b[1], acc=total, input_precision="ieee")
    return tl.dot(a[0], b[0], acc=total, input_precision="ieee")


@triton.jit
def weight_tile(
    table, parts, offset, ROWS: tl.constexpr, COLS: tl.constexpr, PRECISION: tl.constexpr
):
    """Parts of the (ROWS, COLS) weight matrix at `offset` of the packed weights."""
    index = offset + tl.arange(0, ROWS)[:, None] * COLS + tl.arange(0, COLS)[None, :]
    if PRECISION == _IEEE:
        high = tl.load(table + index)
        middle = high
        low = high
    else:
        high = tl.load(parts[0] + index)
        middle = tl.load(parts[1] + index)
        low = middle
        if PRECISION == _X6 or PRECISION == _X6 + _HELD:
            low = tl.load(parts[2] + index)
        if PRECISION >= _HELD:
            high = high.to(tl.float32)
            middle = middle.to(tl.float32)
            low = low.to(tl.float32)
    return high, middle, low


@triton.jit
def float_tile(table, offset, ROWS: tl.constexpr, COLS: tl.constexpr):
    """Float32 tile of the (ROWS, COLS) matrix at `offset`."""
    index = offset + tl.arange(0, ROWS)[:, None] * COLS + tl.arange(0, COLS)[None, :]
    return tl.load(table + index)


@triton.jit
def anchored(x, FAST: tl.constexpr):
    """x, not computed anew for every layout in which it is needed."""
    if FAST:
        result = tl.inline_asm_elementwise(
            "mov.b32 $0, $1;", "=f,f", [x], dtype=tl.float32, is_pure=False, pack=1
        )
    else:
        result = x
    return result


@triton.jit
def reciprocal(x, FAST: tl.constexpr):
    """1 / x."""
    if FAST:
        result = tl.inline_asm_elementwise(
            "rcp.approx.ftz.f32 $0, $1;", "=f,f", [x], dtype=tl.float32, is_pure=True, pack=1
        )
    else:
        result = 1.0 / x
    return result


@triton.jit
def reciprocal_root(x, FAST: tl.constexpr):
    """1 / √x."""
    if FAST:
        result = tl.inline_asm_elementwise(
            "rsqrt.approx.ftz.f32 $0, $1;", "=f,f", [x], dtype=tl.float32, is_pure=True, pack=1
        )
    else:
        result = 1.0 / tl.sqrt(x)
    return result


@triton.jit
def exponential(x, FAST: tl.constexpr):
    """exp(x)."""
    if FAST:
        result = tl.inline_asm_elementwise(
            "{ .reg .f32 t; mul.ftz.f32 t, $1, 0f3FB8AA3B; ex2.approx.ftz.f32 $0, t; }",
            "=f,f",
            [x],
            dtype=tl.float32,
            is_pure=False,
            pack=1,
        )
    else:
        result = tl.exp(x)
    return result


@triton.jit
def sigmoid(x, FAST: tl.constexpr):
    """1 / (1 + exp(−x))."""
    if FAST:
        result = tl.inline_asm_elementwise(
            "{ .reg .f32 t; mul.ftz.f32 t, $1, 0fBFB8AA3B; ex2.approx.ftz.f32 t, t;"
            " add.ftz.f32 t, t, 0f3F800000; rcp.approx.ftz.f32 $0, t; }",
            "=f,f",
            [x],
            dtype=tl.float32,
            is_pure=False,
            pack=1,
        )
    else:
        result = 1.0 / (1.0 + tl.exp(-x))
    return result


@triton.jit
def activation(z, NAME: tl.constexpr, FAST: tl.constexpr):
    """φ(z) by nequip's name of the nonlinearity."""
    value, _ = activation_and_slope(z, NAME, FAST)
    return value


@triton.jit
def activation_and_slope(z, NAME: tl.constexpr, FAST: tl.constexpr):
    """φ(z) and φ'(z)."""
    if NAME == "silu":
        s = sigmoid(z, FAST)
        value = z * s
        slope = s * (1.0 + z * (1.0 - s))
    elif NAME == "tanh":
        value = 2.0 * sigmoid(2.0 * z, FAST) - 1.0
        slope = 1.0 - value * value
    elif NAME == "sigmoid":
        value = sigmoid(z, FAST)
        slope = value * (1.0 - value)
    elif NAME == "softplus" or NAME == "ssp":
        # softplus = max(z, 0) + log(1 + exp(−|z|)); the shift by log 2 is exact at z = 0.
        shift: tl.constexpr = 1.0 if NAME == "ssp" else 0.0
        decay = exponential(-tl.abs(z), FAST)
        value = tl.maximum(z, 0.0) + 0.6931471805599453 * (tl.log2(1.0 + decay) - shift)
        s = reciprocal(1.0 + decay, FAST)
        slope = tl.where(z > 0.0, s, 1.0 - s)
    elif NAME == "mish":
        # tanh(softplus(z)) = n / (n + 2) with n = e (e + 2), e = exp(z).
        e = exponential(tl.minimum(z, 20.0), FAST)
        n = e * (e + 2.0)
        r = reciprocal(n + 2.0, FAST)
        value = z * (n * r)
        slope = n * r + z * (4.0 * e * (1.0 + e)) * (r * r)
    elif NAME == "gelu":
        cumulative = 0.5 * (1.0 + tl.erf(z * 0.7071067811865476))
        value = z * cumulative
        slope = cumulative + z * 0.3989422804014327 * exponential(-0.5 * z * z, FAST)
    else:
        tl.static_assert(NAME == "linear", "unknown nonlinearity")
        value = z
        slope = z * 0.0 + 1.0
    return value, slope


@triton.jit
def sine_and_cosine_of_pi(t):
    """sin(π t) and cos(π t) for |t| < 2²².

    t is reduced to q = t − n, |q| ≤ ½; both series are Chebyshev fits on that interval with
    absolute errors below 1e-8, beneath the rounding of float32.
    """
    shifted = t + 12582912.0  # 1.5 · 2²³: rounds to the nearest integer, kept in the low bits
    q = t - (shifted - 12582912.0)
    sign = shifted.to(tl.int32, bitcast=True) << 31
    s = q * q
    sine = 0.07722012895766947
    sine = sine * s - 0.5980451741241113
    sine = sine * s + 2.5500313772806997
    sine = sine * s - 5.167706878926398
    sine = q * (sine * s + 3.1415925800447244)
    cosine = -0.024396716615564265 * s + 0.23493755895823643
    cosine = cosine * s - 1.3352120566684853
    cosine = cosine * s + 4.058709164342824
    cosine = cosine * s - 4.934802137228374
    cosine = cosine * s + 0.9999999997806523
    sine = (sine.to(tl.int32, bitcast=True) ^ sign).to(tl.float32, bitcast=True)
    cosine = (cosine.to(tl.int32, bitcast=True) ^ sign).to(tl.float32, bitcast=True)
    return sine, cosine


@triton.jit
def store_tile(address, tile, ROWS: tl.constexpr, COLS: tl.constexpr):
    """Store a whole (ROWS, COLS) tile, rows contiguous."""
    tl.store(address + tl.arange(0, ROWS)[:, None] * COLS + tl.arange(0, COLS)[None, :], tile)


@triton.jit
def load_tile(address, ROWS: tl.constexpr, COLS: tl.constexpr):
    """Load what `store_tile` stored. A barrier must lie between them."""
    return tl.load(address + tl.arange(0, ROWS)[:, None] * COLS + tl.arange(0, COLS)[None, :])


@triton.jit
def load_component(
    tiles, COMPONENT: tl.constexpr, SIZE: tl.constexpr, U: tl.constexpr, SLOTS: tl.constexpr
):
    """One component of all centres from a slab of (16, U), (SLOTS · U,): centre by centre.

    Row centre · SIZE + COMPONENT belongs to it; zero where the slab has no such row.
    """
    lane = tl.arange(0, SLOTS * U)
    row = lane // U * SIZE + COMPONENT
    return tl.load(tiles + row * U + lane % U, mask=row < 16, other=0.0)


@triton.jit
def store_component(
    tiles, COMPONENT: tl.constexpr, SIZE: tl.constexpr, U: tl.constexpr, SLOTS: tl.constexpr, x
):
    """Store what `load_component` loads; with SLOTS · SIZE ≥ 16 no row of a slab is left out."""
    lane = tl.arange(0, SLOTS * U)
    row = lane // U * SIZE + COMPONENT
    tl.store(tiles + row * U + lane % U, x, mask=row < 16)
