"""Where a crystal's zero of pressure is looked for."""

from __future__ import annotations

import numpy as np
import pytest

from duetto.distil.elastic import _bracket
from duetto.distil.settings import Crystal
from duetto.errors import InputError

PLATINUM = Crystal(symbol="Pt", lattice="fcc", a=4.0)


def test_the_zero_next_to_the_guess_counts_whatever_is_far_away():
    """A pressure that a fit bends back beyond 5 %: zeros at 4.03, and at 3.7 and 4.3 Å."""

    def pressure(a: float) -> float:
        return -(a - 4.03) * (a - 3.7) * (a - 4.3)

    assert np.sign(pressure(3.6)) == -np.sign(pressure(4.4))
    low, high = _bracket(pressure, PLATINUM)
    assert low < 4.03 < high
    assert low > 3.7
    assert high < 4.3
    with pytest.raises(InputError, match=r"no lattice constant between 3\.600 and 4\.400"):
        _bracket(lambda a: 1.0 + a * a, PLATINUM)
