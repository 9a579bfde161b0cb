"""Held-out errors of a pair: against the reference, of its experts against each other.

    python scripts/evaluate_pair.py examples/ptco/ptco.duetto [--twin OTHER.duetto] [--json]

Prints Markdown, or JSON with --json. Force errors are root mean squares per component, errors of
total energies root mean squares per frame, divided by the number of atoms before.
"""

from __future__ import annotations

import argparse
import gzip
import io
import json
from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import torch
from ase import Atoms, units
from ase.build import bulk
from ase.geometry import get_distances

from duetto.errors import InputError
from duetto.experts.pair import ExpertPair
from duetto.potential.mixture import Potential

DATA = Path(__file__).parents[1] / "examples" / "ptco" / "data"
SHELL = 5.0
"""Å; platinum this close to C or O counts as being next to it."""
SCAN = 0.03
"""Largest change of the lattice constant in the equation of state; its cube is the volume's."""


def main() -> None:
    """Evaluate the pairs named on the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pair", metavar="PAIR.duetto")
    parser.add_argument("--twin", metavar="PAIR.duetto", help="independently trained experts")
    parser.add_argument("--data", metavar="DIR", type=Path, default=DATA, help=f"default: {DATA}")
    parser.add_argument("--json", action="store_true", help="print JSON")
    args = parser.parse_args()
    files = {"pair": args.pair} | ({"twin": args.twin} if args.twin else {})
    try:
        results = {name: evaluate(ExpertPair.load(path), args.data) for name, path in files.items()}
    except (InputError, OSError) as error:
        parser.error(str(error))
    print(json.dumps(results, indent=2) if args.json else markdown(results))


def evaluate(pair: ExpertPair, data: Path) -> dict[str, Any]:
    """All numbers of a pair with both experts."""
    labelled = [Frame(pair, atoms) for atoms in read_frames(data / "ptco_chgnet_test.extxyz.gz")]
    shared = [Frame(pair, atoms) for atoms in read_frames(data / "bulk_agreement_test.extxyz.gz")]
    bulk_frames = [f for f in (*labelled, *shared) if f.name.startswith("bulk")]
    covered = [f for f in labelled if f.name.startswith("co_")]
    return {
        "content_hash": pair.content_hash,
        "hf_on_co_covered": errors(covered, "hf"),
        "hf_on_bulk": errors(bulk_frames, "hf"),
        "lf_on_bulk": errors(bulk_frames, "lf"),
        "agreement": {
            temperature: agreement([f for f in shared if temperature in f.name])
            for temperature in ("300K", "900K")
        },
        "platinum": {role: equation_of_state(pair, role) for role in ("hf", "lf")},
        "hf_by_config_type": grouped(labelled, lambda f: [(f.name, np.full(len(f.atoms), True))]),
        "hf_by_region": grouped(labelled, regions),
    }


class Frame:
    """A frame with its labels, and both experts on all of its atoms.

    Attributes:
        atoms: the structure.
        name: its config_type.
        energy, forces: the labels, eV and eV/Å.
        experts: for "hf" and "lf" the energies of the atoms (A,) and the forces (A, 3).
    """

    def __init__(self, pair: ExpertPair, atoms: Atoms):
        self.atoms = atoms
        self.name = str(atoms.info["config_type"])
        self.energy, self.forces = atoms.get_potential_energy(), atoms.get_forces()
        self.experts = {role: evaluate_expert(pair, role, atoms) for role in ("hf", "lf")}

    def force_errors(self, role: str) -> np.ndarray:
        """(A, 3) eV/Å."""
        return self.experts[role][1] - self.forces

    def energy_error(self, role: str) -> float:
        """Of the frame, eV per atom."""
        return float(self.experts[role][0].sum() - self.energy) / len(self.atoms)


def read_frames(path: Path) -> list[Atoms]:
    """Frames of a compressed extended XYZ file."""
    with gzip.open(path, "rt") as stream:
        return list(ase.io.iread(io.StringIO(stream.read()), index=":", format="extxyz"))


def evaluate_expert(pair: ExpertPair, role: str, atoms: Atoms) -> tuple[np.ndarray, np.ndarray]:
    """Energies of atoms (A,) and forces (A, 3) by one expert alone."""
    weights = np.full(len(atoms), 1.0 if role == "hf" else 0.0)
    potential = Potential(pair, list(atoms.symbols), weights, atoms.pbc, dtype="float64", skin=0.0)
    result = potential.evaluate(torch.tensor(atoms.positions), torch.tensor(atoms.cell.array))
    return result.energies.numpy(), result.forces.numpy()


def errors(frames: list[Frame], role: str) -> dict[str, float]:
    """Force and energy errors over some frames."""
    forces = np.concatenate([frame.force_errors(role) for frame in frames])
    return {
        "frames": len(frames),
        "forces_mev_per_angstrom": 1e3 * rms(forces),
        "energy_mev_per_atom": 1e3 * rms([frame.energy_error(role) for frame in frames]),
    }


def agreement(frames: list[Frame]) -> dict[str, float]:
    """How far the experts are apart, atom by atom."""
    energies = [frame.experts["hf"][0] - frame.experts["lf"][0] for frame in frames]
    forces = [frame.experts["hf"][1] - frame.experts["lf"][1] for frame in frames]
    scale = rms(np.concatenate([frame.forces for frame in frames]))
    difference = rms(np.concatenate(forces))
    return {
        "frames": len(frames),
        "energy_per_atom_mev": 1e3 * rms(np.concatenate(energies)),
        "forces_mev_per_angstrom": 1e3 * difference,
        "forces_percent_of_rms": 100 * difference / scale,
    }


def equation_of_state(pair: ExpertPair, role: str) -> dict[str, float]:
    """Lattice constant and bulk modulus of fcc platinum, by a Birch-Murnaghan fit of energies.

    That equation is a cubic polynomial of x = V^(-2/3) (Birch, Phys. Rev. 71, 809, 1947).
    """
    a = 3.97
    for _ in range(2):  # the second time around the minimum itself
        crystals = [bulk("Pt", a=a * (1 + strain)) for strain in np.linspace(-SCAN, SCAN, 13)]
        energies = [float(evaluate_expert(pair, role, crystal)[0][0]) for crystal in crystals]
        x = np.array([crystal.get_volume() for crystal in crystals]) ** (-2 / 3)
        curve = np.polynomial.Polynomial.fit(x, energies, 3)
        slope, curvature = curve.deriv(), curve.deriv(2)
        roots = [r.real for r in slope.roots() if abs(r.imag) < 1e-12 and curvature(r.real) > 0]
        minima = [root for root in roots if x.min() < root < x.max()]
        if not minima:
            raise InputError(f"{role}: no minimum of platinum's energy within {SCAN:.0%} of {a} Å")
        volume = minima[0] ** (-3 / 2)
        a = float((4 * volume) ** (1 / 3))
    # dE/dx is zero there, so V d²E/dV² has one term, with dx/dV = −2x / 3V.
    modulus = volume * curvature(minima[0]) * (2 * minima[0] / (3 * volume)) ** 2
    return {"lattice_constant_angstrom": a, "bulk_modulus_gpa": float(modulus / units.GPa)}


def regions(frame: Frame) -> list[tuple[str, np.ndarray]]:
    """Parts of a frame by what the atoms are and where."""
    symbols = np.array(frame.atoms.get_chemical_symbols())
    metal = symbols == "Pt"
    parts = [(f"{symbol} of CO", symbols == symbol) for symbol in ("C", "O")]
    if frame.name.startswith("bulk"):
        return [("Pt in bulk", metal)]
    if metal.all():
        return [("Pt of clean slabs", metal)]
    if metal.any():
        near = np.zeros(len(symbols), dtype=bool)
        positions = frame.atoms.positions
        _, distances = get_distances(
            positions[metal], positions[~metal], cell=frame.atoms.cell, pbc=frame.atoms.pbc
        )
        near[metal] = distances.min(axis=1) < SHELL
        parts += [
            (f"Pt within {SHELL:g} Å of C or O", near),
            (f"Pt below CO, beyond {SHELL:g} Å", metal & ~near),
        ]
    return parts


def grouped(
    frames: Iterable[Frame], parts: Callable[[Frame], list[tuple[str, np.ndarray]]]
) -> dict[str, dict[str, float]]:
    """Force errors of HF by part."""
    found: dict[str, list[np.ndarray]] = defaultdict(list)
    labels: dict[str, list[np.ndarray]] = defaultdict(list)
    for frame in frames:
        for name, atoms in parts(frame):
            found[name].append(frame.force_errors("hf")[atoms])
            labels[name].append(frame.forces[atoms])
    return {
        name: {
            "atoms": sum(map(len, found[name])),
            "rms_force_mev_per_angstrom": 1e3 * rms(np.concatenate(labels[name])),
            "forces_mev_per_angstrom": 1e3 * rms(np.concatenate(found[name])),
        }
        for name in sorted(found)
        if sum(map(len, found[name]))
    }


def rms(values: Any) -> float:
    """Root mean square."""
    return float(np.sqrt(np.mean(np.square(values))))


def markdown(results: dict[str, dict[str, Any]]) -> str:
    """All numbers as tables."""
    names = list(results)
    lines = ["| quantity | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]

    def row(label: str, value: Callable[[dict[str, Any]], float], form: str) -> None:
        cells = " | ".join(format(value(results[name]), form) for name in names)
        lines.append(f"| {label} | {cells} |")

    for key, label in (
        ("hf_on_co_covered", "HF on CO-covered frames"),
        ("hf_on_bulk", "HF on bulk"),
        ("lf_on_bulk", "LF on bulk"),
    ):
        row(f"{label}, forces, meV/Å", lambda r, k=key: r[k]["forces_mev_per_angstrom"], ".1f")
        row(f"{label}, energy, meV/atom", lambda r, k=key: r[k]["energy_mev_per_atom"], ".2f")
    for t in ("300K", "900K"):
        label = f"HF − LF in bulk at {t.removesuffix('K')} K"
        row(f"{label}, atoms' energies, meV", _agreed(t, "energy_per_atom_mev"), ".2f")
        row(f"{label}, forces, meV/Å", _agreed(t, "forces_mev_per_angstrom"), ".1f")
        row(f"{label}, forces, % of RMS force", _agreed(t, "forces_percent_of_rms"), ".1f")
    for role in ("hf", "lf"):
        row(
            f"Pt lattice constant by {role.upper()}, Å",
            lambda r, k=role: r["platinum"][k]["lattice_constant_angstrom"],
            ".4f",
        )
        row(
            f"Pt bulk modulus by {role.upper()}, GPa",
            lambda r, k=role: r["platinum"][k]["bulk_modulus_gpa"],
            ".1f",
        )
    for key, title in (("hf_by_region", "element and region"), ("hf_by_config_type", "frames")):
        lines += ["", f"HF's force errors, meV/Å, by {title}:", ""]
        lines += ["| " + title + " | atoms | RMS force | " + " | ".join(names) + " |"]
        lines += ["|---" * (len(names) + 3) + "|"]
        for part, values in results[names[0]][key].items():
            cells = [f"{results[name][key][part]['forces_mev_per_angstrom']:.1f}" for name in names]
            scale = f"{values['rms_force_mev_per_angstrom']:.0f}"
            lines.append(f"| {part} | {values['atoms']} | {scale} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _agreed(temperature: str, key: str) -> Callable[[dict[str, Any]], float]:
    return lambda result: result["agreement"][temperature][key]


if __name__ == "__main__":
    main()
