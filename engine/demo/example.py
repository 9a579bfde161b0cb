"""Where the shipped Pt+CO example lies."""

from __future__ import annotations

from pathlib import Path

import duetto
from duetto.errors import InputError

RUN = "demo.yaml"
LARGE = "large.yaml"
LINEAR = "ptco_linear.duetto"
"""The pair of the same HF with a linear LF, which is shown beside."""


def example_folder() -> Path:
    """Folder of the Pt+CO example: in a checkout beside the package, in a wheel inside it.

    Raises:
        InputError: it is in neither place.
    """
    package = Path(duetto.__file__).resolve().parent
    places = [package.parent / "examples" / "ptco", package / "examples" / "ptco"]
    for place in places:
        if (place / RUN).is_file():
            return place
    raise InputError(
        f"the example is missing: no {RUN} in {places[0]} or {places[1]}; install Duetto anew, "
        "or run from a checkout"
    )
