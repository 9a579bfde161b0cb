"""The surface's numbers on the page: adsorption, and the molecule's way."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any


def adsorption_table(found: Mapping[str, Any]) -> list[str]:
    """Energies and lengths by site."""
    lines = [
        "| site | full HF | mixture | difference, meV | lengths, full HF | lengths, mixture |",
        "|---|---|---|---|---|---|",
    ]
    for site, row in found["adsorption_energy_ev"].items():
        lengths = found["adsorption_length_angstrom"][site]
        hf, mixture = (
            ", ".join(f"{name} {x:.4f}" for name, x in lengths[who].items())
            for who in ("hf", "mixture")
        )
        lines.append(
            f"| {site} | {row['hf']:.4f} | {row['mixture']:.4f} | {row['difference_mev']:+.2f} "
            f"| {hf} | {mixture} |"
        )
    return lines


def barrier_table(found: Mapping[str, Any]) -> list[str]:
    """The barrier to the digits that relaxation allows, all images, and what they show in words."""
    row = found["diffusion_barrier_ev"]
    unsure = row["resolution_mev"].values()
    # Of the difference, both numbers being as unsure as they are; of no more than a thousandth.
    digits = min(3, max(0, math.floor(-math.log10(max(1e-9, math.hypot(*unsure))))))
    hf, mixture, apart = (
        _plain(x, digits) for x in (1e3 * row["hf"], 1e3 * row["mixture"], row["difference_mev"])
    )
    lines = [
        "| way | full HF | mixture | difference "
        "| estimate of what forces at the saddle leave open, from the path's curvature |",
        "|---|---|---|---|---|",
        f"| {' to '.join(row['path'])} | {hf} | {mixture} | {apart} | {max(unsure):.1g} |",
    ]
    images = row["images"]
    first, last = row["path"]
    heads = [first, *(str(n) for n in range(1, len(images["hf"]) - 1)), last]
    lines += ["", f"| image | {' | '.join(heads)} |", "|---" * (len(heads) + 1) + "|"]
    for who, name in (("hf", "full HF"), ("mixture", "mixture")):
        energies = (_plain(1e3 * x, digits) for x in images[who])
        lines.append(f"| {name}, meV | {' | '.join(energies)} |")
    return [*lines, "", path_in_words(row["path"], [1e3 * x for x in images["hf"]])]


def path_in_words(path: list[str], energies: list[float]) -> str:
    """Which hill the climbing image is on, and what else is on the way.

    Args:
        path: names of the two ends.
        energies: of all images by full HF, meV from the first end.
    """
    inner = range(1, len(energies) - 1)
    top = max(inner, key=lambda n: energies[n])
    said = f"In full HF the climbing image, {top}, is {energies[top]:.1f} meV above {path[0]}"
    valleys = [n for n in inner if energies[n] < min(energies[n - 1], energies[n + 1])]
    below = [n for n in valleys if energies[n] < min(energies[0], energies[-1])]
    if not below:
        return f"{said}; no image between the ends is below both."
    lowest = min(below, key=lambda n: energies[n])
    side = f"{path[0]} to it" if top < lowest else f"it to {path[1]}"
    said += (
        f"; image {lowest} is a minimum below both ends, at {energies[lowest]:.1f} meV. What is "
        f"called the barrier is that of the way from {side}"
    )
    # Either side of the minimum has a hill; the other one than the climbing image's.
    others = range(lowest + 1, len(energies) - 1) if top < lowest else range(1, lowest)
    hills = [n for n in others if energies[n] > max(energies[n - 1], energies[n + 1])]
    if not hills:
        return f"{said}."
    second = max(hills, key=lambda n: energies[n])
    return (
        f"{said}: the second hill, of which image {second} at {energies[second]:.1f} meV is the "
        "highest, no image climbs, so that it is at least that high and not compared here."
    )


def _plain(value: float, digits: int) -> str:
    """Rounded, without the sign of what rounds to nil."""
    return f"{round(value, digits) + 0.0:.{digits}f}"
