"""Numbers with their errors, written."""

from __future__ import annotations

import pytest

from duetto.report.numbers import with_error


@pytest.mark.parametrize(
    ("value", "error", "expected"),
    [
        (6.5123, 0.1234, "6.51 ± 0.12"),
        (-0.0294, 0.0006, "-0.02940 ± 0.00060"),
        (58.6, 12.3, "59 ± 12"),
        (1.54e-4, 2.2e-5, "(1.54 ± 0.22)e-04"),
        (-6.4e-6, 8.3e-6, "(-6.4 ± 8.3)e-06"),
        (4e-7, 9.02e-6, "(0.4 ± 9.0)e-06"),
        (36.6124, None, "36.6"),
        (36.6124, 0.0, "36.6"),
        (36.6124, float("nan"), "36.6"),
    ],
)
def test_two_digits_of_the_error(value: float, error: float | None, expected: str) -> None:
    assert with_error(value, error) == expected
