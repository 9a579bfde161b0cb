"""`duetto lammps`: the same run on LAMMPS, on as many MPI ranks as it is started with."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from duetto.experts.pair import ExpertPair
    from duetto.frontends.lammps.deck import DeckStage, Plan
    from duetto.frontends.lammps.session import Session
    from duetto.frontends.lammps.system import System
    from duetto.run.config import RunConfig

CONFIGURATIONS = (".yaml", ".yml")


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command and its arguments."""
    parser = subparsers.add_parser(
        "lammps",
        help="the same run on LAMMPS, on any number of MPI ranks",
        description=(
            "Run a configuration of duetto run on LAMMPS: mpirun -n N duetto lammps CONFIG. Writes "
            "a data file, an input deck and all of LAMMPS's output into output.dir. With a LAMMPS "
            "script instead of a configuration, run that, with pair_style duetto known; LAMMPS's "
            "own options follow after --."
        ),
    )
    parser.add_argument("config", metavar="CONFIG", help="the YAML file, or a LAMMPS script")
    parser.add_argument(
        "overrides",
        metavar="KEY=VALUE",
        nargs="*",
        help="set a key of the file; for a script: LAMMPS's options, after --",
    )
    what = parser.add_mutually_exclusive_group()
    what.add_argument(
        "--check",
        action="store_true",
        help="compare the first configuration with the engine in one process; prints JSON, and "
        "the exit code is 1 where they differ",
    )
    what.add_argument(
        "--write", action="store_true", help="write data file and deck only; needs no LAMMPS"
    )
    what.add_argument(
        "--export",
        choices=["mliap"],
        help="write the potential for a LAMMPS with Python ML-IAP instead of running",
    )
    parser.add_argument("-o", "--out", metavar="FILE", help="where --export writes; ends in .pt")
    parser.add_argument(
        "--overwrite", action="store_true", help="replace a run that is already in output.dir"
    )
    parser.add_argument("--json", action="store_true", help="print the summary as JSON, only")


def run(args: argparse.Namespace) -> int:
    """Run; return the exit code."""
    from duetto.errors import InputError

    if Path(args.config).suffix.lower() not in CONFIGURATIONS:
        if args.check or args.write or args.export:
            raise InputError(f"{args.config}: --check, --write and --export want a configuration")
        return _script(args)
    from duetto.frontends.lammps.library import ends_all_ranks

    if args.out and not args.export:
        raise InputError("-o is for --export")
    with ends_all_ranks():
        config, pair, system, plan = _prepared(args)
        if args.export:
            return _export(args, pair, system, config)
        if args.check:
            return _check(config, pair, system, plan)
        return _run(args, config, pair, system, plan)


def _script(args: argparse.Namespace) -> int:
    """A user's own LAMMPS script."""
    from duetto.files import require_file
    from duetto.frontends.lammps.session import session

    require_file(args.config, "configuration or LAMMPS script")
    with session(["-in", args.config, *args.overrides]) as lammps:
        lammps.instance.file(args.config)
    return 0


def _prepared(args: argparse.Namespace) -> tuple[RunConfig, ExpertPair, System, Plan]:
    """The run as LAMMPS takes it; the same on every rank."""
    import torch

    from duetto.errors import InputError
    from duetto.frontends.lammps.deck import EXPERTS, Plan
    from duetto.frontends.lammps.system import make_system
    from duetto.md.velocities import maxwell_boltzmann
    from duetto.run.config import load_config
    from duetto.run.multiple_timestep import inner_steps, require_low_fidelity_everywhere
    from duetto.run.pair_model import open_pair

    config = load_config(args.config, args.overrides)
    _require_translatable(config)
    pair = open_pair(config)
    atoms = config.structure.read(pair.species)
    if config.initial_temperature_K is not None:
        masses = torch.as_tensor(atoms.get_masses(), dtype=torch.float64)
        velocities = maxwell_boltzmann(
            masses,
            config.initial_temperature_K,
            config.seed,
            exact=config.exact_initial_temperature,
        )
        from ase import units

        atoms.set_velocities(velocities.numpy() / units.fs)
    elif not atoms.has("momenta"):
        raise InputError(
            "the structure has no velocities to start from: give initial_temperature_K "
            "(0 starts at rest)"
        )
    regions = config.regions
    seeds = () if regions.follow is None else regions.follow.select(atoms)
    if inner_steps(config) > 1:
        require_low_fidelity_everywhere(pair, atoms.get_chemical_symbols(), config.pair_name)
    system = make_system(atoms, regions.static_weights(atoms), pair.species, seeds)
    named = any(expert is not None for _, expert in config.experts)
    own = config.output.dir / EXPERTS if named or config.pair is None else config.pair
    plan = Plan(
        pair=own.resolve(),
        timestep_fs=config.timestep_fs,
        skin_A=config.skin_A,
        stages=_stages(config),
        dtype=config.dtype,
        device=config.device,
        precision=config.precision,
        thermo_every=config.output.thermo_every,
        trajectory_every=config.output.trajectory_every,
        restart_every=config.output.checkpoint_every,
        seed=config.seed + 1,
        every=inner_steps(config),
        follow=None if regions.follow is None else (regions.follow.core, regions.follow.blend),
    )
    return config, pair, system, plan


def _require_translatable(config: RunConfig) -> None:
    """Refuse partitions that LAMMPS's decks do not have.

    Raises:
        InputError: the partition is resolved again in the run.
    """
    from duetto.errors import InputError

    if config.regions.update is not None:
        raise InputError(
            "regions.update: not translated to LAMMPS, where nobody books what a change of weights "
            "costs; run it with duetto run, or let the weights follow atoms with regions.follow"
        )


def _stages(config: RunConfig) -> list[DeckStage]:
    """The stages as the deck knows them; what LAMMPS does otherwise is refused by name."""
    from duetto.errors import InputError
    from duetto.frontends.lammps.deck import DeckStage
    from duetto.run.config import LangevinStage, NVEStage

    if config.fixed is not None:
        raise InputError("fixed: not translated to LAMMPS; write a deck and use its fix setforce")
    stages = []
    for i, stage in enumerate(config.stages):
        if isinstance(stage, NVEStage):
            stages.append(DeckStage(stage.steps))
        elif isinstance(stage, LangevinStage) and isinstance(stage.temperature_K, float):
            stages.append(DeckStage(stage.steps, stage.temperature_K, stage.friction_per_fs))
        else:
            raise InputError(
                f"stages[{i}]: {stage.ensemble} as given is not translated to LAMMPS, which has "
                "minimize, fix nvt and ramps of its own: edit the deck, or use nve and langevin at "
                "one temperature"
            )
    return stages


def _export(args: argparse.Namespace, pair: ExpertPair, system: System, config: RunConfig) -> int:
    from duetto.errors import InputError
    from duetto.frontends.lammps.unified import DuettoUnified, save_unified

    names = [kind.name for kind in system.types]
    if config.regions.follow is not None:
        raise InputError(
            "--export mliap: regions.follow needs all seeds on every rank, which ML-IAP does not "
            "hand over; use duetto lammps without --export, or regions that stay"
        )
    path = Path(args.out or Path(config.output.dir, "duetto.mliap.pt"))
    path.parent.mkdir(parents=True, exist_ok=True)
    save_unified(DuettoUnified(pair, names, device="auto", dtype=config.dtype), path)
    print(f"{path}: for a LAMMPS with Python ML-IAP and Duetto:")
    print(f"    pair_style mliap unified {path} 0")
    print(f"    pair_coeff * * {' '.join(names)}")
    return 0


def _check(config: RunConfig, pair: ExpertPair, system: System, plan: Plan) -> int:
    from duetto.frontends.lammps.check import check
    from duetto.frontends.lammps.session import scratch_inputs, session

    where = config.output.dir.resolve()
    with (
        session(["-log", "none", "-screen", "none"]) as lammps,
        scratch_inputs(lammps, system, plan, where, pair) as folder,
    ):
        found = check(lammps.instance, lammps.callbacks, system, pair, plan, folder)
    if found is None:
        return 0
    print(json.dumps(found.to_dict(), indent=2))
    return 0 if found.agree else 1


def _run(
    args: argparse.Namespace, config: RunConfig, pair: ExpertPair, system: System, plan: Plan
) -> int:
    from duetto.frontends.lammps.deck import DECK, LOG
    from duetto.frontends.lammps.session import session, write_inputs
    from duetto.frontends.lammps.summary import summarize

    folder, title = config.output.dir.resolve(), f"{Path(args.config).name} of Duetto"
    if args.write:
        _require_unused(folder, args)
        write_inputs(system, plan, folder, title, pair)
        print(f"{folder / DECK}: run it with mpirun -n N duetto lammps {folder / DECK}")
        return 0
    with session(["-log", "none", *(["-screen", "none"] if args.json else [])]) as lammps:
        if lammps.rank == 0:
            _require_unused(folder, args)
            plan = _with_costs(lammps, pair, system, plan)
            write_inputs(system, plan, folder, title, pair)
        lammps.callbacks.wait_for_all()
        lammps.instance.command(f"log {folder / LOG}")
        lammps.instance.file(str(folder / DECK))
        lammps.instance.command("log none")
    if lammps.rank == 0:
        summary = summarize(system, plan, folder, lammps.n_ranks)
        print(summary.to_json() if args.json else summary.sentence())
    return 0


def _require_unused(folder: Path, args: argparse.Namespace) -> None:
    from duetto.errors import InputError
    from duetto.frontends.lammps.deck import DECK, LOG

    for name in (LOG, DECK):
        if (folder / name).exists() and not args.overwrite:
            raise InputError(
                f"{folder / name}: exists; replace that run with --overwrite, or set another "
                "output.dir"
            )


def _with_costs(lammps: Session, pair: ExpertPair, system: System, plan: Plan) -> Plan:
    """The plan with the measured costs of its types, by which LAMMPS balances the ranks."""
    from dataclasses import replace

    from duetto.frontends.lammps.callback import device_of_rank
    from duetto.frontends.lammps.cost import measured_costs
    from duetto.frontends.lammps.unified import DuettoUnified

    if lammps.n_ranks == 1 or len(system.types) == 1:
        return plan
    device = device_of_rank(plan.device, 0)
    unified = DuettoUnified(
        pair,
        system.names,
        device=device,
        dtype=plan.dtype,
        precision=plan.precision,
        follow=plan.follow,
    )
    unified.engine.warm_up()
    costs, hf_costs = measured_costs(unified, system)
    return replace(plan, costs=costs, hf_costs=hf_costs)
