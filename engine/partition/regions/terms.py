"""The words of the region language, and reading a region from them."""

from collections.abc import Mapping

from duetto.errors import InputError
from duetto.partition.regions.atomic import parse_indices, parse_species
from duetto.partition.regions.combined import SeedsWord, Word, parse_all_of, parse_any, parse_not
from duetto.partition.regions.file import parse_file
from duetto.partition.regions.geometric import parse_box, parse_slab, parse_sphere, parse_within
from duetto.partition.regions.layers import parse_layers
from duetto.partition.regions.region import Parser, Region
from duetto.settings.values import Place, shown, suggestion

WORDS = ("all", "none", "seeds")

TERMS: dict[str, Parser] = {
    "any": parse_any,
    "all_of": parse_all_of,
    "not": parse_not,
    "species": parse_species,
    "indices": parse_indices,
    "within": parse_within,
    "slab": parse_slab,
    "sphere": parse_sphere,
    "box": parse_box,
    "layers": parse_layers,
    "file": parse_file,
}

ALLOWED = f"{', '.join(WORDS)}, or a mapping with one of {', '.join(TERMS)}"


def parse_region(value: object, place: Place) -> Region:
    """Read a region from plain data: a word, or a mapping with exactly one term.

    Raises:
        InputError: anything that is not a region, naming the place, what was given there and
            what is allowed.
    """
    place = place.deeper()
    if isinstance(value, str) and value in WORDS:
        return SeedsWord(place) if value == "seeds" else Word(value)
    if not isinstance(value, Mapping) or not value:
        near = suggestion(value, [*WORDS, *TERMS]) if isinstance(value, str) else ""
        raise place.refuse(value, ALLOWED + near)
    for term in value:
        if term not in TERMS:
            raise InputError(
                f"{place.key}: unknown term {shown(term)}{suggestion(term, TERMS)}; "
                f"allowed: {', '.join(TERMS)}"
            )
    if len(value) > 1:
        raise InputError(
            f"{place.key}: got {len(value)} terms ({', '.join(value)}); allowed: one; "
            "list them under any (or) or all_of (and)"
        )
    ((term, inner),) = value.items()
    return TERMS[term](inner, place.at(term), parse_region)
