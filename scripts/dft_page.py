"""Put the errors of a pair trained on a DFT set, and of HF trained apart, into docs/labels.md.

    python scripts/dft_page.py                                   # from bench/results/ptco_dft.json
    duetto evaluate joint.duetto DIR/ptco_val.extxyz --groups '*' --crystal fcc:Pt:3.985 --json \
        > joint.json                                             # and the same of apart.duetto
    python scripts/dft_page.py --keep joint.json apart.json --epochs 8

Replaces what stands between the page's marks. The set, and what was trained on it, are not here:
numbers alone are kept. `joint` is from examples/ptco_dft/cotrain.yaml, `apart` from the same
without agreement.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from validation_page import RESULTS, ROOT, between, read_report

from duetto.files import atomic_write
from duetto.measure.bench.rows import provenance

PAGE, ROWS = ROOT / "docs" / "labels.md", RESULTS / "ptco_dft.json"
MARK = "DFT in numbers"
PARTS = ("by_config_type", "by_group", "by_element", "crystal")
"""Of `--groups '*'`, so that there is one group."""
FORCES, ENERGY = "forces_mev_per_angstrom", "energy_mev_per_atom"
LF_KNOWS = "clean_surface"
"""The labelled frames that LF is trained on; what it says of others is no test of it."""


def main(words: Sequence[str] | None = None) -> None:
    """Keep what the command line names, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--keep", type=Path, nargs=2, metavar=("JOINT.json", "APART.json"))
    parser.add_argument("--epochs", type=int, help="of both trainings; goes with --keep")
    args = parser.parse_args(words)
    if (args.keep is None) != (args.epochs is None):
        parser.error("--keep and --epochs go together")
    if args.keep is not None:
        atomic_write(ROWS, json.dumps(kept(*args.keep, args.epochs), indent=1) + "\n")
    atomic_write(PAGE, page_of(PAGE.read_text(encoding="utf-8")))


def kept(joint: Path, apart: Path, epochs: int) -> dict[str, Any]:
    """Numbers of two evaluations, without the names and hashes of what is not here."""
    found = {}
    for name, path in (("joint", joint), ("apart", apart)):
        report = read_report(path)
        found[name] = {"frames": report["frames"]} | {key: report[key] for key in PARTS}
    return {"epochs": epochs, **found, "provenance": provenance()}


def page_of(text: str) -> str:
    """The page with what the kept file says."""
    return between(text, MARK, written(read_report(ROWS)))


def written(rows: dict[str, Any]) -> str:
    """The tables and what the crystal is by each expert, as Markdown."""
    joint, apart = rows["joint"], rows["apart"]
    kinds = joint["by_config_type"] | {"all": joint["by_group"]["*"]}
    others = apart["by_config_type"] | {"all": apart["by_group"]["*"]}
    lines = [
        "| frames | RMS force | HF forces | HF energy | HF apart, forces | HF apart, energy "
        "| LF forces | LF energy |",
        "|---" * 8 + "|",
    ]
    for kind, found in kinds.items():
        cells = [f"{kind}, {found['frames']}", f"{found['rms_force_mev_per_angstrom']:.0f}"]
        for hf in (found["hf"], others[kind]["hf"]):
            cells += [f"{hf[FORCES]:.0f}", f"{hf[ENERGY]:.1f}"]
        lf = found["lf"]
        cells += [f"{lf[FORCES]:.0f}", f"{lf[ENERGY]:.1f}"] if kind == LF_KNOWS else ["", ""]
        lines.append(f"| {' | '.join(cells)} |")
    lines += ["", "Forces by element, meV/Å, all frames:", ""]
    lines += ["| element | RMS force | HF | HF apart |", "|---|---|---|---|"]
    for element, found in joint["by_element"].items():
        off = (x["by_element"][element]["hf"][FORCES] for x in (joint, apart))
        cells = [element, f"{found['rms_force_mev_per_angstrom']:.0f}", *(f"{e:.0f}" for e in off)]
        lines.append(f"| {' | '.join(cells)} |")
    made = rows["provenance"]
    origin = f"{rows['epochs']} epochs, commit {made['commit']}, {made['processor']}."
    return "\n".join([*lines, "", _crystal(joint, apart), "", origin])


def _crystal(joint: dict[str, Any], apart: dict[str, Any]) -> str:
    def says(found: dict[str, Any], role: str) -> str:
        crystal = found["crystal"][role]
        length, modulus = crystal["lattice_constant_angstrom"], crystal["bulk_modulus_gpa"]
        return f"{length:.3f} Å and {modulus:.0f} GPa" if length else "no minimum within 3 %"

    return (
        f"Bulk platinum is in none of the labels. Of the pair, HF says {says(joint, 'hf')}, LF "
        f"{says(joint, 'lf')}; trained apart, HF says {says(apart, 'hf')}, LF {says(apart, 'lf')}."
    )


if __name__ == "__main__":
    main()
