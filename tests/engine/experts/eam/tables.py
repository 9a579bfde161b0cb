"""A small embedded-atom potential of two elements, made up, as a file and as an expert."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from duetto.experts.eam.expert import EamExpert
from duetto.experts.eam.setfl import read_setfl

R_POINTS, RHO_POINTS = 200, 40
CUTOFF = 4.7
ELEMENTS = (("Pt", 78, 195.08), ("O", 8, 15.999))


def setfl_text(style: str = "eam/fs", elements: int = 2, repulsion: float = 12.0) -> str:
    """The file's text."""
    dr, drho = CUTOFF / R_POINTS, 0.5
    r, rho = np.arange(R_POINTS) * dr, np.arange(RHO_POINTS) * drho
    decay = (1 - r / r[-1]) ** 4
    named = ELEMENTS[:elements]
    lines = ["made up  UNITS: metal", "# two", "three"]
    lines.append(f"{elements} " + " ".join(name for name, _, _ in named))
    lines.append(f"{RHO_POINTS} {drho!r} {R_POINTS} {dr!r} {CUTOFF!r}  # nrho drho nr dr cutoff")
    for a, (_, number, mass) in enumerate(named):
        lines.append(f"{number} {mass} 3.9 fcc")
        lines += _rows(-(1 + 0.3 * a) * np.sqrt(rho))
        for b in range(elements if style == "eam/fs" else 1):
            lines += _rows((1.5 + 0.4 * a + 0.2 * b) * decay * np.exp(-0.3 * r))
    for a in range(elements):
        for b in range(a + 1):
            lines += _rows((repulsion + 3 * a + 2 * b) * r * decay * np.exp(-1.1 * r))
    return "\n".join(lines) + "\n"


def _rows(values: np.ndarray) -> list[str]:
    return [" ".join(f"{value:.16e}" for value in part) for part in np.split(values, 5)]


def write_setfl(folder: Path, style: str = "eam/fs", elements: int = 2) -> Path:
    """The file."""
    path = folder / f"toy.{style.replace('/', '.')}"
    path.write_text(setfl_text(style, elements))
    return path


def expert(folder: Path, style: str = "eam/fs", elements: int = 2) -> EamExpert:
    """The expert."""
    return read_setfl(write_setfl(folder, style, elements))
