"""LAMMPS's `setfl` files, `eam/alloy` and `eam/fs`, read as LAMMPS reads them.

Three lines of comment; the elements; `nrho drho nr dr cutoff`; for each element a line that begins
with atomic number and mass, then F(ρ) and ρ(r); last r·φ of every pair, elements i ≥ j. In `eam/fs`
each element has one ρ(r) for each element that feels it. A table begins on a line of its own, may
break lines anywhere, and text after `#` is comment. Units are those of LAMMPS's `metal`.

Source: LAMMPS 22Jul2025, `PairEAMAlloy::read_file`, `PairEAMFS::read_file`, and its manual's page
on `pair_style eam`.
"""

from __future__ import annotations

import math
import os
import re
from dataclasses import dataclass
from pathlib import Path

import torch
from ase.data import atomic_numbers
from torch import Tensor

from duetto.errors import InputError
from duetto.experts.eam.expert import EamExpert
from duetto.kernels.eam import FEWEST_POINTS

SUFFIXES = {".alloy": "eam/alloy", ".setfl": "eam/alloy", ".fs": "eam/fs"}
"""The style of a file by the end of its name, as LAMMPS's own files are called."""


def is_setfl(path: str | os.PathLike[str]) -> bool:
    """Whether a file is, by its name, one for `read_setfl`."""
    return Path(path).suffix in SUFFIXES


SHORTEST_SHARE, LONGEST_SHARE = 0.3, 1.05
"""Of the table of distances, where a cutoff may be; files that LAMMPS ships have 0.6 to 1."""


def read_setfl(path: str | os.PathLike[str], style: str | None = None) -> EamExpert:
    """Read an embedded-atom potential.

    Args:
        path: a file for LAMMPS's `pair_style eam/alloy` or `eam/fs`.
        style: "eam/alloy" or "eam/fs"; by default what the file's name ends with says.

    Raises:
        InputError: the file cannot be read or is not such a file; names file and line.
    """
    path = Path(path)
    if style is None and not is_setfl(path):
        raise InputError(
            f"{path}: a setfl file is called {', '.join('*' + end for end in SUFFIXES)}"
        )
    lines = _Lines(path)
    lines.skip_comments()
    species = _species(lines)
    points = _points(lines)
    alloy = (style or SUFFIXES[path.suffix]) == "eam/alloy"
    embedding, density = [], []
    for symbol in species:
        lines.element(symbol)
        embedding.append(lines.table(points.rho, f"F(rho) of {symbol}"))
        heard_by = [""] if alloy else [f" at {other}" for other in species]
        heard = [lines.table(points.r, f"rho(r) of {symbol}{other}") for other in heard_by]
        density.append(heard[0] if alloy else torch.stack(heard))
    product = [
        lines.table(points.r, f"r*phi(r) of {species[i]}-{species[j]}")
        for i in range(len(species))
        for j in range(i + 1)
    ]
    lines.require_end()
    return EamExpert(
        style="eam/alloy" if alloy else "eam/fs",
        species=species,
        table_cutoff=points.cutoff,
        drho=points.drho,
        dr=points.dr,
        embedding=torch.stack(embedding),
        density=torch.stack(density),
        product=torch.stack(product),
    )


@dataclass(frozen=True)
class _Points:
    """The line `nrho drho nr dr cutoff`."""

    rho: int
    drho: float
    r: int
    dr: float
    cutoff: float


class _Lines:
    """The lines of a file, one after the other, with the place for errors."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
        except FileNotFoundError as error:
            raise InputError(f"{path}: no such file") from error
        except OSError as error:
            raise InputError(f"{path}: cannot be read: {error.strerror}") from error
        self._number = 0

    def refuse(self, message: str) -> InputError:
        """The error for the line read last."""
        return InputError(f"{self.path}, line {self._number}: {message}")

    def skip_comments(self) -> None:
        """Pass the three lines of comment, the first of which may name the units."""
        if len(self._lines) < 3:
            raise InputError(f"{self.path}: not a setfl file: it has {len(self._lines)} lines")
        units = re.search(r"UNITS:\s*(\S+)", self._lines[0])
        self._number = 3
        if units and units[1] != "metal":
            raise InputError(
                f"{self.path}, line 1: the units are {units[1]!r}; Duetto reads metal (eV, Å)"
            )

    def words(self, what: str, least: int = 1) -> list[str]:
        """The words of the next line that has any, and of those after it up to `least`."""
        words: list[str] = []
        while len(words) < least:
            if self._number >= len(self._lines):
                raise InputError(f"{self.path}: ends before {what}; the file is cut short")
            words += self._lines[self._number].partition("#")[0].split()
            self._number += 1
        return words

    def element(self, symbol: str) -> None:
        """Pass the line of atomic number, mass and lattice."""
        number, mass = self.words(f"the element {symbol}", 2)[:2]
        self.whole(number, f"the atomic number of {symbol}")
        self.real(mass, f"the mass of {symbol}")

    def table(self, points: int, what: str) -> Tensor:
        """(points,) float64 from the next line on; what a line holds beyond them is passed."""
        values: list[float] = []
        while len(values) < points:
            words = self.words(f"{what} is complete ({len(values)} of {points} values)")
            values += [self.real(word, what) for word in words[: points - len(values)]]
        return torch.tensor(values, dtype=torch.float64)

    def real(self, word: str, what: str) -> float:
        """A finite number."""
        try:
            value = math.nan if "_" in word else float(word)
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise self.refuse(f"{what}: got {word[:40]!r}; allowed: a finite number")
        return value

    def whole(self, word: str, what: str) -> int:
        """A whole number."""
        if not re.fullmatch(r"[-+]?\d+", word):
            raise self.refuse(f"{what}: got {word[:40]!r}; allowed: a whole number")
        return int(word)

    def require_end(self) -> None:
        """Refuse a file that goes on with numbers: its header does not tell what it holds."""
        rest = " ".join(self._lines[self._number :]).split()
        if rest and re.fullmatch(r"[-+.\d][-+.\deE]*", rest[0]):
            self._number += 1
            raise self.refuse(
                f"the file goes on with {len(rest)} values that its header does not announce; "
                "the numbers of elements and points, or the style (eam/alloy, eam/fs), do not fit"
            )


def _species(lines: _Lines) -> tuple[str, ...]:
    words = lines.words("the elements")
    count = lines.whole(words[0], "the number of elements")
    if count != len(words) - 1 or count < 1:
        raise lines.refuse(
            f"announces {count} elements and names {len(words) - 1}: {' '.join(words[1:])[:60]}"
        )
    for symbol in words[1:]:
        if symbol not in atomic_numbers or symbol == "X":
            raise lines.refuse(f"element {symbol[:40]!r} is not a chemical symbol")
    if len(set(words[1:])) < count:
        raise lines.refuse(f"an element is named twice: {' '.join(words[1:])}")
    return tuple(words[1:])


def _points(lines: _Lines) -> _Points:
    words = lines.words("nrho, drho, nr, dr and the cutoff", 5)
    rho, r = (lines.whole(words[k], name) for k, name in ((0, "nrho"), (2, "nr")))
    drho, dr, cutoff = (
        lines.real(words[k], name) for k, name in ((1, "drho"), (3, "dr"), (4, "the cutoff"))
    )
    for name, count in (("nrho", rho), ("nr", r)):
        if count < FEWEST_POINTS:
            raise lines.refuse(f"{name}: got {count}; allowed: at least {FEWEST_POINTS} points")
    for name, size in (("drho", drho), ("dr", dr), ("the cutoff", cutoff)):
        if size <= 0:
            raise lines.refuse(f"{name}: got {size:g}; allowed: a number above 0")
    table = (r - 1) * dr
    if not SHORTEST_SHARE * table <= cutoff <= LONGEST_SHARE * table:
        raise lines.refuse(
            f"the cutoff: got {cutoff:g} Å, where (nr - 1) dr is {table:g} Å; allowed: "
            f"{SHORTEST_SHARE * table:.4g} to {LONGEST_SHARE * table:.4g} Å"
        )
    return _Points(rho, drho, r, dr, cutoff)
