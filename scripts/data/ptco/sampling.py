"""Labelled frames from a calculator: single points, and short Langevin runs.

Platinum without adsorbates is thermalised with ASE's EMT, scaled to the calculator's lattice
constant, which costs next to nothing: it chooses the positions, never a label. Where CO is
present the calculator's own forces drive the run and label its snapshots; or a fast potential
drives it and the calculator labels, which shows where that potential is wrong.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from ase import Atoms, units
from ase.calculators.calculator import Calculator
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator
from ase.md.langevin import Langevin
from ase.md.velocitydistribution import MaxwellBoltzmannDistribution, Stationary

from duetto.errors import InputError, RunStopped

EMT_LATTICE_CONSTANT = 3.9242  # Å, of ASE's EMT platinum
# One mass for all atoms: the distribution of positions does not depend on masses, and light
# platinum decorrelates in fewer evaluations.
SAMPLING_MASS = 24.0  # amu
FRICTION = 0.02  # 1/fs


@dataclass(frozen=True)
class Sampler:
    """A calculator with its lattice constant (Å).

    Attributes:
        calculator: labels every frame.
        lattice_constant: Å, of platinum by the calculator.
        steps_scale: shortens every run, for tests.
        driver: moves the atoms of `dynamics`; by default the calculator itself.
    """

    calculator: Calculator
    lattice_constant: float
    steps_scale: float = 1.0
    driver: Calculator | None = None

    def label(self, atoms: Atoms) -> Atoms:
        """A copy with energy (eV), forces (eV/Å) and stress (eV/Å³) of the calculator."""
        labelled = atoms.copy()
        labelled.calc = self.calculator
        return self.label_from(labelled)

    def thermal_platinum(
        self, atoms: Atoms, temperature: float, count: int, rng: np.random.Generator
    ) -> list[Atoms]:
        """`count` decorrelated snapshots of pure Pt at `temperature` (K) by EMT, unlabelled."""
        scale = EMT_LATTICE_CONSTANT / self.lattice_constant
        running = atoms.copy()
        running.set_cell(atoms.cell.array * scale, scale_atoms=True)
        running.calc = EMT()
        # From a lattice at rest half of the kinetic energy turns into potential energy.
        run = self._langevin(running, temperature, 2 * temperature, 5.0, rng)
        run.run(self._steps(50))
        snapshots = []
        for _ in range(count):
            run.run(self._steps(30))
            snapshot = atoms.copy()
            snapshot.positions = running.positions / scale
            snapshots.append(snapshot)
        return snapshots

    def dynamics(
        self,
        atoms: Atoms,
        temperature: float,
        count: int,
        rng: np.random.Generator,
        interval: int = 10,
        settling: int = 0,
    ) -> Iterator[Atoms]:
        """`count` labelled snapshots of a run, `interval` steps of 2 fs apart after `settling`.

        A run that a driver leads out of all bounds (atoms in one place, energies that are not
        finite) ends early.
        """
        running = atoms.copy()
        running.set_masses(np.full(len(atoms), SAMPLING_MASS))
        running.calc = self.driver or self.calculator
        label = self.label if self.driver else self.label_from
        try:
            run = self._langevin(running, temperature, temperature, 2.0, rng)
            if settling:
                run.run(self._steps(settling))
            for _ in range(count):
                run.run(self._steps(interval))
                yield label(running)
        except (InputError, RunStopped):
            return

    def label_from(self, running: Atoms) -> Atoms:
        """A frame without velocities; a run's last evaluation is not repeated."""
        frame = Atoms(running.numbers, running.positions, cell=running.cell, pbc=running.pbc)
        frame.calc = SinglePointCalculator(
            frame,
            energy=round(float(running.get_potential_energy()), 6),
            forces=running.get_forces().round(6),
            stress=running.get_stress().round(8),
        )
        return frame

    def _langevin(
        self,
        atoms: Atoms,
        temperature: float,
        start_temperature: float,
        timestep_fs: float,
        rng: np.random.Generator,
    ) -> Langevin:
        MaxwellBoltzmannDistribution(atoms, temperature_K=start_temperature, rng=rng)
        Stationary(atoms)
        return Langevin(
            atoms,
            timestep_fs * units.fs,
            temperature_K=temperature,
            friction=FRICTION / units.fs,
            fixcm=False,
            rng=rng,
        )

    def _steps(self, steps: int) -> int:
        return max(1, round(steps * self.steps_scale))
