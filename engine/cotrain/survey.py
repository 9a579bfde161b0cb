"""What a user's files hold: what labels are called, what is bulk, where its shells are.

Needs neither nequip nor torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
from ase import Atoms
from ase.neighborlist import neighbor_list

from duetto.atoms.labels import (
    LabelKeys,
    check_frame,
    config_type,
    has_labels,
    labels_of,
    name_frame,
    names_like,
    read_frames,
)
from duetto.errors import InputError

Array = npt.NDArray[np.float64]

_SCAN, _WIDTH, _STEP = 7.0, 0.12, 0.01
"""Å: how far shells are looked for, how much a frame's disorder blurs them, and the grid."""

_STRONG = 100.0
"""eV/Å; beyond it two atoms sit on top of each other, or the units are others."""

_DENSE = 0.7
"""Frames below this part of the largest density have a surface or are no crystal."""


@dataclass(frozen=True)
class Kind:
    """Frames of one config_type.

    Attributes:
        name: the config_type.
        number: how many.
        species: the elements in any of them.
        density: the lowest number density, 1/Å³; zero where a direction is open.
        labelled: whether they have labels.
    """

    name: str
    number: int
    species: frozenset[str]
    density: float
    labelled: bool


@dataclass(frozen=True)
class Survey:
    """What the files hold.

    Attributes:
        keys: what the labels are called.
        kinds: the config_types, in the order of their first frames.
        bulk: names of those that are bulk.
        host: the elements of the bulk.
        calmest: the bulk frame with the smallest forces.
        labelled: number of labelled frames.
        unlabelled: number of frames without labels.
        largest_force: eV/Å.
        largest_force_in: the frame that it is in.
        warnings: what looks like a mistake.
    """

    keys: LabelKeys
    kinds: tuple[Kind, ...]
    bulk: tuple[str, ...]
    host: frozenset[str]
    calmest: Atoms
    labelled: int
    unlabelled: int
    largest_force: float
    largest_force_in: str
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Read:
    atoms: Atoms
    where: str
    kind: str
    energy: float | None
    force: float | None


def survey(
    labelled: Sequence[Path], bulk: Sequence[Path], species: Sequence[str], keys: LabelKeys | None
) -> Survey:
    """Look at the files.

    Args:
        labelled: files in which every frame must have labels.
        bulk: files of bulk, with labels or without.
        species: the elements that the experts are to know.
        keys: what the labels are called; None finds out.

    Raises:
        InputError: a frame or a label cannot be used, a label could stand under several names, a
            species is in no frame, or nothing is bulk.
    """
    paths = list(dict.fromkeys([*labelled, *bulk]))
    frames = {path: read_frames(path) for path in paths}
    keys = guessed_keys(frames[paths[0]][0], str(paths[0])) if keys is None else keys
    read: list[_Read] = []
    named_bulk: set[str] = set()
    for path in paths:
        for number, atoms in enumerate(frames[path]):
            entry = _look(atoms, path, number, species, keys, path in labelled)
            read.append(entry)
            if path in bulk:
                named_bulk.add(entry.kind)
    kinds = _kinds(read)
    _check_species(kinds, species)
    bulk_names = named_bulk or _bulk_among(kinds)
    host = frozenset().union(*(kind.species for kind in kinds if kind.name in bulk_names))
    with_labels = [entry for entry in read if entry.force is not None]
    strongest = max(with_labels, key=lambda entry: entry.force or 0.0)
    candidates = [entry for entry in read if entry.kind in bulk_names]
    calmest = min(candidates, key=lambda e: np.inf if e.force is None else e.force)
    return Survey(
        keys=keys,
        kinds=kinds,
        bulk=tuple(kind.name for kind in kinds if kind.name in bulk_names),
        host=host,
        calmest=calmest.atoms,
        labelled=len(with_labels),
        unlabelled=len(read) - len(with_labels),
        largest_force=strongest.force or 0.0,
        largest_force_in=strongest.where,
        warnings=_warnings(with_labels, strongest, species),
    )


def guessed_keys(atoms: Atoms, path: str) -> LabelKeys:
    """The usual names where a frame has them, else the only similar ones.

    Raises:
        InputError: a label could stand under several names, or under none.
    """
    keys = LabelKeys()
    for name in ("energy", "forces"):
        names = names_like(atoms, name)
        if getattr(keys, name) in names:
            continue
        if len(names) != 1:
            where = name_frame(path, 0, atoms)
            have = f"it could be {', '.join(names)}" if names else "there is none"
            raise InputError(f"{where}: which is its {name}? {have}; say --keys {name}=NAME")
        keys = replace(keys, **{name: names[0]})
    return keys


def _look(
    atoms: Atoms, path: Path, number: int, species: Sequence[str], keys: LabelKeys, must: bool
) -> _Read:
    where = name_frame(path, number, atoms)
    check_frame(atoms, where, species)
    energy = force = None
    if must or has_labels(atoms, keys):
        labels = labels_of(atoms, where, keys)
        energy, force = labels.energy, float(np.linalg.norm(labels.forces, axis=1).max())
    return _Read(atoms, where, config_type(atoms, path, keys), energy, force)


def _kinds(read: Sequence[_Read]) -> tuple[Kind, ...]:
    found = []
    for name in dict.fromkeys(entry.kind for entry in read):
        members = [entry for entry in read if entry.kind == name]
        labels = {entry.force is not None for entry in members}
        if len(labels) > 1:
            raise InputError(
                f"config_type {name}: some of its frames have labels and some have not"
            )
        found.append(
            Kind(
                name,
                len(members),
                frozenset().union(*(entry.atoms.symbols for entry in members)),
                min(_density(entry.atoms) for entry in members),
                labels.pop(),
            )
        )
    return tuple(found)


def _warnings(
    labelled: Sequence[_Read], strongest: _Read, species: Sequence[str]
) -> tuple[str, ...]:
    warnings = []
    if (strongest.force or 0.0) > _STRONG:
        warnings.append(f"a force of {strongest.force:.0f} eV/Å in {strongest.where}: a mistake?")
    sizes = np.array([len(entry.atoms) for entry in labelled], dtype=np.float64)
    if sizes.max() >= 1.5 * sizes.min():
        energies = np.array([entry.energy for entry in labelled])
        counts = np.array(
            [[list(entry.atoms.symbols).count(s) for s in species] for entry in labelled],
            dtype=np.float64,
        )
        total = _misfit(counts, energies) / sizes.mean()
        per_atom = _misfit(counts / sizes[:, None], energies)
        if per_atom < 0.2 * total:
            warnings.append(
                "the energies do not grow with the frames: they look like energies per atom, "
                "where those of whole frames are meant"
            )
    return tuple(warnings)


def _misfit(compositions: Array, energies: Array) -> float:
    """Root mean square of what a sum over the composition leaves of the energies."""
    solution = np.linalg.lstsq(compositions, energies, rcond=None)[0]
    return float(np.sqrt(np.mean((compositions @ solution - energies) ** 2)))


def _density(atoms: Atoms) -> float:
    return len(atoms) / atoms.get_volume() if atoms.pbc.all() else 0.0


def _check_species(kinds: Sequence[Kind], species: Sequence[str]) -> None:
    for symbol in species:
        if not any(symbol in kind.species for kind in kinds):
            raise InputError(f"--species: {symbol} is in no frame")


def _bulk_among(kinds: Sequence[Kind]) -> set[str]:
    """Kinds that are dense and of the elements that all the others have, too."""
    densest = max(kind.density for kind in kinds)
    dense = [kind for kind in kinds if densest > 0 and kind.density >= _DENSE * densest]
    fewest = min((len(kind.species) for kind in dense), default=0)
    bulk = [kind for kind in dense if len(kind.species) == fewest]
    if not bulk or len({kind.species for kind in bulk}) > 1:
        names = ", ".join(kind.name for kind in kinds)
        raise InputError(
            f"which frames are bulk, for the low-fidelity expert? Of {names} none stands out: "
            "give their files with --bulk"
        )
    return {kind.name for kind in bulk}


def shell_gaps(atoms: Atoms) -> list[float]:
    """Distances between the shells of neighbours, where a cutoff cuts through nothing.

    Args:
        atoms: a crystal, as little displaced as there is.

    Returns:
        Å, ascending: the minima of the blurred distribution of distances over 4πr².
    """
    distances = neighbor_list("d", atoms, _SCAN)
    grid = np.arange(2 * _WIDTH, _SCAN - 2 * _WIDTH, _STEP)
    blurred = np.zeros_like(grid)
    for part in np.array_split(distances, max(1, len(distances) // 4096)):
        blurred += np.exp(-(((grid[:, None] - part) / _WIDTH) ** 2) / 2).sum(axis=1)
    density = blurred / grid**2
    inner = np.flatnonzero(density > 0.01 * density.max())
    first = int(inner[0]) if len(inner) else 0
    gaps = []
    for k in range(first + 1, len(grid) - 1):
        # A flat minimum counts once, in its middle.
        if density[k] < density[k - 1] and density[k] <= density[k + 1]:
            end = k
            while end + 1 < len(grid) and density[end + 1] <= density[k] * (1 + 1e-9) + 1e-12:
                end += 1
            if end + 1 < len(grid):
                gaps.append(float(grid[(k + end) // 2]))
    return gaps
