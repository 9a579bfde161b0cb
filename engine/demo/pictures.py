"""The demonstration's pictures."""

from __future__ import annotations

import numpy as np

from duetto.demo.comparison import layers
from duetto.demo.result import Demonstration
from duetto.demo.timing import OTHER
from duetto.report.charts import EnergyCurve, draw_energy, draw_force_errors, draw_step_times
from duetto.report.slab import draw_slab
from duetto.report.style import HF, MIXTURE

SLAB, ENERGY, STEP_TIMES, FORCE_ERRORS = "slab.png", "energy.png", "step_times.png", "forces.png"


def draw_pictures(demo: Demonstration) -> dict[str, bytes]:
    """PNG of every picture by file name."""
    return {
        SLAB: draw_slab(demo.final.positions.cpu().numpy(), demo.final.species, demo.weights),
        ENERGY: draw_energy(
            [
                EnergyCurve(
                    label,
                    colour,
                    record.elapsed_ps,
                    record.deviation_meV_per_atom,
                    record.drift_meV_per_atom_per_ps,
                )
                for label, colour, record in (
                    ("Mixture", MIXTURE, demo.mixture),
                    ("Full HF", HF, demo.full_hf),
                )
            ]
        ),
        STEP_TIMES: draw_step_times(
            demo.speed.step_ms(),
            demo.speed.speedup,
            demo.speed.ideal_speedup,
            {OTHER: demo.other.label} if demo.other else {},
        ),
        FORCE_ERRORS: _force_errors(demo),
    }


def _force_errors(demo: Demonstration) -> bytes:
    """Errors by layer of the structure as read, where layers are sharp."""
    heights = demo.atoms.positions[:, 2] - demo.atoms.positions[:, 2].min()
    number = layers(heights)
    members = [number == layer for layer in range(number.max() + 1)]
    everything = np.ones(len(heights), dtype=bool)
    return draw_force_errors(
        np.array([heights[chosen].mean() for chosen in members]),
        np.array([demo.comparison.force_rmse(chosen) for chosen in members]),
        np.array([demo.weights[chosen].mean() for chosen in members]),
        demo.comparison.force_rms(everything) or 0.0,
    )
