"""Errors by kind of frame, element and region, as plain numbers and as tables."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from fnmatch import fnmatchcase
from typing import Any

import numpy as np
import numpy.typing as npt

from duetto.measure.errors.frames import MIXTURE, EvaluatedFrame

Array = npt.NDArray[np.float64]
Part = tuple[str, npt.NDArray[np.bool_]]
Row = dict[str, Any]

PREDICTIONS = ("hf", "lf", MIXTURE)
UNITS = (
    "Root mean squares: force components in meV/Å, energies of frames in meV/atom, of atoms in meV."
)
_TITLES = {"hf": "HF", "lf": "LF", MIXTURE: "mixture"}
_PAIRS = {"hf_minus_lf": ("hf", "lf"), "mixture_minus_hf": (MIXTURE, "hf")}


def summarize(frames: Sequence[EvaluatedFrame], groups: Sequence[str] = ()) -> dict[str, Any]:
    """All numbers, by kind of frame, element and region.

    Args:
        frames: evaluated frames.
        groups: patterns of config_types that get a row of their own.

    Returns:
        Tables `by_config_type`, `by_group`, `by_element` and, with a partition, `by_region`; each
        is a mapping of names to rows. Force errors are root mean squares per component, meV/Å;
        energies of frames root mean squares per atom, of atoms (HF − LF) root mean squares, meV.
    """
    tables: dict[str, Any] = {
        "frames": len(frames),
        "labelled_frames": sum(frame.labels is not None for frame in frames),
        "by_config_type": _table(frames, lambda frame: [(frame.name, _all(frame))], whole=True),
    }
    if groups:
        tables["by_group"] = _table(
            frames,
            lambda frame: [(p, _all(frame)) for p in groups if fnmatchcase(frame.name, p)],
            whole=True,
        )
    tables["by_element"] = _table(frames, _elements)
    if any(frame.weights is not None for frame in frames):
        tables["by_region"] = _table(frames, _regions)
    return tables


def _all(frame: EvaluatedFrame) -> npt.NDArray[np.bool_]:
    return np.ones(len(frame.atoms), dtype=bool)


def _elements(frame: EvaluatedFrame) -> Iterator[Part]:
    symbols = np.array(frame.atoms.get_chemical_symbols())
    for symbol in dict.fromkeys(symbols.tolist()):
        yield symbol, symbols == symbol


def _regions(frame: EvaluatedFrame) -> Iterator[Part]:
    w = frame.weights
    if w is None:
        return
    for region, inside in (("complex", w == 1), ("blend", (w > 0) & (w < 1)), ("simple", w == 0)):
        for symbol, atoms in _elements(frame):
            yield f"{region} {symbol}", inside & atoms


def _table(
    frames: Sequence[EvaluatedFrame],
    parts: Callable[[EvaluatedFrame], Iterator[Part] | list[Part]],
    whole: bool = False,
) -> dict[str, Row]:
    found: dict[str, list[tuple[EvaluatedFrame, npt.NDArray[np.bool_]]]] = {}
    for frame in frames:
        for name, atoms in parts(frame):
            if atoms.any():
                found.setdefault(name, []).append((frame, atoms))
    return {name: _row(found[name], whole) for name in sorted(found)}


def _row(members: list[tuple[EvaluatedFrame, npt.NDArray[np.bool_]]], whole: bool) -> Row:
    row: Row = {"frames": len(members), "atoms": sum(int(atoms.sum()) for _, atoms in members)}
    labelled = [(f, f.labels, atoms) for f, atoms in members if f.labels is not None]
    if labelled:
        forces = np.concatenate([labels.forces[atoms] for _, labels, atoms in labelled])
        row["rms_force_mev_per_angstrom"] = 1e3 * rms(forces)
    for name in PREDICTIONS:
        known = [entry for entry in labelled if name in entry[0].computed]
        if known:
            differences = [f.computed[name].forces[a] - x.forces[a] for f, x, a in known]
            row[name] = {"forces_mev_per_angstrom": 1e3 * rms(np.concatenate(differences))}
        if known and whole:
            energies = [
                (f.computed[name].energies.sum() - labels.energy) / len(f.atoms)
                for f, labels, _ in known
            ]
            row[name]["energy_mev_per_atom"] = 1e3 * rms(energies)
    for key, (first, second) in _PAIRS.items():
        both = [(f, a) for f, a in members if first in f.computed and second in f.computed]
        if both:
            row[key] = _apart(both, first, second)
    return row


def _apart(
    members: list[tuple[EvaluatedFrame, npt.NDArray[np.bool_]]], first: str, second: str
) -> dict[str, float]:
    one = [(f.computed[first], f.computed[second], a) for f, a in members]
    forces = rms(np.concatenate([x.forces[a] - y.forces[a] for x, y, a in one]))
    scale = rms(np.concatenate([y.forces[a] for _, y, a in one]))
    apart = {"forces_mev_per_angstrom": 1e3 * forces, "rms_force_mev_per_angstrom": 1e3 * scale}
    if first != MIXTURE:  # atoms' energies; the mixture's are those of its experts
        energies = np.concatenate([x.energies[a] - y.energies[a] for x, y, a in one])
        apart["energy_of_atoms_mev"] = 1e3 * rms(energies)
    return apart


def rms(values: Any) -> float:
    """Root mean square."""
    return float(np.sqrt(np.mean(np.square(values))))


def markdown(result: dict[str, Any]) -> str:
    """The tables, for people."""
    titles = {
        "by_config_type": "config_type",
        "by_group": "group",
        "by_element": "element",
        "by_region": "region",
    }
    parts = [_markdown(title, result[key]) for key, title in titles.items() if key in result]
    if "crystal" in result:
        parts.append(_crystal(result["crystal"]))
    if "frames" in result:
        parts.insert(0, UNITS)
    return "\n\n".join(parts)


_COLUMNS: tuple[tuple[str, str, str, str], ...] = (
    *(
        (role, key, f"{title} {word}", form)
        for role, title in _TITLES.items()
        for key, word, form in (
            ("forces_mev_per_angstrom", "forces", ".1f"),
            ("energy_mev_per_atom", "energy", ".2f"),
        )
    ),
    ("hf_minus_lf", "forces_mev_per_angstrom", "HF − LF forces", ".1f"),
    ("hf_minus_lf", "energy_of_atoms_mev", "HF − LF energy of atoms", ".2f"),
    ("mixture_minus_hf", "forces_mev_per_angstrom", "mixture − HF forces", ".1f"),
)


def _markdown(title: str, rows: dict[str, Row]) -> str:
    used = [c for c in _COLUMNS if any(c[1] in row.get(c[0], {}) for row in rows.values())]
    forces = any("rms_force_mev_per_angstrom" in row for row in rows.values())
    head = [title, "atoms", *(["RMS force"] if forces else []), *(name for _, _, name, _ in used)]
    lines = [" | ".join(head), "|".join(["---"] * len(head))]
    for name, row in rows.items():
        cells = [name, str(row["atoms"])]
        if forces:
            cells.append(_cell(row.get("rms_force_mev_per_angstrom"), ".0f"))
        cells += [_cell(row.get(role, {}).get(key), form) for role, key, _, form in used]
        lines.append(" | ".join(cells))
    return "\n".join(f"| {line} |" if "---" not in line else f"|{line}|" for line in lines)


def _cell(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)


def _crystal(crystal: dict[str, Any]) -> str:
    lines = [f"| {crystal['name']} | a, Å | bulk modulus, GPa |", "|---|---|---|"]
    for role in ("hf", "lf"):
        if role in crystal:
            found = crystal[role]
            lines.append(
                f"| {_TITLES[role]} | {found['lattice_constant_angstrom']:.4f} "
                f"| {found['bulk_modulus_gpa']:.1f} |"
            )
    return "\n".join(lines)
