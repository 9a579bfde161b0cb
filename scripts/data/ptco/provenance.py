"""What the committed set contains and where it comes from: PROVENANCE.json and PROVENANCE.md."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from ase import Atoms

from duetto.files import atomic_write

EXPECTED = {
    "lattice_constant": ("Pt lattice constant", "Å", 3.974),
    "bulk_modulus_GPa": ("Pt bulk modulus, Birch-Murnaghan energy fit", "GPa", 241.0),
    "bulk_modulus_pressure_GPa": ("Pt bulk modulus, pressure slope", "GPa", 241.0),
    "co_bond": ("CO bond length", "Å", 1.146),
    "adsorption_top": ("CO adsorption, top", "eV", -1.84),
    "adsorption_bridge": ("CO adsorption, bridge", "eV", None),
    "adsorption_fcc": ("CO adsorption, fcc", "eV", -1.96),
    "adsorption_hcp": ("CO adsorption, hcp", "eV", None),
}


def summarise(frames: list[Atoms]) -> dict:
    """Counts, sizes and label ranges of some frames, for all and by config_type."""
    by_type: dict[str, list[Atoms]] = {}
    for frame in frames:
        by_type.setdefault(frame.info["config_type"], []).append(frame)
    return {
        "frames": len(frames),
        "atoms": sum(map(len, frames)),
        "config_types": {name: _ranges(members) for name, members in sorted(by_type.items())},
    }


def _ranges(frames: list[Atoms]) -> dict:
    sizes = [len(frame) for frame in frames]
    summary = {
        "frames": len(frames),
        "trajectories": len({frame.info["trajectory"] for frame in frames}),
        "atoms_per_frame": [min(sizes), max(sizes)],
    }
    if frames[0].calc is not None:
        energies = [frame.get_potential_energy() / len(frame) for frame in frames]
        forces = np.concatenate([frame.get_forces().ravel() for frame in frames])
        summary |= {
            "energy_per_atom_eV": [round(min(energies), 4), round(max(energies), 4)],
            "force_rms_eV_per_A": round(float(np.sqrt(np.mean(forces**2))), 4),
            "force_largest_eV_per_A": round(float(np.abs(forces).max()), 3),
        }
    return summary


def write_provenance(out: Path, provenance: dict) -> None:
    """Write both files."""
    atomic_write(out / "PROVENANCE.json", json.dumps(provenance, indent=1) + "\n")
    atomic_write(out / "PROVENANCE.md", _as_markdown(provenance))


def _as_markdown(p: dict) -> str:
    further = _driver(p) or _families(p)
    what = "further CO frames come" if further else "Pt+CO reference set comes"
    sections = [
        f"# Where the {what} from",
        "Written by the command below; `PROVENANCE.json` holds the same in full.",
        f"```\n{p['command']}\n```",
        _calculator_text(p),
        _checks_text(p["checks"]),
        _table(p["files"]),
        _reading_text(p),
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def _calculator_text(p: dict) -> str:
    lines = [f"- {key}: {value}" for key, value in p["calculator"].items()]
    lines += [f"- seed: {p['seed']}", f"- finished trajectories: {p['trajectories']}"]
    lines += [f"- sampling and labelling: {p['seconds'] / 60:.0f} min on one core"]
    lines += [f"- frames dropped, a force component above 15 eV/Å: {sum(p['dropped'].values())}"]
    if difference := p["checks"].get("difference_to_stock_chgnet"):
        lines.append(
            "- largest difference to chgnet's own calculator on a frame of each family: "
            f"{difference['energy_per_atom']:.1e} eV/atom, {difference['force']:.1e} eV/Å, "
            f"{difference['stress']:.1e} eV/Å³ (float32 rounding)"
        )
    return "## Labels\n\n" + "\n".join(lines)


def _checks_text(checks: dict) -> str:
    rows = []
    for key, (title, unit, expected) in EXPECTED.items():
        if key in checks:
            known = "" if expected is None else f"{expected}"
            rows.append(f"| {title} | {checks[key]:.4g} {unit} | {known} |")
    if not rows:
        return ""
    head = "| quantity | measured here | CHGNet 0.3, for orientation |\n|---|---|---|"
    return "## Does it behave like Pt and CO?\n\n" + "\n".join([head, *rows])


def _table(files: dict) -> str:
    rows = []
    for name, summary in files.items():
        rows.append(f"\n### {name}: {summary['frames']} frames, {summary['atoms']} atoms\n")
        rows.append("| config_type | frames | runs | atoms | eV/atom | force RMS | largest |")
        rows.append("|---|---|---|---|---|---|---|")
        for kind, r in summary["config_types"].items():
            low, high = r["atoms_per_frame"]
            energy = (
                " to ".join(f"{e:.3f}" for e in r.get("energy_per_atom_eV", [])) or "unlabelled"
            )
            rows.append(
                f"| {kind} | {r['frames']} | {r['trajectories']} | {low}-{high} | {energy} "
                f"| {r.get('force_rms_eV_per_A', '')} | {r.get('force_largest_eV_per_A', '')} |"
            )
    return "## Contents\n" + "\n".join(rows)


def _driver(p: dict) -> str | None:
    return p["calculator"].get("driver")


def _families(p: dict) -> str | None:
    return p["calculator"].get("families")


def _reading_text(p: dict) -> str:
    text = f"## Reading it\n\n{_READING}\n{_DRIVEN if _driver(p) else _OWN_RUNS}"
    return f"{text}\n{_SAME_FAMILIES}" if _families(p) else text


_READING = """\
Extended XYZ, read by ASE directly (`ase.io.read(name, index=":")`; unpacked first it is some 70
times faster, since ASE seeks back for every frame). Energies in eV, forces in eV/Å, stress in
eV/Å³ (ASE's sign); every cell is periodic in three directions, slabs and boxes with 13 Å of vacuum
before their atoms move (their stress is that of the whole cell, vacuum included). `config_type`
names the family, `trajectory` the independent run: no run has frames in two of train, val, test."""

_OWN_RUNS = """\
Adsorbate-free platinum was sampled with ASE's EMT at the scaled lattice constant, everything with
CO and `bulk_*K_*` by the calculator's own Langevin runs (equal masses, 2 fs); every label is the
calculator's."""

_DRIVEN = """\
Surfaces were made hot with ASE's EMT at the scaled lattice constant; then the driver's Langevin
runs (equal masses, 2 fs) took the molecules where the driver would. Every label is the
calculator's. What each family holds is in `scripts/data/ptco/more_families.py`; the families of
the set beside this folder are others, and no run is in both."""

_SAME_FAMILIES = """\
Families are those of the sets beside this folder; the names of these runs end in the seed, and no
run is in two sets."""
