"""Regions that a per-atom column of an extended XYZ file marks."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import ase
import numpy as np
import numpy.typing as npt
from pydantic import PlainValidator

from duetto.errors import InputError
from duetto.partition.regions.region import Mask, ParseRegion
from duetto.settings.fields import Section, count, number, real
from duetto.settings.read import read
from duetto.settings.values import Place, suggestion


@dataclass(frozen=True)
class FileArray:
    """The atoms that a per-atom column of an extended XYZ file marks.

    A column of true and false (or 1 and 0) marks by itself; otherwise `value` marks the atoms
    that have it, `threshold` those that have at least it.
    """

    path: str
    array: str
    frame: int | None
    threshold: float | None
    value: float | str | None
    place: Place = field(compare=False, repr=False)

    def select(self, atoms: ase.Atoms) -> Mask:
        """Return (A,) bool; InputError if the file cannot be read or is of other atoms."""
        marked = self._read()
        self._check_same_atoms(atoms, marked)
        column = self._column(marked)
        is_text = column.dtype.kind in "OU"
        if isinstance(self.value, str) and is_text:
            return np.asarray(column.astype(str) == self.value)
        if is_text or isinstance(self.value, str):
            raise InputError(
                f"{self.place.key}: column {self.array!r} of {self.path} has "
                f"{'text: give a text' if is_text else 'numbers: give a number as'} value"
            )
        return self._compare(column.astype(np.float64))

    def to_dict(self) -> dict[str, Any]:
        """Return `{file: …}`."""
        given = {"frame": self.frame, "threshold": self.threshold, "value": self.value}
        kept = {key: value for key, value in given.items() if value is not None}
        return {"file": {"path": self.path, "array": self.array, **kept}}

    def _compare(self, column: npt.NDArray[np.float64]) -> Mask:
        bad = np.flatnonzero(np.isnan(column))
        if len(bad):
            raise InputError(
                f"{self.place.at('array').key}: {self.array!r} of atom {bad[0]} "
                f"in {self.path} is not a number"
            )
        if self.threshold is not None:
            return np.asarray(column >= self.threshold)
        if self.value is not None:
            return np.asarray(column == self.value)
        if not np.isin(column, (0.0, 1.0)).all():
            raise InputError(
                f"{self.place.key}: column {self.array!r} of {self.path} is not one of true and "
                "false (or 1 and 0); say which atoms it marks with value or threshold"
            )
        return np.asarray(column == 1.0)

    def _read(self) -> ase.Atoms:
        """Read the one frame, and of a file with more only as far as needed."""
        import ase.io  # slow to import

        path = self.place.folder / self.path
        wanted = self.frame or 0
        frames: list[ase.Atoms] = []
        try:
            for frame in ase.io.iread(
                path, index=":", format="extxyz", do_not_split_by_at_sign=True
            ):
                frames.append(frame)
                if len(frames) > (1 if self.frame is None else wanted):
                    break
        except Exception as error:
            # ASE reports a malformed file by whatever exception its parser ran into.
            raise InputError(
                f"{self.place.at('path').key}: frame {len(frames)} of {path} cannot be read "
                f"as extended XYZ: {error}"
            ) from error
        if self.frame is None and len(frames) > 1:
            raise InputError(
                f"{self.place.at('frame').key}: missing; {path} has several frames, counted from 0"
            )
        if len(frames) <= wanted:
            raise self.place.at("frame").refuse(
                wanted, f"less than {len(frames)}, the number of frames in {path}"
            )
        return frames[wanted]

    def _check_same_atoms(self, atoms: ase.Atoms, marked: ase.Atoms) -> None:
        if len(marked) != len(atoms):
            raise InputError(
                f"{self.place.at('path').key}: {self.path} has {len(marked)} atoms, "
                f"the structure {len(atoms)}"
            )
        other = np.flatnonzero(marked.numbers != atoms.numbers)
        if len(other):
            i = int(other[0])
            raise InputError(
                f"{self.place.at('path').key}: atom {i} is {marked.symbols[i]} in {self.path} "
                f"but {atoms.symbols[i]} in the structure; the order must be the same"
            )

    def _column(self, marked: ase.Atoms) -> npt.NDArray[Any]:
        # ASE moves columns with names of its own, such as `charges`, to a calculator.
        results = marked.calc.results if marked.calc is not None else {}
        columns = {
            name: np.asarray(values)
            for name, values in {**results, **marked.arrays}.items()
            if np.shape(values) == (len(marked),)
        }
        if self.array not in columns:
            raise self.place.at("array").refuse(
                self.array,
                f"a column of {self.path} with one value per atom: "
                f"{', '.join(sorted(columns))}{suggestion(self.array, columns)}",
            )
        return columns[self.array]


def _text(value: Any) -> str:
    if isinstance(value, Path):
        value = str(value)
    if not isinstance(value, str) or not value.strip():
        raise ValueError("text that is not empty")
    return value


def _mark(value: Any) -> float | str:
    if isinstance(value, str):
        return value
    # A column of true and false is compared as one of 1 and 0.
    return number(int(value) if isinstance(value, bool) else value, unit="")


class _File(Section):
    path: Annotated[str, PlainValidator(_text)]
    array: Annotated[str, PlainValidator(_text)]
    frame: Annotated[int | None, count(0)] = None
    threshold: Annotated[float | None, real(unit="")] = None
    value: Annotated[float | str | None, PlainValidator(_mark)] = None


def parse_file(value: object, place: Place, _: ParseRegion) -> FileArray:
    """Read the file's name, the column and how the column marks atoms."""
    fields = read(_File, value, place)
    if {"threshold", "value"} <= fields.model_fields_set:
        raise InputError(f"{place.key}: both threshold and value are given; allowed: one of them")
    return FileArray(
        path=fields.path,
        array=fields.array,
        frame=fields.frame,
        threshold=fields.threshold,
        value=fields.value,
        place=place,
    )
