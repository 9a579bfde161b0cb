"""Make the Pt+CO reference set: sample, label, split, export, and say where it comes from.

    python scripts/data/make_ptco.py --calculator chgnet --out examples/ptco/data --seed 0
    python scripts/data/make_ptco.py --calculator chgnet --out examples/ptco/data/more_co \
        --driver examples/ptco/ptco.duetto --frames build/more-co
    python scripts/data/make_ptco.py --calculator chgnet --out examples/ptco/data/close_co \
        --families co_approach co_near --seed 1 --frames-scale 4 --frames build/close-co

An interrupted run continues where it stopped; `--export-only` writes what exists so far. With
`--driver` it makes the further frames of `ptco.more_families`, whose runs are driven by the pair's
high-fidelity expert. `--families` makes those alone that it names, of either set.
"""

from __future__ import annotations

import argparse
import json
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

from ase import Atoms
from ase.calculators.calculator import Calculator
from ptco.calculators import describe_calculator, load_calculator
from ptco.checks import adsorption, carbon_monoxide, equation_of_state, pressure_modulus
from ptco.families import FAMILIES, Family
from ptco.frames import SPLITS, collect, finished, make, plan, write_compressed
from ptco.more_families import MORE_FAMILIES
from ptco.provenance import summarise, write_provenance
from ptco.sampling import Sampler

from duetto import DuettoCalculator, ExpertPair
from duetto.errors import InputError
from duetto.files import atomic_write


def file_name(split: str, calculator: str) -> str:
    """Where a split is exported to; the labelled ones carry the calculator's name."""
    if split in SPLITS:
        return f"ptco_{calculator.rpartition(':')[2].lower()}_{split}.extxyz.gz"
    return f"bulk_{split}.extxyz.gz"


def parse_arguments(arguments: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--calculator", default="chgnet", help="chgnet, emt or module:Class")
    parser.add_argument("--out", type=Path, required=True, help="folder of the exported files")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--frames", type=Path, default=Path("build/ptco-frames"), help="work folder"
    )
    parser.add_argument(
        "--driver", type=Path, metavar="PAIR.duetto", help="make the further frames, with its HF"
    )
    parser.add_argument(
        "--families", nargs="+", metavar="NAME", help="these families alone, of either set"
    )
    parser.add_argument("--frames-scale", type=float, default=1.0, help="fewer or more frames")
    parser.add_argument("--steps-scale", type=float, default=1.0, help="shorter runs, for tests")
    parser.add_argument("--export-only", action="store_true", help="write what exists so far")
    return parser.parse_args(arguments)


def settle(options: argparse.Namespace) -> None:
    """Note the settings of a work folder, and refuse to mix two sets in one."""
    settings = {
        "calculator": options.calculator,
        "seed": options.seed,
        "frames_scale": options.frames_scale,
        "steps_scale": options.steps_scale,
    }
    settings |= _driver_described(options) | _families_described(options)
    families(options)
    options.frames.mkdir(parents=True, exist_ok=True)
    options.out.mkdir(parents=True, exist_ok=True)
    path = options.frames / "settings.json"
    if path.exists() and json.loads(path.read_text()) != settings:
        raise InputError(
            f"{path} was made with {path.read_text()}, not with {json.dumps(settings)}: "
            "give another folder to --frames"
        )
    atomic_write(path, json.dumps(settings))


def families(options: argparse.Namespace) -> tuple[Family, ...]:
    """Those of the set that is being made."""
    if options.families:
        known = {family.name: family for family in (*FAMILIES, *MORE_FAMILIES)}
        if unknown := [name for name in options.families if name not in known]:
            raise InputError(f"no family {unknown[0]!r}: there are {', '.join(sorted(known))}")
        return tuple(known[name] for name in options.families)
    return MORE_FAMILIES if options.driver else FAMILIES


def _families_described(options: argparse.Namespace) -> dict[str, str]:
    return {"families": " ".join(options.families)} if options.families else {}


def _driver_described(options: argparse.Namespace) -> dict[str, str]:
    if options.driver is None:
        return {}
    pair = ExpertPair.load(options.driver)
    return {"driver": f"HF of {options.driver.name}, content hash {pair.content_hash[:12]}"}


def _driver(options: argparse.Namespace) -> Calculator | None:
    """Full high fidelity; a fresh one for every trajectory, so that it remembers none of them."""
    if options.driver is None:
        return None
    return DuettoCalculator(options.driver, device="cpu", self_check=False)


def checked(options: argparse.Namespace, name: str, measure: Callable[[], dict]) -> dict:
    """A measurement of the calculator, made once for a work folder."""
    path = options.frames / f"check_{name}.json"
    if not path.exists():
        atomic_write(path, json.dumps(measure()))
    return json.loads(path.read_text())


def sample_all(options: argparse.Namespace) -> None:
    """Make every trajectory that is missing, then measure the calculator."""
    calculator = load_calculator(options.calculator)
    bulk_values = checked(options, "bulk", lambda: equation_of_state(calculator))
    lattice_constant = round(bulk_values["lattice_constant"], 4)
    trajectories = plan(families(options), options.frames_scale)
    for number, trajectory in enumerate(trajectories, 1):
        sampler = Sampler(calculator, lattice_constant, options.steps_scale, _driver(options))
        record = make(trajectory, sampler, options.seed, options.frames)
        print(f"{number}/{len(trajectories)} {trajectory.name} {record}", flush=True)
    if options.driver is None and not options.families:
        check_all(options, calculator, lattice_constant)


def check_all(options: argparse.Namespace, calculator: Calculator, lattice_constant: float) -> None:
    """Measure the calculator's remaining values."""
    checked(options, "pressure", lambda: pressure_modulus(calculator, lattice_constant))
    gas = checked(options, "co", lambda: carbon_monoxide(calculator))
    checked(
        options,
        "adsorption",
        lambda: adsorption(calculator, lattice_constant, gas["co_energy"]),
    )
    if options.calculator == "chgnet":
        checked(options, "stock", lambda: against_stock(options, calculator))


def against_stock(options: argparse.Namespace, calculator: Calculator) -> dict:
    """One frame of each labelled config_type through chgnet's own calculator."""
    from ptco.chgnet import stock_difference

    one_each: dict[str, Atoms] = {}
    for frames in collect(plan(families(options), options.frames_scale), options.frames).values():
        one_each |= {f.info["config_type"]: f for f in frames if f.calc is not None}
    return {"difference_to_stock_chgnet": stock_difference(calculator, list(one_each.values()))}


def export(options: argparse.Namespace) -> None:
    """Write the compressed files and the provenance of all finished trajectories."""
    trajectories = plan(families(options), options.frames_scale)
    splits = collect(trajectories, options.frames)
    files = {file_name(split, options.calculator): splits[split] for split in sorted(splits)}
    if options.families:
        # Families of another set are in it, too: no two runs have one name.
        for frame in (frame for frames in files.values() for frame in frames):
            frame.info["trajectory"] += f"-seed{options.seed}"
    for name, frames in files.items():
        write_compressed(options.out / name, frames)
    checks: dict = {}
    for path in sorted(options.frames.glob("check_*.json")):
        checks |= json.loads(path.read_text())
    records = {t.name: record for t, record in finished(trajectories, options.frames)}
    dropped = {name: record["dropped"] for name, record in records.items() if record["dropped"]}
    write_provenance(
        options.out,
        {
            "command": (
                f"python scripts/data/make_ptco.py --calculator {options.calculator} "
                f"--out OUT --seed {options.seed} --frames-scale {options.frames_scale:g}"
                + (f" --driver {options.driver}" if options.driver else "")
                + (f" --families {' '.join(options.families)}" if options.families else "")
            ),
            "calculator": describe_calculator(options.calculator)
            | _driver_described(options)
            | _families_described(options),
            "seed": options.seed,
            "frames_scale": options.frames_scale,
            "steps_scale": options.steps_scale,
            "trajectories": f"{len(records)} of {len(trajectories)}",
            "seconds": round(sum(record["seconds"] for record in records.values())),
            "dropped": dropped,
            "checks": checks,
            "files": {name: summarise(frames) for name, frames in files.items()},
        },
    )
    for name, frames in files.items():
        size = (options.out / name).stat().st_size
        print(f"{name}: {len(frames)} frames, {size / 1e6:.2f} MB")


def main(arguments: list[str] | None = None) -> int:
    """Sample and export; 2 and one line on input that cannot be used."""
    warnings.filterwarnings("ignore", category=UserWarning)
    options = parse_arguments(arguments)
    try:
        settle(options)
        if not options.export_only:
            sample_all(options)
        export(options)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
