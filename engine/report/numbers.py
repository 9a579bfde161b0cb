"""Numbers with their errors as people write them."""

from __future__ import annotations

import math

LARGEST_PLAIN, LEAST_PLAIN = 1e5, 1e-3
"""Between these a number is written without a power of ten."""


def with_error(value: float, error: float | None, form: str = ".3g") -> str:
    """The value and its standard error, to two digits of the error: `6.51 ± 0.12`.

    Args:
        value: what was measured.
        error: of it; None, nil or no number: the value alone.
        form: how it is written then.
    """
    if error is None or not (math.isfinite(error) and error > 0.0):
        return format(value, form)
    power = math.floor(math.log10(max(abs(value), error)))
    plain = LEAST_PLAIN <= max(abs(value), error) < LARGEST_PLAIN
    scale = 1.0 if plain else 10.0**power
    value, error = value / scale, error / scale
    decimals = max(0, 1 - math.floor(math.log10(error)))
    text = f"{value:.{decimals}f} ± {error:.{decimals}f}"
    return text if plain else f"({text})e{power:+03d}"
