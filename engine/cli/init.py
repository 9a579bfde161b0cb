"""`duetto init`: a training configuration sized to a user's labelled frames."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from duetto.cotrain.draft import Draft


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command and its arguments."""
    parser = subparsers.add_parser(
        "init",
        help="a training configuration, and a run's, sized to your labelled frames",
        description=(
            "Look at labelled frames and write cotrain.yaml, sized to them (cutoffs between the "
            "shells of the bulk, batch and schedule by the number of frames), and a run.yaml to "
            "go with it. Both are short enough to read, and checked."
        ),
    )
    parser.add_argument(
        "--species", nargs="+", required=True, metavar="SYMBOL", help="elements of the experts"
    )
    parser.add_argument(
        "--labelled", nargs="+", required=True, type=Path, metavar="FILE",
        help="frames with energies and forces, in any format that ASE reads",
    )  # fmt: skip
    parser.add_argument(
        "--bulk", nargs="+", default=[], type=Path, metavar="FILE",
        help="frames of bulk, with labels or without; default: found among the labelled ones",
    )  # fmt: skip
    parser.add_argument(
        "--validation", nargs="+", default=[], type=Path, metavar="FILE",
        help="labelled frames kept apart; default: a tenth of the labelled ones",
    )  # fmt: skip
    parser.add_argument(
        "--test", nargs="+", default=[], type=Path, metavar="FILE", help="tested at the end"
    )
    parser.add_argument(
        "--keys", nargs="+", metavar="LABEL=NAME",
        help="what the files call the labels: energy=REF_energy forces=REF_forces virial=virial",
    )  # fmt: skip
    parser.add_argument(
        "-o", "--output", type=Path, default=Path(), metavar="DIR", help="default: here"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace the two files")
    parser.add_argument("--json", action="store_true", help="print what was found as JSON, only")


def run(args: argparse.Namespace) -> int:
    """Look, write and tell; return the exit code."""
    from duetto.atoms.labels import parse_keys
    from duetto.cotrain.draft import Files, draft

    written = draft(
        args.species,
        Files(tuple(args.labelled), tuple(args.bulk), tuple(args.validation), tuple(args.test)),
        args.output,
        None if args.keys is None else parse_keys(args.keys, "--keys"),
        overwrite=args.overwrite,
    )
    print(json.dumps(_summary(written), indent=2) if args.json else "\n".join(_lines(written)))
    return 0


def _summary(draft: Draft) -> dict[str, Any]:
    found = draft.survey
    return {
        "written": [str(path) for path in draft.written],
        "keys": found.keys.to_dict(),
        "config_types": {
            kind.name: {
                "frames": kind.number,
                "species": sorted(kind.species),
                "labelled": kind.labelled,
                "bulk": kind.name in found.bulk,
            }
            for kind in found.kinds
        },
        "largest_force_eV_per_angstrom": found.largest_force,
        "largest_force_in": found.largest_force_in,
        "sets": {
            counts.name: {
                "labelled": counts.labelled,
                "unlabelled": counts.unlabelled,
                "fits": dict(counts.fits),
            }
            for counts in draft.counts
        },
    }


def _lines(draft: Draft) -> list[str]:
    found = draft.survey
    lines = []
    for kind in found.kinds:
        labels = "" if kind.labelled else ", without labels"
        bulk = ", bulk" if kind.name in found.bulk else ""
        elements = " ".join(sorted(kind.species))
        lines.append(f"{kind.name}: {kind.number} frames of {elements}{bulk}{labels}")
    if found.keys.to_dict():
        renamed = ", ".join(f"{name} from {key}" for name, key in found.keys.to_dict().items())
        lines.append(f"labels: {renamed}")
    lines.append(f"largest force: {found.largest_force:.1f} eV/Å, in {found.largest_force_in}")
    lines += [counts.sentence() for counts in draft.counts]
    lines += [f"warning: {warning}" for warning in found.warnings]
    names = " and ".join(str(path) for path in draft.written)
    return [*lines, f"wrote {names}; next: duetto train {draft.written[0]}"]
