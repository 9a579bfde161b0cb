"""The crystal's numbers on the page: bulk response and phonons."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_BULK = (
    ("lattice_constant_angstrom", "lattice constant, Å", ".4f"),
    ("bulk_modulus_gpa", "bulk modulus, GPa", ".1f"),
    ("c11_gpa", "C11, GPa", ".1f"),
    ("c12_gpa", "C12, GPa", ".1f"),
    ("c44_gpa", "C44, GPa", ".1f"),
    ("", "(C11 + 2 C12)/3, GPa", ".1f"),
    ("vacancy_formation_ev", "vacancy formation, eV", ".3f"),
)
"""Keys, names and forms; without a key: `modulus_of_stresses`."""


def bulk_table(found: Mapping[str, Any]) -> str:
    """Both experts, their difference, the mixture and the reference where it is known."""
    lines = ["| property | HF | LF | LF − HF | mixture | reference |", "|---|---|---|---|---|---|"]
    for key, name, form in _BULK:
        row = found[key] if key else modulus_of_stresses(found)
        percent = 100 * (row["lf"] / row["hf"] - 1)
        reference = format(row["reference"], form) if "reference" in row else ""
        lines.append(
            f"| {name} | {row['hf']:{form}} | {row['lf']:{form}} | {percent:+.3g} % "
            f"| {row['mixture']:{form}} | {reference} |"
        )
    return "\n".join(lines)


def modulus_of_stresses(found: Mapping[str, Any]) -> dict[str, float]:
    """The bulk modulus of a cubic crystal from its elastic constants, GPa, by whose they are."""
    c11, c12 = found["c11_gpa"], found["c12_gpa"]
    return {who: (c11[who] + 2 * c12[who]) / 3 for who in c11 if who in c12}


def phonon_table(found: Mapping[str, Any]) -> list[str]:
    """Frequencies of both experts by point of the zone."""
    lines = ["| point | HF | LF | difference |", "|---|---|---|---|"]
    for point, row in found["phonon_thz"].items():
        hf, lf = (", ".join(f"{x:.2f}" for x in row[who]) for who in ("hf", "lf"))
        lines.append(f"| {point} | {hf} | {lf} | {row['largest_difference']:.3f} |")
    return lines
