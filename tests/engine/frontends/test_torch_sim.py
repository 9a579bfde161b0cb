"""The TorchSim model."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk

from duetto import DuettoCalculator, Regions
from duetto.errors import InputError
from duetto.experts.pair import ExpertPair
from tests.pairs import high_fidelity, low_fidelity, mismatched_pair

ts = pytest.importorskip("torch_sim", reason="TorchSim is not installed")

from duetto.frontends.torch_sim import DuettoModel  # noqa: E402

CPU = torch.device("cpu")
REGIONS = {"complex": {"slab": {"axis": "z", "min": 4.0}}, "blend": {"width": 2.0}}


def systems() -> list[Atoms]:
    """Two of the same species and one of another, rattled."""
    rng = np.random.default_rng(0)
    found = [
        bulk("Pt", "fcc", a=3.97, cubic=True).repeat(2),
        bulk("Pt", "fcc", a=4.05, cubic=True).repeat(2),
        bulk("Pt", "fcc", a=3.97).repeat((2, 3, 4)),
    ]
    for atoms in found:
        atoms.positions += rng.normal(size=atoms.positions.shape) * 0.1
    return found


def model(**settings) -> DuettoModel:
    return DuettoModel(mismatched_pair(), Regions.from_dict(REGIONS), **settings)


def test_torch_sim_validates_it() -> None:
    from torch_sim.models.interface import validate_model_outputs

    types = {"type_names": ("Si", "Fe"), "avg_num_neighbors": (12.0, 12.0)}
    pair = ExpertPair(high_fidelity(**types), low_fidelity(**types))
    regions = Regions.from_dict(REGIONS)
    validate_model_outputs(DuettoModel(pair, regions), CPU, torch.float64)


def test_a_batch_equals_the_calculator_system_by_system() -> None:
    batch = systems()
    result = model()(ts.io.atoms_to_state(batch, CPU, torch.float64))
    begin = 0
    for s, atoms in enumerate(batch):
        regions = Regions.from_dict(REGIONS)
        atoms.calc = DuettoCalculator(mismatched_pair(), regions=regions, dtype="float64")
        part = slice(begin, begin + len(atoms))
        assert result["energy"].dtype == torch.float64
        np.testing.assert_allclose(result["energy"][s], atoms.get_potential_energy(), atol=1e-10)
        np.testing.assert_allclose(result["forces"][part], atoms.get_forces(), atol=1e-10)
        np.testing.assert_allclose(result["stress"][s], atoms.get_stress(voigt=False), atol=1e-10)
        begin += len(atoms)


def test_partitions_stay_with_their_systems() -> None:
    """Moved atoms keep their weights, in whatever order and company they come back."""
    first, second, third = systems()
    duetto = model()
    duetto(ts.io.atoms_to_state([first, second, third], CPU, torch.float64))
    weights = [known.potential.weights.copy() for known in duetto._known]
    for atoms in (first, third):
        atoms.positions[:, 2] += 0.45  # some cross the border of the region
        atoms.wrap()
    again = duetto(ts.io.atoms_to_state([third, first], CPU, torch.float64))
    assert len(duetto._known) == 3
    for known, before in zip(duetto._known, weights, strict=True):
        np.testing.assert_array_equal(known.potential.weights, before)
    fresh = model()(ts.io.atoms_to_state([third, first], CPU, torch.float64))
    assert abs(float(again["energy"][1] - fresh["energy"][1])) > 1e-6


def test_it_conserves_in_torch_sim_dynamics() -> None:
    from torch_sim.integrators import nve
    from torch_sim.quantities import calc_kinetic_energy

    pair = mismatched_pair(zbl=True)
    duetto = DuettoModel(pair, Regions.from_dict(REGIONS))
    state = ts.io.atoms_to_state(systems()[:2], CPU, torch.float64)
    kT = torch.tensor(300.0 * ts.units.MetalUnits.temperature, dtype=torch.float64)
    dt = torch.tensor(0.001 * ts.units.MetalUnits.time, dtype=torch.float64)
    init, update = nve(duetto, dt=dt, kT=kT, seed=1)

    def total(state: object) -> torch.Tensor:
        parts = {name: getattr(state, name) for name in ("masses", "momenta", "system_idx")}
        return state.energy + calc_kinetic_energy(**parts)

    state = init(state)
    before = total(state)
    for _ in range(100):
        state = update(state)
    after = total(state)
    # Velocity Verlet's error of order h² at 1 fs: far below 0.1 meV an atom of 32.
    assert float((after - before).abs().max()) < 1e-4 * 32


def test_bad_arguments_are_refused() -> None:
    with pytest.raises(InputError, match="float16"):
        model(dtype=torch.float16)
    few = DuettoModel(mismatched_pair(), [Regions.from_dict(REGIONS)])
    with pytest.raises(InputError, match="1 regions, but this is another system"):
        few(ts.io.atoms_to_state(systems(), CPU, torch.float64))
