"""What agreement needs: strengths of the two terms, and frames on which they act.

    python scripts/ablations.py --rows bench/results/ablations.csv

Every variant is an LF distilled from the frozen HF of the shipped pair on the bulk frames of
examples/ptco/data, with the same labels, for as many epochs from the same seed. What came out is
measured on held-out bulk and by `duetto validate`'s own numbers at 0 K. Rows that the file holds
are not computed again.
"""

from __future__ import annotations

import argparse
import csv
import importlib
import io
import tempfile
from pathlib import Path
from typing import Any

from ase.io import read, write

from duetto.conversion.pack import pack
from duetto.cotrain.train import train
from duetto.experts.pair import ExpertPair
from duetto.files import atomic_write
from duetto.measure.errors.frames import evaluated_frames
from duetto.measure.errors.tables import summarize
from duetto.validate.config import load_validation
from duetto.validate.validation import case_of

EXAMPLE = Path(__file__).parents[1] / "examples" / "ptco"
DATA = EXAMPLE / "data"
HF = EXAMPLE / "ptco.duetto"

LAMBDAS = {
    "none": (0.0, 0.0),
    "as shipped": (2.0, 0.03),
    "energy alone": (2.0, 0.0),
    "forces alone": (0.0, 0.03),
    "a tenth": (0.2, 0.003),
    "ten times": (20.0, 0.3),
}
"""λ_E (1/eV²) and λ_F (Å²/eV²), on all frames of agreement."""

FRAMES = {
    "cold": {"strain": 0.0, "rattle": 0.03, "vacancies": 0.0},
    "hot": {"strain": 0.0, "rattle": 0.2, "vacancies": 0.0},
    "strained": {"strain": 0.05, "rattle": 0.03, "vacancies": 0.0},
    "defects": {"strain": 0.0, "rattle": 0.03, "vacancies": 1.0},
    "all of these": {"strain": 0.05, "rattle": 0.2, "vacancies": 0.2},
}
"""Agreement on made frames of one sort alone, with the shipped strengths."""

SHORT = (
    "independent=null",
    "surface=null",
    "seam.temperatures_K=[0]",
    "seam.blends_A=[0]",
)
PROPERTIES = ("bulk", "elastic", "vacancy", "seam")


def main() -> None:
    """Train what is missing, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--every", type=int, default=2, help="of the labelled frames")
    parser.add_argument("--rows", type=Path, required=True, metavar="CSV")
    args = parser.parse_args()
    rows = _rows(args.rows)
    done = {(row["varied"], row["variant"]) for row in rows}
    with tempfile.TemporaryDirectory() as folder:
        data = bulk_frames_alone(Path(folder), args.every)
        for varied, name, changes in variants():
            if (varied, name) in done:
                continue
            pair = Path(folder) / "pair.duetto"
            distilled(data, changes, args.epochs).save(pair)
            row = {"varied": varied, "variant": name, "epochs": args.epochs} | measured(pair)
            rows.append({key: str(value) for key, value in row.items()})
            atomic_write(args.rows, as_csv(rows))
            print(row, flush=True)


def variants() -> list[tuple[str, str, list[str]]]:
    """What is varied, how the variant is called, and its changes to the configuration."""
    found = []
    for name, (energy, forces) in LAMBDAS.items():
        words = [f"energy_agreement={energy}", f"force_agreement={forces}"]
        found.append(("strength", name, [*words, 'agreement=["bulk*"]']))
    for name, settings in FRAMES.items():
        # As many frames as the shipped agreement set has.
        made = "_target_: duetto.cotrain.BulkFrames, structure: Pt, number: 204, seed: 1, "
        made += "repeat: [2, 2, 2], lattice_constant: 3.974"
        made += "".join(f", {key}: {value}" for key, value in settings.items())
        words = ["energy_agreement=2.0", "force_agreement=0.03", "agreement=[]"]
        words.append(f"data.train_dataset.unlabelled=[{{{made}}}]")
        found.append(("frames", name, words))
    return found


def bulk_frames_alone(folder: Path, every: int) -> Path:
    """A data folder with so many of the shipped bulk frames, the only ones that train LF."""
    data = folder / "data"
    data.mkdir()
    for path in DATA.glob("*.extxyz.gz"):
        frames = read(path, ":")
        kept = [atoms for atoms in frames if atoms.info["config_type"].startswith(("bulk", "agr"))]
        write(data / path.name, kept[::every])
    return data


def distilled(data: Path, changes: list[str], epochs: int) -> ExpertPair:
    """The shipped HF, frozen, and the LF of this variant."""
    hf = f"{{_target_: duetto.cotrain.ModelFromPair, pair: {HF}, role: hf, "
    hf += "model_dtype: float32, type_names: [Pt, C, O]}"
    with tempfile.TemporaryDirectory() as output:
        words = [
            "~training_module.model.hf",
            f"+training_module.model.hf={hf}",
            "freeze=[hf]",
            "run=[train]",
            "agreement_warmup_steps=0",
            f"epochs={epochs}",
            f"data_folder={data}",
            f"output={output}",
            *changes,
        ]
        train(EXAMPLE / "cotrain.yaml", words)
        pair, _ = pack([str(Path(output) / "last.ckpt")])
    return pair


def measured(path: Path) -> dict[str, float]:
    """HF − LF on held-out bulk and in the crystal."""
    frames = evaluated_frames(
        ExpertPair.load(path),
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
    case = case_of(config, path)
    for name in PROPERTIES:
        case.found.update(importlib.import_module(f"duetto.validate.{name}").measure(case))
    for key in ("lattice_constant_angstrom", "bulk_modulus_gpa", "c11_gpa", "c12_gpa", "c44_gpa"):
        row[f"{key.rsplit('_', 1)[0]}_percent"] = _percent(case.found[key])
    row["vacancy_formation_percent"] = _percent(case.found["vacancy_formation_ev"])
    row["interface_stress_mpa"] = round(case.found["interface_stress_mpa"], 1)
    return row


def _percent(values: dict[str, float]) -> float:
    return round(100 * (values["lf"] / values["hf"] - 1), 3)


def as_csv(rows: list[dict[str, Any]]) -> str:
    """The rows with a header."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _rows(path: Path) -> list[dict[str, Any]]:
    if not path.is_file():
        return []
    with path.open(encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


if __name__ == "__main__":
    main()
