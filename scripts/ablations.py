"""What agreement needs: which of HF's answers, and on which frames.

    python scripts/ablations.py --rows bench/results/ablations.csv
    python scripts/ablations.py --rows bench/results/ablations.csv --only 'forces beside energies'

Every variant is a linear LF, fitted by least squares to the HF of the shipped pair, so that what it
shows is not how long something was trained. What came out is measured on held-out bulk and by
`duetto validate`'s own numbers at 0 K.
"""

from __future__ import annotations

import argparse
import csv
import importlib
import tempfile
from pathlib import Path
from typing import Any

from sweep_lf import as_csv

from duetto.cotrain import BulkFrames
from duetto.distil.fit import distil
from duetto.distil.settings import settings_of
from duetto.distil.structures import Structure
from duetto.experts.pair import ExpertPair
from duetto.files import atomic_write
from duetto.measure.errors.frames import evaluated_frames
from duetto.measure.errors.tables import summarize
from duetto.validate.config import load_validation
from duetto.validate.validation import case_of

EXAMPLE = Path(__file__).parents[1] / "examples" / "ptco"
DATA = EXAMPLE / "data"

IGNORED = 1e4
"""eV, eV/Å: so large an error leaves no weight to what is fitted with it."""

WEIGHTS = {
    "energies and forces": (0.003, 0.03, IGNORED),
    "energies alone": (0.003, IGNORED, IGNORED),
    "forces alone": (IGNORED, 0.03, IGNORED),
    "energies, forces and virials": (0.003, 0.03, 0.05),
}
"""What atoms' energies (eV), forces (eV/Å) and virials (eV) weigh, on all sorts of frames."""

BY_FORCES = {
    f"forces to {noise:g} eV/Å": (0.003, noise, IGNORED) for noise in (0.3, 0.1, 0.03, 0.01, 0.003)
}
"""Energies of atoms beside forces that weigh more and more: λ_F/λ_E is the ratio of the squares."""

FRAMES = {
    "cold": {"strain": 0.0, "rattle": 0.03, "vacancies": 0.0},
    "hot": {"strain": 0.0, "rattle": 0.2, "vacancies": 0.0},
    "strained": {"strain": 0.05, "rattle": 0.03, "vacancies": 0.0},
    "defects": {"strain": 0.0, "rattle": 0.03, "vacancies": 1.0},
    "all of these": {"strain": 0.05, "rattle": 0.2, "vacancies": 0.2},
}
"""Frames of one sort alone, energies and forces."""

SHORT = (
    "independent=null",
    "surface=null",
    "seam.temperatures_K=[0]",
    "seam.blends_A=[0]",
)
PROPERTIES = ("bulk", "elastic", "vacancy", "seam")


def main() -> None:
    """Fit, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--number", type=int, default=120, help="of frames, 32 atoms each")
    parser.add_argument("--rows", type=Path, required=True, metavar="CSV")
    parser.add_argument(
        "--only", metavar="VARIED", help="these variants anew; the file's other rows stay"
    )
    args = parser.parse_args()
    both, everything = "energies and forces", "all of these"
    variants = [("fitted to", name, name, everything) for name in WEIGHTS]
    variants += [("forces beside energies", name, name, everything) for name in BY_FORCES]
    variants += [("frames", name, both, name) for name in FRAMES]
    pair, rows = ExpertPair.load(EXAMPLE / "ptco.duetto"), []
    if args.only:
        rows = [row for row in read_rows(args.rows) if row["varied"] != args.only]
        variants = [variant for variant in variants if variant[0] == args.only]
    for varied, name, weights, frames in variants:
        row = {"varied": varied, "variant": name, "frames": args.number}
        rows.append(row | measured(fitted(pair, weights, frames, args.number)))
        atomic_write(args.rows, as_csv(rows))
        print(rows[-1], flush=True)


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Rows as they were written."""
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def fitted(pair: ExpertPair, weights: str, frames: str, number: int) -> ExpertPair:
    """The HF of the pair and a linear LF of this variant."""
    made = BulkFrames(
        "Pt", number, repeat=(2, 2, 2), lattice_constant=3.974, seed=1, **FRAMES[frames]
    )
    structures = [Structure(atoms, f"{k // 10}", frames) for k, atoms in enumerate(made)]
    settings = settings_of({"species": ["Pt"], "noise": list((WEIGHTS | BY_FORCES)[weights])})
    hf = pair.whole_hf()
    return ExpertPair(hf, distil(hf, settings, structures=structures).expert, {})


def measured(pair: ExpertPair) -> dict[str, float]:
    """HF − LF on held-out bulk and in the crystal."""
    frames = evaluated_frames(
        pair,
        [DATA / "bulk_agreement_test.extxyz.gz", DATA / "ptco_chgnet_test.extxyz.gz"],
    )
    groups = summarize(frames, ["bulk_300K*", "bulk_900K*", "bulk_strained", "bulk_vacancy"])
    row: dict[str, float] = {}
    for pattern, rows in groups["by_group"].items():
        key = pattern.rstrip("*").removeprefix("bulk_").lower()
        apart = rows["hf_minus_lf"]
        row[f"forces_{key}_mev_per_angstrom"] = round(apart["forces_mev_per_angstrom"], 2)
        row[f"energies_{key}_mev"] = round(apart["energy_of_atoms_mev"], 3)
    config = load_validation(EXAMPLE / "validate.yaml", SHORT)
    with tempfile.TemporaryDirectory() as folder:
        pair.save(Path(folder) / "pair.duetto")
        case = case_of(config, Path(folder) / "pair.duetto")
    for name in PROPERTIES:
        case.found.update(importlib.import_module(f"duetto.validate.{name}").measure(case))
    for key in ("lattice_constant_angstrom", "bulk_modulus_gpa", "c11_gpa", "c12_gpa", "c44_gpa"):
        row[f"{key.rsplit('_', 1)[0]}_percent"] = _percent(case.found[key])
    row["vacancy_formation_percent"] = _percent(case.found["vacancy_formation_ev"])
    row["interface_stress_mpa"] = round(case.found["interface_stress_mpa"], 1)
    return row


def _percent(values: dict[str, float]) -> float:
    return round(100 * (values["lf"] / values["hf"] - 1), 3)


if __name__ == "__main__":
    main()
