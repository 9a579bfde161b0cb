"""`duetto bench`: throughput of mixture, experts and nequip; what each region and stage costs."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from duetto.experts.pair import ExpertPair
    from duetto.measure.bench.settings import BenchSettings, Case


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command and its arguments."""
    parser = subparsers.add_parser(
        "bench",
        help="throughput of mixture, full HF, full LF and nequip, and what each stage costs",
        description=(
            "Time mixture, full HF, full LF and nequip on the same weights and structure, in turns "
            "in one process, after checking that their forces agree. With --profile: what each "
            "region and stage costs, and what moving a layer of atoms to LF would save."
        ),
    )
    what = parser.add_argument_group("what to measure")
    what.add_argument("--system", default="pt", help="pt (bulk) or ptco (slab with CO)")
    what.add_argument("--atoms", type=int, nargs="+", default=[500], metavar="N")
    what.add_argument("--complex-fraction", type=float, nargs="+", default=[0.1], metavar="F")
    what.add_argument("--pair", type=Path, metavar="FILE", help="pair file; default: random pair")
    what.add_argument("--architecture", default="hf64", help="of the random HF expert")
    what.add_argument("--lf-architecture", default="lf16", help="of the random LF expert, or none")
    what.add_argument("--r-max", type=float, default=5.0, metavar="Å")
    what.add_argument("--lf-r-max", type=float, default=4.5, metavar="Å")
    what.add_argument("--seed", type=int, default=0, help="of random weights and positions")
    what.add_argument(
        "--config",
        type=Path,
        metavar="FILE",
        help="a run's YAML: its pair, structure, regions, device and dtype instead of the above",
    )
    what.add_argument("--engines", nargs="+", metavar="NAME", help="default: all")
    what.add_argument(
        "--interfaces",
        nargs="+",
        default=["model"],
        metavar="NAME",
        help="model, ase, torch_sim: the bare evaluation, or whole calls of the calculators",
    )
    how = parser.add_argument_group("how")
    how.add_argument("--device", help="cpu (default) or cuda")
    how.add_argument("--dtype", help="float32 (default) or float64")
    how.add_argument("--backend", help="auto (default), numba, triton or reference")
    how.add_argument("--threads", type=int, metavar="N", help="default: OMP_NUM_THREADS")
    how.add_argument(
        "--rounds", type=int, metavar="N", help="times each is timed; default 7, profile 21"
    )
    how.add_argument("--nequip-max-atoms", type=int, default=1200, metavar="N")
    how.add_argument("--memory", action="store_true", help="measure peak memory too")
    how.add_argument(
        "--allocator",
        default="keep",
        help="keep freed memory, which helps engines that allocate much, or as the system does",
    )
    how.add_argument(
        "--every",
        type=int,
        metavar="K",
        help="multiple time steps: compare full HF with the split in space, in time and in both",
    )
    _register_output(parser)


def _register_output(parser: argparse.ArgumentParser) -> None:
    out = parser.add_argument_group("output")
    out.add_argument("--json", action="store_true", help="print JSON, only")
    out.add_argument("--csv", type=Path, metavar="FILE", help="append the rows to FILE")
    out.add_argument("--profile", action="store_true", help="cost of each region and stage")
    out.add_argument("--blend", type=float, default=0.0, metavar="Å", help="blend width, profile")
    out.add_argument(
        "--layer", type=float, default=3.0, metavar="Å", help="layer to move to LF, profile"
    )
    out.add_argument("--trace", type=Path, metavar="FILE", help="Chrome trace, profile")
    out.add_argument("--plot", type=Path, metavar="FILE", help="stacked bars as PNG, profile")


def run(args: argparse.Namespace) -> int:
    """Measure and print; return the exit code."""
    from duetto.errors import InputError
    from duetto.files import require_file

    if args.threads is not None and args.threads < 1:
        raise InputError(f"--threads {args.threads}: use at least 1")
    only_profile = {"--trace": args.trace, "--plot": args.plot, "--blend": args.blend or None}
    for option, value in only_profile.items():
        if value is not None and not args.profile:
            raise InputError(f"{option} is for --profile")
    if args.every is not None and args.every < 2:
        raise InputError(f"--every {args.every}: use at least 2, the steps between two of HF")
    for option, value in (("--profile", args.profile), ("--csv", args.csv)):
        if args.every is not None and value:
            raise InputError(f"{option} does not go with --every")
    if args.config is not None:
        from duetto.run.config import load_config

        load_config(args.config)
    if args.pair is not None:
        require_file(args.pair, "pair file")
    _settle(args)

    import torch

    if args.threads is not None:
        torch.set_num_threads(args.threads)
    if args.every is not None:
        return _split_in_time(args)
    return _profile(args) if args.profile else _throughput(args)


def _settle(args: argparse.Namespace) -> None:
    """Where it is computed: by the options, or by the configuration alone."""
    from duetto.environment import choose_device
    from duetto.errors import InputError

    for option, default in (("device", "cpu"), ("dtype", "float32"), ("backend", "auto")):
        given = getattr(args, option)
        if given is not None and args.config is not None:
            raise InputError(f"--{option} {given}: with --config it is what the file says there")
        setattr(args, option, default if given is None else given)
    choose_device(args.device)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _set_allocator(args: argparse.Namespace) -> None:
    from duetto.errors import InputError
    from duetto.measure.bench.allocator import ALLOCATORS, keep_freed_memory

    if args.allocator not in ALLOCATORS:
        raise InputError(f"--allocator {args.allocator}: use one of {', '.join(ALLOCATORS)}")
    if args.allocator == "keep" and not keep_freed_memory():
        _say("freed memory goes back to the system: this malloc is not glibc's")
        args.allocator = "system"


def _throughput(args: argparse.Namespace) -> int:
    from duetto.measure.bench.rows import append_csv, table, to_json
    from duetto.measure.bench.sweep import measure

    _set_allocator(args)
    cases, settings = _inputs(args)
    rows = measure(cases, settings, _say)
    if args.csv is not None:
        append_csv(args.csv, rows)
    print(to_json(rows) if args.json else table(rows))
    return 0


def _split_in_time(args: argparse.Namespace) -> int:
    from duetto.measure.bench.time_split import as_json, as_table, measure_split

    _set_allocator(args)
    cases, settings = _inputs(args)
    rows = measure_split(cases, settings, args.every)
    print(as_json(rows) if args.json else as_table(rows))
    return 0


def _profile(args: argparse.Namespace) -> int:
    import json

    from duetto.errors import InputError
    from duetto.measure.bench.own_engines import own_potential
    from duetto.measure.profile.prediction import move_layer
    from duetto.measure.profile.regions import profile
    from duetto.measure.profile.show import as_json, as_text, draw, write_trace

    if len(args.atoms) > 1 or len(args.complex_fraction) > 1:
        raise InputError("--profile takes one number of atoms and one complex fraction")
    cases, settings = _inputs(args)
    (case,) = cases
    potential = own_potential(case, settings, case.partitions[0])
    measured = profile(potential, case.atoms, settings.rounds)
    both = {"complex HF", "simple LF"} <= {job.name for job in measured.jobs}
    move = (
        move_layer(measured, potential, case.atoms, args.layer, settings.rounds) if both else None
    )
    if args.trace is not None:
        write_trace(measured, args.trace)
    if args.plot is not None:
        draw(measured, args.plot)
    print(json.dumps(as_json(measured, move), indent=1) if args.json else as_text(measured, move))
    return 0


def _inputs(args: argparse.Namespace) -> tuple[list[Case], BenchSettings]:
    from duetto.measure.bench.settings import ENGINES, BenchSettings

    pair, names, cases = _from_config(args) if args.config else _from_options(args)
    return cases, BenchSettings(
        pair=pair,
        architecture=names[0],
        lf_architecture=names[1],
        engines=args.engines or ENGINES,
        interfaces=args.interfaces,
        device=args.device,
        dtype=args.dtype,
        backend=args.backend,
        rounds=args.rounds if args.rounds is not None else 21 if args.profile else 7,
        nequip_max_atoms=args.nequip_max_atoms,
        memory=args.memory,
        allocator=args.allocator,
    )


Inputs = tuple["ExpertPair", tuple[str, str | None], "list[Case]"]


def _from_options(args: argparse.Namespace) -> Inputs:
    """A structure made here, with the pair of a file or a random one."""
    from duetto.errors import InputError
    from duetto.experts.pair import ExpertPair
    from duetto.measure.bench.architectures import random_pair
    from duetto.measure.bench.settings import Case
    from duetto.measure.bench.systems import SPECIES, build_system, complex_weights

    lf = None if args.lf_architecture == "none" else args.lf_architecture
    names: tuple[str, str | None] = (args.architecture, lf)
    if args.pair is not None:
        pair = ExpertPair.load(args.pair)
        names = (args.pair.name, args.pair.name if pair.lf else None)
    else:
        pair = random_pair(
            args.architecture,
            lf,
            hf_r_max=args.r_max,
            lf_r_max=args.lf_r_max,
            species=SPECIES,
            seed=args.seed,
        )
    cases = []
    for n_atoms in args.atoms:
        atoms = build_system(args.system, n_atoms, args.seed)
        lacking = sorted(set(atoms.get_chemical_symbols()) - set(pair.species))
        if lacking:
            raise InputError(
                f"--pair {args.pair}: knows {', '.join(pair.species)}, and the system "
                f"{args.system} has {', '.join(lacking)}; give --config FILE, a run's YAML with a "
                "structure of your own"
            )
        partitions = [complex_weights(atoms, f, args.blend) for f in args.complex_fraction]
        cases.append(Case(args.system, atoms, partitions))
    return pair, names, cases


def _from_config(args: argparse.Namespace) -> Inputs:
    """The user's own run; its device, dtype and backend replace those of the options."""
    from duetto.measure.bench.settings import Case
    from duetto.run.config import load_config
    from duetto.run.prepare import prepare

    config = load_config(args.config)
    start = prepare(config, standing=True)
    pair = start.model.pair
    args.device, args.dtype = str(start.model.device), config.dtype
    args.backend = config.backend
    name = config.pair_name
    names = (name, name if pair.lf else None)
    return pair, names, [Case(config.structure.file.stem, start.atoms, [start.weights])]
