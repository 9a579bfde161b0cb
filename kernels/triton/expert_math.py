"""Device functions that the generated expert kernels call: matrix products, bases, nonlinearities.

Matrix products work on pairs of tiles, `(high, low)`, made by `split` or `weight_tile`. What a
pair holds depends on the precision, so that the generated source does not:

    FP32             the float32 tile, twice; one product in full float32
    BF16X3           x = high + low in bfloat16; a b ≈ low·high + high·low + high·high, summed in
                     float32, with a relative error of about 2⁻¹⁶
    BF16X3_EMULATED  the same numbers held in float32, for the interpreter, whose own bfloat16
                     products are wrong

TF32 is not among them: Triton hands raw float32 bits to the tensor core, which truncates them.

FAST takes the approximate instructions of the chip (relative errors near 2⁻²²); without it the
functions are plain arithmetic that the interpreter understands. The approximate reciprocal and
exponential are marked impure on purpose: Triton would otherwise evaluate them anew for every
layout in which their result is needed.
"""

# mypy: disallow-untyped-defs=False, disallow-incomplete-defs=False

import triton
import triton.language as tl

FP32 = 0
BF16X3 = 1
BF16X3_EMULATED = 2

_SPLIT = tl.constexpr(
    "{ .reg .b32 t, u; .reg .f32 a, b;"
    " cvt.rn.bf16x2.f32 $0, $3, $2;"
    " shl.b32 t, $0, 16; and.b32 u, $0, 0xffff0000;"
    " mov.b32 a, t; mov.b32 b, u; sub.f32 a, $2, a; sub.f32 b, $3, b;"
    " cvt.rn.bf16x2.f32 $1, b, a; }"
)
"""Two numbers into their nearest bfloat16 and what these leave, two to a register."""


@triton.jit
def _round_to_bfloat16(x):
    """Nearest bfloat16, ties to even, held in float32."""
    bits = x.to(tl.int32, bitcast=True)
    bits = (bits + 0x7FFF + ((bits >> 16) & 1)) & -65536
    return bits.to(tl.float32, bitcast=True)


@triton.jit
def split(x, PRECISION: tl.constexpr):
    """Pair of tiles that stands for the float32 tile x in matrix products."""
    if PRECISION == 0:
        high = x
        low = x
    elif PRECISION == 1:
        high, low = tl.inline_asm_elementwise(
            _SPLIT, "=r,=r,f,f", [x], dtype=(tl.bfloat16, tl.bfloat16), is_pure=True, pack=2
        )
    else:
        high = _round_to_bfloat16(x)
        low = _round_to_bfloat16(x - high)
    return high, low


@triton.jit
def transposed(pair):
    """Pair of the transposed tile."""
    return tl.trans(pair[0]), tl.trans(pair[1])


@triton.jit
def masked(mask, pair):
    """Pair of the tile where the mask holds, of zero elsewhere."""
    high, low = pair[0], pair[1]
    zero = tl.zeros([1, 1], high.dtype)
    return tl.where(mask, high, zero), tl.where(mask, low, zero)


@triton.jit
def dot(a, b, PRECISION: tl.constexpr):
    """Matrix product of two pairs."""
    if PRECISION == 0:
        product = tl.dot(a[0], b[0], input_precision="ieee")
    elif PRECISION == 1:
        product = tl.dot(a[1], b[0])
        product = tl.dot(a[0], b[1], acc=product)
        product = tl.dot(a[0], b[0], acc=product)
    else:
        product = tl.dot(a[1], b[0], input_precision="ieee")
        product = tl.dot(a[0], b[1], acc=product, input_precision="ieee")
        product = tl.dot(a[0], b[0], acc=product, input_precision="ieee")
    return product


@triton.jit
def dot_add(a, b, total, PRECISION: tl.constexpr):
    """Matrix product of two pairs added to a float32 tile."""
    if PRECISION == 0:
        total = tl.dot(a[0], b[0], acc=total, input_precision="ieee")
    elif PRECISION == 1:
        total = tl.dot(a[1], b[0], acc=total)
        total = tl.dot(a[0], b[1], acc=total)
        total = tl.dot(a[0], b[0], acc=total)
    else:
        total = tl.dot(a[1], b[0], acc=total, input_precision="ieee")
        total = tl.dot(a[0], b[1], acc=total, input_precision="ieee")
        total = tl.dot(a[0], b[0], acc=total, input_precision="ieee")
    return total


@triton.jit
def weight_tile(
    table, high, low, offset, ROWS: tl.constexpr, COLS: tl.constexpr, PRECISION: tl.constexpr
):
    """Pair of the (ROWS, COLS) weight matrix at `offset` of the packed weights."""
    index = offset + tl.arange(0, ROWS)[:, None] * COLS + tl.arange(0, COLS)[None, :]
    if PRECISION == 0:
        first = tl.load(table + index)
        second = first
    else:
        first = tl.load(high + index)
        second = tl.load(low + index)
        if PRECISION == 2:
            first = first.to(tl.float32)
            second = second.to(tl.float32)
    return first, second


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
