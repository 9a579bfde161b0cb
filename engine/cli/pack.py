"""`duetto pack`: nequip's files, LAMMPS setfl files and other pairs to a pair file."""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from duetto.experts.pair import ExpertPair


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command and its arguments."""
    parser = subparsers.add_parser(
        "pack",
        help="nequip checkpoints or packages, or LAMMPS setfl files, to a pair file",
        description=(
            "Make a pair file of nequip checkpoints (.ckpt) or packages (.nequip.zip), LAMMPS "
            "setfl files (.eam.alloy, .eam.fs) and experts of other pair files (.duetto). Averaged "
            "weights (EMA) are taken where there are any. Before the file is written, each expert "
            "of nequip's is compared with nequip's own evaluation in float64."
        ),
    )
    parser.add_argument(
        "files",
        metavar="FILE",
        nargs="*",
        help="one co-trained checkpoint, or one file for HF alone, or two: HF and LF",
    )
    parser.add_argument("--hf", metavar="FILE", help="file of the high-fidelity expert")
    parser.add_argument("--lf", metavar="FILE", help="file of the low-fidelity expert")
    parser.add_argument(
        "--adjust-to",
        metavar="CRYSTAL",
        help=(
            "structure file of perfect crystals: scale the distances of an LF from a setfl file so "
            "that it has HF's lattice constant there (the first), and shift its energy of each "
            "species to HF's (all of them)"
        ),
    )
    parser.add_argument(
        "--adjust-modulus",
        action="store_true",
        help="with --adjust-to: scale its energy, too, to HF's bulk modulus",
    )
    parser.add_argument(
        "--correction",
        action="store_true",
        help="HF is a correction to LF: E = E(LF) + E(HF file); checkpoints of duetto train say so",
    )
    parser.add_argument(
        "-o", "--output", metavar="PAIR.duetto", required=True, help="the pair file to write"
    )
    parser.add_argument("--json", action="store_true", help="print what was packed as JSON, only")


def run(args: argparse.Namespace) -> int:
    """Pack; return the exit code."""
    from duetto.cli.target import pair_target
    from duetto.errors import InputError

    target = pair_target(args.output)

    os.environ.setdefault("_NEQUIP_LOG_LEVEL", "WARNING")  # it tells of every file it opens
    from duetto.conversion.assemble import assemble

    if args.adjust_modulus and args.adjust_to is None:
        raise InputError("--adjust-modulus: needs --adjust-to and a crystal")
    pair, deviations = assemble(
        args.files,
        args.hf,
        args.lf,
        args.adjust_to,
        modulus=args.adjust_modulus,
        correction=args.correction,
    )
    pair.save(target)
    summary = _summary(pair, deviations, target)
    print(json.dumps(summary, indent=2) if args.json else "\n".join(_lines(summary)))
    return 0


def _summary(
    pair: ExpertPair, deviations: dict[str, dict[str, float]], target: Path
) -> dict[str, Any]:
    return {
        "pair": str(target),
        "content_hash": pair.content_hash,
        "species": list(pair.species),
        "hf_form": "correction" if pair.correction else "whole",
        "experts": {
            role: {
                "kind": expert.kind,
                "architecture": expert.to_json(),
                "parameters": sum(tensor.numel() for tensor in expert.to_tensors().values()),
                **({"deviation_from_nequip": deviations[role]} if role in deviations else {}),
                "provenance": pair.provenance.get(role, {}),
            }
            for role, expert in pair.experts.items()
        },
    }


def _lines(summary: dict[str, Any]) -> list[str]:
    lines = []
    for role, expert in summary["experts"].items():
        a, source = expert["architecture"], expert["provenance"]
        if "deviation_from_nequip" not in expert:
            lines += _ready_lines(role, expert)
            continue
        lines.append(
            f"{role}: {source['file']}, l_max {a['l_max']}, {_layers(a)}, "
            f"{a['num_scalar_features']}/{a['num_tensor_features']} features, {a['r_max']} Å; "
            f"within {max(expert['deviation_from_nequip'].values()):.0e} of nequip in float64"
        )
    if summary["hf_form"] == "correction":
        lines.append("hf is a correction to lf")
    return [*lines, f"wrote {summary['pair']} ({', '.join(summary['species'])})"]


def _ready_lines(role: str, expert: dict[str, Any]) -> list[str]:
    """What is told of an expert that is not nequip's."""
    lines = [f"{role}: {expert['provenance']['file']}, kind {expert['kind']}"]
    adjusted = expert["provenance"].get("adjusted")
    if adjusted is not None:
        length, modulus = adjusted["length"], adjusted["modulus_GPa"]
        shifts = ", ".join(f"{name} {value:+.4f}" for name, value in adjusted["shift_eV"].items())
        lines.append(
            f"    in {adjusted['crystal']}: lattice {length['before'] / length['hf']:.5f} → "
            f"{length['after'] / length['hf']:.5f} of HF's, bulk modulus {modulus['before']:.1f} → "
            f"{modulus['after']:.1f} GPa (HF {modulus['hf']:.1f}); shift in eV: {shifts}"
        )
    return lines


def _layers(architecture: dict[str, Any]) -> str:
    n = architecture["num_layers"]
    return f"{n} layer" if n == 1 else f"{n} layers"
