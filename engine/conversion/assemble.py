"""A pair from files of any kind: nequip's, setfl files, other pairs. Imports nequip if one is.

Which kind a file is, its name says; what is nequip's goes through `duetto.conversion.pack`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from duetto.atoms.unreadable import unreadable
from duetto.environment import package_versions
from duetto.errors import InputError
from duetto.experts.eam.setfl import is_setfl, read_setfl
from duetto.experts.pair import ROLES, ExpertPair
from duetto.files import require_file

if TYPE_CHECKING:
    from duetto.conversion.pack import Packed


def assemble(
    files: Sequence[str] = (),
    hf: str | None = None,
    lf: str | None = None,
    adjust_to: str | None = None,
    *,
    modulus: bool = False,
    correction: bool = False,
) -> tuple[ExpertPair, dict[str, dict[str, float]]]:
    """Build a pair.

    Args:
        files: one nequip file with the models hf and lf; or one file for HF alone; or two.
        hf: file of the HF expert; instead of `files`. A pair file gives its HF expert.
        lf: file of the LF expert; instead of `files`. A pair file gives its LF expert.
        adjust_to: structure file of crystals in which an LF from a setfl file is adjusted to HF.
        modulus: adjust the bulk modulus, too.
        correction: HF is a correction to LF; files of such a training and pairs say so themselves.

    Returns:
        The pair, and for each role that is nequip's the largest deviation from nequip.

    Raises:
        InputError: a file cannot be read or used, or the experts do not go together.
    """
    named = _named(files, hf, lf)
    if adjust_to is not None and not ("hf" in named and is_setfl(named.get("lf", ""))):
        raise InputError("--adjust-to needs an HF expert and an LF from a setfl file")
    foreign = {role: path for role, path in named.items() if not _is_ready(path)}
    found = _from_nequip(files, foreign, whole=len(foreign) == len(named))
    experts: dict[str, Any] = dict(found.experts) if found else {}
    provenance = dict(found.provenance) if found else _made_now()
    for role, path in named.items():
        if role not in foreign:
            experts[role], provenance[role] = _ready(path, role)
    correction = correction or (found is not None and found.correction)
    if adjust_to is not None:
        if correction:
            raise InputError("--adjust-to would change the LF that hf is a correction to")
        from duetto.conversion.adjust import adjust

        experts["lf"], provenance["lf"]["adjusted"] = adjust(
            experts["lf"], experts["hf"], _crystals(adjust_to), adjust_to, modulus=modulus
        )
    if not correction:
        _require_hf_to_know(experts)
    if found is not None:
        from duetto.conversion.pack import made_pair

        return made_pair(experts, found, provenance, correction=correction), found.deviations
    return ExpertPair(experts.get("hf"), experts.get("lf"), provenance, correction), {}


def _require_hf_to_know(experts: dict[str, Any]) -> None:
    """Refuse an HF that lacks a species of LF's."""
    unknown = set(experts["lf"].species) - set(experts["hf"].species) if len(experts) > 1 else ()
    if unknown:
        raise InputError(
            f"the LF expert knows {', '.join(sorted(unknown))}, and the HF expert does not"
        )


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


def _from_nequip(files: Sequence[str], foreign: dict[str, str], *, whole: bool) -> Packed | None:
    """What nequip's files give; None if none is."""
    if not foreign:
        return None
    from duetto.conversion.stack import require_training_stack

    require_training_stack("pack")
    from duetto.conversion.pack import packed

    return packed(files) if whole and files else packed(**foreign)


def _ready(path: str, role: str) -> tuple[Any, dict[str, Any]]:
    """An expert that needs no conversion, and where it comes from."""
    if is_setfl(path):
        expert: Any = read_setfl(path)
        told: dict[str, Any] = {}
    else:
        pair = ExpertPair.load(path)
        if role not in pair.experts:
            raise InputError(f"{path}: holds no expert {role}")
        if role == "hf" and pair.correction:
            raise InputError(f"{path}: its hf is a correction to its own lf, and to no other")
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
