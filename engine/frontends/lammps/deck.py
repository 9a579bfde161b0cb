"""Input decks that a LAMMPS user recognises and can edit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from duetto.frontends.lammps.data_file import WEIGHTS_SECTION
from duetto.frontends.lammps.system import System

DATA, DECK, LOG, RESTART = "system.data", "in.lammps", "log.lammps", "restart"
TRAJECTORY = "trajectory.lammpstrj"
EXPERTS = "experts.duetto"


@dataclass(frozen=True)
class DeckStage:
    """One part of a run.

    Attributes:
        steps: how many.
        temperature_K: of a Langevin thermostat; None is NVE.
        friction_per_fs: of the thermostat.
    """

    steps: int
    temperature_K: float | None = None
    friction_per_fs: float = 0.01


@dataclass(frozen=True)
class Plan:
    """What a deck does with a system.

    Attributes:
        pair: the pair file.
        timestep_fs: fs.
        every: steps between two evaluations of the slow term; 1: the mixture at every step.
        skin_A: of the neighbour list, Å.
        stages: one after the other.
        dtype: "float64" or "float32".
        device: "auto", "cpu", "cuda", "cuda:N".
        precision: of matrix products.
        thermo_every: steps between lines of the log.
        trajectory_every: steps between frames; 0: none.
        restart_every: steps between restart files; 0: none but the last.
        seed: of the thermostat.
        costs: of a step of one atom of each type, in any unit; they balance the ranks.
        follow: core and blend of weights that follow seeds, Å; None where they do not.
        hf_costs: where they do, of a step of one atom of each type by HF; `costs` are those by LF
            of types that may have either.
    """

    pair: Path
    timestep_fs: float
    skin_A: float
    stages: Sequence[DeckStage]
    dtype: str = "float64"
    device: str = "auto"
    precision: str = "auto"
    thermo_every: int = 10
    trajectory_every: int = 100
    restart_every: int = 1000
    seed: int = 1
    every: int = 1
    costs: Sequence[float] = ()
    follow: tuple[float, float] | None = None
    hf_costs: Sequence[float] = ()


def setup_commands(system: System, plan: Plan, folder: Path, *, split: bool = False) -> str:
    """The part that every deck shares: units, atoms, potential, neighbours.

    Args:
        system: the atoms.
        plan: potential, skin and timestep.
        folder: where the data file is.
        split: the mixture as a fast and a slow sub-style.
    """
    blend, read = "", ""
    if plan.follow is not None:
        blend = (
            "# w of every atom, as it was computed last\n"
            "fix             now all property/atom d_duetto_now writedata no\n"
        )
    if system.blended:
        blend += (
            "# weights of the blend: atoms carry them, on ghosts too\n"
            "fix             blend all property/atom d_duetto ghost yes\n"
        )
        read = f" fix blend NULL {WEIGHTS_SECTION}"
    return f"""\
units           metal
atom_style      atomic
atom_modify     map yes
newton          on
boundary        {system.box.boundary}
{blend}read_data       {_quoted(folder / DATA)}{read}

{_meaning(plan)}
{_potential(system, plan, split)}
neighbor        {plan.skin_A:g} bin
neigh_modify    every 1 delay 0 check yes
"""


def _meaning(plan: Plan) -> str:
    """What the types' names say."""
    text = """\
# A type is a species and a region: Pt is computed by the high-fidelity expert, Pt_simple by the
# low-fidelity one, Pt_blend by both, with the weight in d_duetto."""
    if plan.follow is None:
        return text
    core, width = plan.follow
    return f"""\
{text} The weight
# of the high-fidelity expert is 1 within {core:g} Å of an atom of a type like C_seed, and falls to
# that of the type over {width:g} Å more."""


def _potential(system: System, plan: Plan, split: bool) -> str:
    """Pair style, coefficients and timestep."""
    words = f"dtype {plan.dtype} device {plan.device}"
    if plan.precision != "auto":
        words += f" precision {plan.precision}"
    if plan.follow is not None:
        words += " follow {:.17g} {:.17g}".format(*plan.follow)
    names = f"{_quoted(plan.pair)} {' '.join(system.names)}"
    step_ps = plan.timestep_fs / 1000.0
    if not split:
        return (
            f"pair_style      duetto {words}\npair_coeff      * * {names}\n"
            f"timestep        {step_ps:.17g}"
        )
    return f"""\
# The low-fidelity energy of all atoms at every inner step, and what the high-fidelity expert adds
# at every {plan.every}th: their sum is the mixture. A timestep is an outer one.
pair_style      hybrid/overlay duetto terms fast {words} duetto terms slow {words}
pair_coeff      * * duetto 1 {names}
pair_coeff      * * duetto 2 {names}
timestep        {step_ps * plan.every:.17g}
run_style       respa 2 {plan.every} hybrid 1 2"""


def full_deck(system: System, plan: Plan, folder: Path, title: str) -> str:
    """The whole input deck of a run; edit and run it as any other."""
    groups = []
    for name, weights in (("complex", (1.0,)), ("blended", (None,)), ("simple", (0.0,))):
        members = [kind.name for kind in system.types if kind.weight in weights]
        if members:
            groups.append(f"group           {name} type {' '.join(members)}")
    if plan.follow is not None:
        members = [kind.name for kind in system.types if kind.seed]
        groups.append(f"group           seeds type {' '.join(members)}")
    parts = [
        f"# {title}\n#\n#     mpirun -n 4 duetto lammps {DECK}\n",
        setup_commands(system, plan, folder, split=plan.every > 1),
        "\n".join(groups) + "\n",
        _balancing(system, plan),
        _output(system, plan, folder),
        *(_stage(number, stage, plan) for number, stage in enumerate(plan.stages, start=1)),
        f"write_restart   {_quoted(folder / (RESTART + '.last'))}",
        f"write_data      {_quoted(folder / 'last.data')} nocoeff\n",
    ]
    return "\n".join(parts)


def _balancing(system: System, plan: Plan) -> str:
    """Equal work on every rank: complex atoms cost many times what simple ones do."""
    if not plan.costs:
        return ""
    terms = [f"{cost:g}*(type=={t})" for t, cost in enumerate(plan.costs, start=1)]
    if plan.follow is not None:
        for t, (kind, hf_cost) in enumerate(zip(system.types, plan.hf_costs, strict=True), start=1):
            if kind.weight != 1.0:
                terms[t - 1] = f"(type=={t})*({plan.costs[t - 1]:g}*(d_duetto_now<1)"
                terms[t - 1] += f" + {hf_cost:g}*(d_duetto_now>0))"
    return f"""\
# What a step of an atom costs, measured here: equal volumes are not equal work. The first
# run 0 checks the kernels, too; the others show the ranks' times before and after.
variable        cost atom "{" + ".join(terms)}"
comm_style      tiled
run             0
run             0
balance         1.05 rcb weight var cost
run             0
fix             balance all balance 1000 1.1 rcb weight var cost
"""


def _output(system: System, plan: Plan, folder: Path) -> str:
    lines = [
        f"thermo          {_outer(plan.thermo_every, plan)}",
        "thermo_style    custom step time temp pe ke etotal press",
        "thermo_modify   format float %.15g flush yes",
    ]
    if plan.trajectory_every:
        extra = " d_duetto" if system.blended else ""
        extra += "" if plan.follow is None else " d_duetto_now"
        target = _quoted(folder / TRAJECTORY)
        lines += [
            f"dump            trajectory all custom {_outer(plan.trajectory_every, plan)} {target} "
            f"id type element xu yu zu vx vy vz{extra}",
            "dump_modify     trajectory sort id element "
            + " ".join(kind.symbol for kind in system.types),
        ]
    if plan.restart_every:
        target = _quoted(folder / RESTART)
        lines.append(f"restart         {_outer(plan.restart_every, plan)} {target}.1 {target}.2")
    return "\n".join(lines) + "\n"


def _stage(number: int, stage: DeckStage, plan: Plan) -> str:
    lines = ["fix             motion all nve"]
    if stage.temperature_K is not None:
        T, damping_ps = stage.temperature_K, 1e-3 / stage.friction_per_fs
        lines.append(
            f"fix             bath all langevin {T:g} {T:g} {damping_ps:g} {plan.seed + number} "
            "zero yes"
        )
    lines.append(f"run             {stage.steps // plan.every}")
    if stage.temperature_K is not None:
        lines.append("unfix           bath")
    lines.append("unfix           motion\n")
    return "\n".join(lines)


def _outer(steps: int, plan: Plan) -> int:
    """As many inner steps, in outer ones."""
    return max(1, steps // plan.every)


def _quoted(path: Path) -> str:
    """A path as one word of LAMMPS's input."""
    text = str(path)
    return f'"{text}"' if any(c.isspace() or c in "#$&" for c in text) else text
