"""What a partition's words select, and where that is hardly what was meant."""

from collections.abc import Iterator

import ase

from duetto.partition.regions.partition import Regions
from duetto.partition.regions.region import Region
from duetto.partition.regions.terms import Word


def selection_warnings(regions: Regions, atoms: ase.Atoms, key: str = "regions") -> list[str]:
    """Lines about regions that select nothing, or everything without being called `all`.

    Raises:
        InputError: as `Regions.weights`.
    """
    complex_key, total = f"{key}.complex", len(atoms)
    if isinstance(regions.complex, Word):
        return []
    lines = []
    selected = int(regions.complex.select(atoms).sum())
    if selected == 0:
        lines.append(
            f"{complex_key} selects 0 atoms of {total}: LF computes them all; "
            "write complex: none if that is meant"
        )
    if selected == total:
        lines.append(
            f"{complex_key} selects all {total} atoms: HF computes them all; "
            "write complex: all if that is meant"
        )
    for place, part in _parts(regions.complex, complex_key):
        if not isinstance(part, Word) and not part.select(atoms).any():
            lines.append(f"{place} selects 0 atoms")
    return lines


def _parts(region: Region, key: str) -> Iterator[tuple[str, Region]]:
    """Every region inside this one, and the path of keys to it."""
    data = region.to_dict()
    (term,) = data if isinstance(data, dict) else (data,)
    below = f"{key}.{term}"
    inner = [(f"{below}[{i}]", part) for i, part in enumerate(getattr(region, "regions", ()))]
    if hasattr(region, "region"):
        inner.append((below, region.region))
    if hasattr(region, "of"):
        inner.append((f"{below}.of", region.of))
    for place, part in inner:
        yield place, part
        yield from _parts(part, place)
