"""Real spherical harmonics up to degree 3, in the order and signs of e3nn."""

from math import sqrt

import torch
from torch import Tensor


def spherical_harmonics(unit: Tensor, l_max: int) -> Tensor:
    """Real spherical harmonics of unit vectors, "component" normalised (mean square 1 each).

    The polar axis is y: the components of degree 1 are √3 (x, y, z).

    Args:
        unit: (E, 3) unit vectors.
        l_max: highest degree, 0 to 3.

    Returns:
        (E, (l_max + 1)²), degrees one after the other, -l to l within each.
    """
    x, y, z = unit.unbind(1)
    columns = [torch.ones_like(x)]
    if l_max >= 1:
        columns += [sqrt(3) * x, sqrt(3) * y, sqrt(3) * z]
    if l_max >= 2:
        columns += [
            sqrt(15) * x * z,
            sqrt(15) * x * y,
            sqrt(5) / 2 * (2 * y * y - x * x - z * z),
            sqrt(15) * y * z,
            sqrt(15) / 2 * (z * z - x * x),
        ]
    if l_max >= 3:
        columns += [
            sqrt(35 / 8) * x * (3 * z * z - x * x),
            sqrt(105) * x * y * z,
            sqrt(21 / 8) * x * (4 * y * y - x * x - z * z),
            sqrt(7) / 2 * y * (2 * y * y - 3 * x * x - 3 * z * z),
            sqrt(21 / 8) * z * (4 * y * y - x * x - z * z),
            sqrt(105) / 2 * y * (z * z - x * x),
            sqrt(35 / 8) * z * (z * z - 3 * x * x),
        ]
    return torch.stack(columns, dim=1)
