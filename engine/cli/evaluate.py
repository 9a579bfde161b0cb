"""`duetto evaluate`: errors of a pair on a user's frames."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from duetto.partition.regions import Regions


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command and its arguments."""
    parser = subparsers.add_parser(
        "evaluate",
        help="errors of a pair on your frames, and how far its experts are apart",
        description=(
            "Evaluate both experts of a pair on all atoms of the frames, in float64: errors "
            "against the labels by config_type, element and region, and HF − LF in the atoms' "
            "energies and forces. Frames without labels count for the latter. Errors are root mean "
            "squares: of force components in meV/Å, of frames' energies in meV/atom."
        ),
    )
    parser.add_argument("pair", metavar="PAIR.duetto", type=Path)
    parser.add_argument(
        "files", metavar="FILE", nargs="*", help="frames in any format that ASE reads"
    )
    parser.add_argument(
        "--regions", metavar="YAML",
        help="a run's YAML file, or its regions in place: '{complex: {species: [H]}}'",
    )  # fmt: skip
    parser.add_argument(
        "--groups", nargs="+", default=[], metavar="PATTERN",
        help="config_types to be taken together, such as 'bulk*'",
    )  # fmt: skip
    parser.add_argument(
        "--crystal", metavar="CRYSTAL",
        help="lattice constant and bulk modulus of fcc:Pt:3.98, or of a structure file",
    )  # fmt: skip
    parser.add_argument(
        "--keys", nargs="+", default=[], metavar="LABEL=NAME",
        help="what the files call the labels: energy=REF_energy forces=REF_forces",
    )  # fmt: skip
    parser.add_argument("--plot", type=Path, metavar="PNG", help="draw the errors")
    parser.add_argument("--json", action="store_true", help="print JSON, only")


def run(args: argparse.Namespace) -> int:
    """Evaluate and print; return the exit code."""
    from duetto.errors import InputError
    from duetto.files import require_file

    if not args.files and not args.crystal:
        raise InputError("evaluate: give files of frames, or --crystal")
    require_file(args.pair, "pair file")
    for path in args.files:
        require_file(path, "file of frames")
    if args.plot is not None and not (args.files and args.plot.absolute().parent.is_dir()):
        raise InputError(f"--plot {args.plot}: needs files of frames, and a folder that exists")
    result = _evaluate(args)
    if args.json:
        print(json.dumps(result, indent=2))
    else:
        from duetto.measure.errors.tables import markdown

        print(markdown(result))
    return 0


def _evaluate(args: argparse.Namespace) -> dict[str, Any]:
    from duetto.atoms.labels import parse_keys

    keys = parse_keys(args.keys, "--keys")
    regions = None if args.regions is None else _regions(args.regions)

    from duetto.experts.pair import ExpertPair
    from duetto.measure.errors.crystal import equations_of_state, read_crystal
    from duetto.measure.errors.frames import evaluated_frames
    from duetto.measure.errors.tables import summarize

    pair = ExpertPair.load(args.pair)
    result: dict[str, Any] = {"pair": str(args.pair), "content_hash": pair.content_hash}
    if args.files:
        frames = evaluated_frames(pair, args.files, keys, regions)
        result |= summarize(frames, args.groups)
        if args.plot is not None:
            from duetto.files import atomic_write
            from duetto.measure.errors.picture import draw_evaluation

            atomic_write(args.plot, draw_evaluation(result, frames))
    if args.crystal is not None:
        result["crystal"] = equations_of_state(pair, *read_crystal(args.crystal))
    return result


def _regions(text: str) -> Regions:
    """A partition from a run's file, or in place."""
    from duetto.errors import InputError
    from duetto.partition.regions import Regions
    from duetto.settings.yaml import load_yaml, parse_yaml

    path = Path(text)
    if not text.lstrip().startswith("{"):
        data = load_yaml(path)
        if not isinstance(data, dict) or "regions" not in data:
            raise InputError(f"--regions {text}: the file has no key regions")
        return Regions.from_dict(data["regions"], folder=path.absolute().parent)
    return Regions.from_dict(parse_yaml(text, "--regions"), folder=".")
