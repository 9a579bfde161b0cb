"""Energies, forces and stresses of a reference method, as files hold them.

Units are eV, Å, eV/Å and eV/Å³; the energy is that of the whole frame. Stress has ASE's sign,
σ = (1/V) dE/dε: positive under tension. A virial is −V σ, in eV.
"""

from __future__ import annotations

import gzip
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from io import StringIO
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import numpy.typing as npt
from ase import Atoms
from ase.io.formats import filetype
from ase.stress import voigt_6_to_full_3x3_stress

from duetto.atoms.geometry import check_geometry_of
from duetto.atoms.unreadable import unreadable
from duetto.errors import InputError
from duetto.files import require_file
from duetto.settings.values import shown, suggestion

Array = npt.NDArray[np.float64]

_WORDS = {
    "energy": ("energy",),
    "forces": ("force",),
    "stress": ("stress", "virial"),
    "virial": ("stress", "virial"),
}
"""What names of a quantity have in common, whichever code wrote them."""

_SIZES = {"energy": ("a number", (1,)), "stress": ("3 × 3 numbers, or 6 in Voigt's order", (6, 9))}


@dataclass(frozen=True)
class LabelKeys:
    """What the files call the labels.

    Attributes:
        energy: total energy of the frame, eV.
        forces: eV/Å, per atom.
        stress: eV/Å³, positive under tension; 6 numbers (xx, yy, zz, yz, xz, xy) or 9.
        virial: eV, −V σ; where it is named, stresses are made from it.
        config_type: the name of a frame's kind.
    """

    energy: str = "energy"
    forces: str = "forces"
    stress: str = "stress"
    virial: str | None = None
    config_type: str = "config_type"

    @classmethod
    def from_dict(cls, data: Mapping[str, Any] | None, where: str = "keys") -> LabelKeys:
        """Read `{energy: REF_energy, …}`; what is left out keeps its usual name.

        Raises:
            InputError: an unknown quantity, a name that is no text, or both stress and virial.
        """
        known = [field.name for field in fields(cls)]
        for name, key in (data or {}).items():
            if name not in known:
                raise InputError(
                    f"{where}: unknown quantity {shown(name)}{suggestion(name, known)}; "
                    f"allowed: {', '.join(known)}"
                )
            if not isinstance(key, str) or not key:
                raise InputError(f"{where}.{name}: got {shown(key)}; allowed: a name in the files")
        if data and "stress" in data and "virial" in data:
            raise InputError(f"{where}: give stress or virial, not both")
        return cls(**(data or {}))

    def to_dict(self) -> dict[str, str]:
        """Only what differs from the usual names."""
        usual = LabelKeys()
        named = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: key for name, key in named.items() if key != getattr(usual, name)}


@dataclass(frozen=True)
class Labels:
    """The labels of one frame.

    Attributes:
        energy: eV, of the whole frame.
        forces: (A, 3) eV/Å.
        stress: (3, 3) eV/Å³, positive under tension; None if it was not asked for.
    """

    energy: float
    forces: Array
    stress: Array | None = None


def parse_keys(words: Sequence[str], where: str) -> LabelKeys:
    """Read `energy=REF_energy forces=REF_forces`, as on a command line.

    Raises:
        InputError: a word that is not of that form, or names no label.
    """
    pairs: dict[str, str] = {}
    for word in words:
        name, equals, key = word.partition("=")
        if not equals:
            raise InputError(f"{where}: got {shown(word)}; write it as energy=REF_energy")
        pairs[name] = key
    return LabelKeys.from_dict(pairs, where)


def read_frames(path: str | Path) -> list[Atoms]:
    """All frames of a file that ASE reads, compressed or not.

    Raises:
        InputError: the file is missing, has no frame, or ASE cannot read it.
    """
    path = Path(path)
    require_file(path, "file of frames")
    try:
        frames = list(_frames(path))
    except Exception as error:  # ASE's readers raise whatever they meet
        raise unreadable(str(path), error) from error
    if not frames:
        raise InputError(f"{path}: there are no frames in it")
    return frames


def _frames(path: Path) -> Iterator[Atoms]:
    if path.suffix != ".gz":
        return ase.io.iread(path, index=":", do_not_split_by_at_sign=True)
    # ASE goes back and forth between frames, which gzip answers by starting over.
    with gzip.open(path, "rt") as stream:
        text = StringIO(stream.read())
    return ase.io.iread(text, index=":", format=filetype(str(path)[:-3], read=False))


def name_frame(path: str | Path, number: int, atoms: Atoms) -> str:
    """Return `labels.xyz, frame 3 (Ni31H)`, counting frames from 0."""
    return f"{path}, frame {number} ({atoms.symbols})"


def config_type(atoms: Atoms, path: str | Path, keys: LabelKeys) -> str:
    """The name of a frame's kind: what the frame says, else its file's name without endings."""
    return str(atoms.info.get(keys.config_type, Path(path).name.partition(".")[0]))


def has_labels(atoms: Atoms, keys: LabelKeys) -> bool:
    """Whether a frame has an energy or forces."""
    return any(_value(atoms, key) is not None for key in (keys.energy, keys.forces))


def labels_of(atoms: Atoms, where: str, keys: LabelKeys, *, stress: bool = False) -> Labels:
    """Read the labels of a frame and check every number.

    Args:
        atoms: the frame.
        where: how messages call it.
        keys: what its file calls the labels.
        stress: read the stress, too.

    Raises:
        InputError: a label is missing, is not a number, or has another size; names `where`, the
            atom, the key, and other names in the frame that it may stand under.
    """
    energy = _numbers(atoms, where, "energy", keys.energy)
    forces = _forces(atoms, where, keys.forces)
    return Labels(float(energy[0]), forces, _stress(atoms, where, keys) if stress else None)


def check_frame(atoms: Atoms, where: str, species: Sequence[str] | None = None) -> None:
    """Refuse a frame that nothing can be learnt from.

    Raises:
        InputError: no atoms, a species that is not listed, or as `check_geometry_of`.
    """
    if len(atoms) == 0:
        raise InputError(f"{where}: there are no atoms")
    for index, symbol in enumerate(atoms.symbols):
        if species is not None and symbol not in species:
            raise InputError(
                f"{where}: atom {index} is {symbol}, which is not among the species "
                f"{', '.join(species)}"
            )
    check_geometry_of(atoms, where)


def _forces(atoms: Atoms, where: str, key: str) -> Array:
    value = _value(atoms, key)
    if value is None:
        raise InputError(_missing(atoms, where, "forces", key))
    try:
        forces = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError):
        raise InputError(f"{where}: {key!r} holds {shown(value)}, not forces") from None
    if forces.shape != (len(atoms), 3):
        raise InputError(
            f"{where}: {key!r} has the shape {forces.shape}; forces have ({len(atoms)}, 3)"
        )
    bad = ~np.isfinite(forces).all(axis=1)
    if bad.any():
        index = int(bad.argmax())
        raise InputError(
            f"{where}, {_atom(atoms, index)}: its force under {key!r} is "
            f"{' '.join(f'{x:g}' for x in forces[index])}"
        )
    return forces


def _stress(atoms: Atoms, where: str, keys: LabelKeys) -> Array:
    if atoms.cell.rank < 3:
        raise InputError(f"{where}: there is no stress without a cell of three vectors")
    name, key = ("stress", keys.stress) if keys.virial is None else ("virial", keys.virial)
    flat = _numbers(atoms, where, name, key)
    tensor = voigt_6_to_full_3x3_stress(flat) if len(flat) == 6 else flat.reshape(3, 3)
    # Files are rounded and some codes do not symmetrise; a hundredth is neither.
    if np.abs(tensor - tensor.T).max() > 0.01 * np.abs(tensor).max():
        raise InputError(f"{where}: the {name} under {key!r} is not symmetric: {flat.tolist()}")
    tensor = (tensor + tensor.T) / 2
    return tensor if keys.virial is None else -tensor / atoms.get_volume()


def _numbers(atoms: Atoms, where: str, name: str, key: str) -> Array:
    """The finite numbers of a label of the whole frame, flat."""
    value = _value(atoms, key)
    if value is None:
        raise InputError(_missing(atoms, where, name, key))
    words, sizes = _SIZES["energy" if name == "energy" else "stress"]
    try:
        numbers = np.asarray(value, dtype=np.float64).ravel()
    except (TypeError, ValueError):
        numbers = np.empty(0)
    if len(numbers) not in sizes:
        raise InputError(f"{where}: {key!r} holds {shown(value)}; allowed: {words}")
    if not np.isfinite(numbers).all():
        raise InputError(f"{where}: the {name} under {key!r} is not finite: {numbers.tolist()}")
    return numbers


def _value(atoms: Atoms, key: str) -> Any:
    """What a frame holds under a name; None if nothing."""
    results = getattr(atoms.calc, "results", {})
    for place in (results, atoms.info, atoms.arrays):
        if key in place:
            return place[key]
    return None


def names_like(atoms: Atoms, name: str) -> list[str]:
    """What a frame calls something that may be this quantity."""
    results = getattr(atoms.calc, "results", {})
    places = (results, atoms.arrays) if name == "forces" else (results, atoms.info)
    names = dict.fromkeys(key for place in places for key in place)
    return [key for key in names if any(word in key.lower() for word in _WORDS[name])]


def _missing(atoms: Atoms, where: str, name: str, key: str) -> str:
    others = names_like(atoms, name)
    if not others:
        return f"{where}: no {name} under {key!r}, nor under a similar name"
    virials = [other for other in others if "virial" in other.lower()]
    given = "virial" if name == "stress" and virials == others else name
    remedy = f"keys: {{{given}: {others[0]}}}"
    return f"{where}: no {name} under {key!r}; it has {', '.join(others)}: say which with {remedy}"


def _atom(atoms: Atoms, index: int) -> str:
    return f"atom {index} ({atoms.symbols[index]})"
