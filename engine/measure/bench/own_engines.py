"""Full HF, full LF and mixtures, as a potential and as an ASE calculator, ready to be timed."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from duetto.frontends.ase import DuettoCalculator
from duetto.measure.bench.edges import Counts, mixture_edges
from duetto.measure.bench.force_check import check_with_reference, tensors
from duetto.measure.bench.settings import Array, BenchSettings, Candidate, Case, Step
from duetto.partition.regions import Partition
from duetto.potential.base import Start
from duetto.potential.mixture import Potential


def own_engines(case: Case, settings: BenchSettings, counts: Counts) -> list[Candidate]:
    """Candidates that this package evaluates, each checked against the plain reference."""
    makers = {"model": _through_potential, "ase": _through_ase}
    return [
        makers[interface](engine, weights, case, settings, counts)
        for engine, weights in _partitions(case, settings)
        for interface in settings.interfaces
        if interface in makers
    ]


def _partitions(case: Case, settings: BenchSettings) -> list[tuple[str, Array]]:
    A = len(case.atoms)
    lf = settings.pair.lf
    both = lf is not None
    everywhere = lf is not None and set(case.atoms.symbols) <= set(lf.species)
    choices = {
        "full_hf": [np.ones(A)],
        "full_lf": [np.zeros(A)] if everywhere else [],
        "mixture": list(case.partitions) if both else [],
    }
    return [
        (engine, w) for engine in choices if engine in settings.engines for w in choices[engine]
    ]


def own_potential(
    case: Case, settings: BenchSettings, weights: Array, precision: str = "auto"
) -> Potential:
    """The potential of the case's atoms with these weights, and products in this precision."""
    return Potential(
        settings.pair,
        case.atoms.get_chemical_symbols(),
        weights,
        case.atoms.pbc,
        device=settings.device,
        dtype=settings.dtype,
        backend=settings.backend,
        precision=precision,
    )


def same_potential(potential: Potential, weights: Array) -> Potential:
    """A potential that differs in its weights alone."""
    return Potential(
        potential.pair,
        potential.species,
        weights,
        potential.pbc,
        device=potential.device,
        dtype=potential.dtype,
        skin=potential.neighbor_list.skin,
    )


def _through_potential(
    engine: str, weights: Array, case: Case, settings: BenchSettings, counts: Counts
) -> Candidate:
    potential = own_potential(case, settings, weights)
    positions, cell = tensors(case.atoms, settings.device)
    return Candidate(
        engine=engine,
        interface="model",
        backend=potential.backend.name,
        edges_by_role=mixture_edges(counts, weights, correction=settings.pair.correction),
        step=_step_of(potential, positions, cell),
        force_error=check_with_reference(potential, case.atoms),
        checked_against="reference",
        lists={"list": lambda: potential.rebuild(positions, cell)},
        weights=weights,
    )


def _step_of(potential: Potential, positions: Tensor, cell: Tensor) -> Step:
    """What is timed of the bare potential.

    Where a backend takes whole steps on its device, one of those, as a run has it: an evaluation
    for the host launches kernel after kernel and copies results, and small systems would show that
    alone. Its timestep is 0, so that the atoms stay where they are.
    """
    if not potential.takes_steps_on_device:
        return lambda: potential.evaluate(positions, cell)
    forces = potential.evaluate(positions, cell).forces
    at_rest, ones = torch.zeros_like(positions), torch.ones_like(positions[:, 0])
    run = potential.propagator(Start(positions, at_rest, forces, cell, ones, step=0), 0.0)

    def step() -> None:
        run.launch(1)
        run.finish()

    return step


def _through_ase(
    engine: str, weights: Array, case: Case, settings: BenchSettings, counts: Counts
) -> Candidate:
    calculator = DuettoCalculator(
        settings.pair,
        partition=Partition(weights, (case.atoms,)),
        guard="off",  # random weights are no partition that a guard would let pass
        device=settings.device,
        dtype=settings.dtype,
        backend=settings.backend,
        self_check=False,  # checked below
    )
    calculator.calculate(case.atoms)
    potential = calculator.potential
    assert potential is not None
    return Candidate(
        engine=engine,
        interface="ase",
        backend=potential.backend.name,
        edges_by_role=mixture_edges(counts, weights, correction=settings.pair.correction),
        step=lambda: calculator.calculate(case.atoms),
        force_error=check_with_reference(potential, case.atoms),
        checked_against="reference",
        weights=weights,
    )
