"""A pair from files of any kind: nequip's, setfl files, other pairs. Imports nequip if one is.

Which kind a file is, its name says; what is nequip's goes through `duetto.conversion.pack`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from duetto.atoms.unreadable import unreadable
from duetto.environment import package_versions
from duetto.errors import InputError
from duetto.experts.eam.setfl import is_setfl, read_setfl
from duetto.experts.pair import ROLES, ExpertPair
from duetto.files import require_file


def assemble(
    files: Sequence[str] = (),
    hf: str | None = None,
    lf: str | None = None,
    adjust_to: str | None = None,
    *,
    modulus: bool = False,
) -> tuple[ExpertPair, dict[str, dict[str, float]]]:
    """Build a pair.

    Args:
        files: one nequip file with the models hf and lf; or one file for HF alone; or two.
        hf: file of the HF expert; instead of `files`. A pair file gives its HF expert.
        lf: file of the LF expert; instead of `files`. A pair file gives its LF expert.
        adjust_to: structure file of crystals in which an LF from a setfl file is adjusted to HF.
        modulus: adjust the bulk modulus, too.

    Returns:
        The pair, and for each role that is nequip's the largest deviation from nequip.

    Raises:
        InputError: a file cannot be read or used, or the experts do not go together.
    """
    named = _named(files, hf, lf)
    if adjust_to is not None and not ("hf" in named and is_setfl(named.get("lf", ""))):
        raise InputError("--adjust-to needs an HF expert and an LF from a setfl file")
    foreign = {role: path for role, path in named.items() if not _is_ready(path)}
    pair, deviations = _from_nequip(files, foreign, whole=len(foreign) == len(named))
    experts: dict[str, Any] = dict(pair.experts) if pair else {}
    provenance = dict(pair.provenance) if pair else _made_now()
    for role, path in named.items():
        if role not in foreign:
            experts[role], provenance[role] = _ready(path, role)
    if adjust_to is not None:
        from duetto.conversion.adjust import adjust

        experts["lf"], provenance["lf"]["adjusted"] = adjust(
            experts["lf"], experts["hf"], _crystals(adjust_to), adjust_to, modulus=modulus
        )
    unknown = set(experts["lf"].species) - set(experts["hf"].species) if len(experts) > 1 else ()
    if unknown:
        raise InputError(
            f"the LF expert knows {', '.join(sorted(unknown))}, and the HF expert does not"
        )
    return ExpertPair(experts.get("hf"), experts.get("lf"), provenance), deviations


def _named(files: Sequence[str], hf: str | None, lf: str | None) -> dict[str, str]:
    """The file of each role; a single file stands under HF, whatever it holds."""
    named = {role: path for role, path in (("hf", hf), ("lf", lf)) if path is not None}
    if files and named:
        raise InputError("give the files either in order or as --hf and --lf, not both")
    if len(files) > 2 or not (files or named):
        raise InputError("pack takes one co-trained checkpoint, or a file for HF and one for LF")
    return named or dict(zip(ROLES, files, strict=False))


def _is_ready(path: str) -> bool:
    return is_setfl(path) or path.endswith(".duetto")


def _from_nequip(
    files: Sequence[str], foreign: dict[str, str], *, whole: bool
) -> tuple[ExpertPair | None, dict[str, dict[str, float]]]:
    """What nequip's files give."""
    if not foreign:
        return None, {}
    from duetto.conversion.stack import require_training_stack

    require_training_stack("pack")
    from duetto.conversion.pack import pack

    return pack(files) if whole and files else pack(**foreign)


def _ready(path: str, role: str) -> tuple[Any, dict[str, Any]]:
    """An expert that needs no conversion, and where it comes from."""
    if is_setfl(path):
        expert: Any = read_setfl(path)
        told: dict[str, Any] = {}
    else:
        pair = ExpertPair.load(path)
        if role not in pair.experts:
            raise InputError(f"{path}: holds no expert {role}")
        expert, told = pair.experts[role], dict(pair.provenance.get(role, {}))
    digest = hashlib.sha256(Path(path).read_bytes()).hexdigest()
    return expert, {**told, "file": Path(path).name, "sha256": digest}


def _made_now() -> dict[str, Any]:
    return {
        "packed": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": package_versions(("duetto", "torch")),
    }


def _crystals(path: str) -> list[Any]:
    from ase.io import read

    require_file(path, "structure file")
    try:
        frames = read(path, index=":")
    except Exception as error:  # whatever ASE's readers meet
        raise unreadable(path, error) from error
    return list(frames)
