"""Which kind of potential serves what is asked for."""

from __future__ import annotations

from duetto.potential.following import FollowingPotential
from duetto.potential.mixture import Potential
from duetto.potential.split import SplitFollowingPotential, SplitPotential


def following_kind(backend: str, *, split: bool = False) -> type[FollowingPotential]:
    """What follows atoms on a backend, by the name that `choose_backend` gives.

    Args:
        backend: "numba", "triton" or "reference".
        split: whether time is split.
    """
    if split:
        return SplitFollowingPotential
    if backend != "triton":
        return FollowingPotential
    # Needs triton.
    from duetto.potential.following_device import DeviceFollowingPotential

    return DeviceFollowingPotential


def standing_kind(*, split: bool) -> type[Potential]:
    """What has weights that do not follow atoms."""
    return SplitPotential if split else Potential
