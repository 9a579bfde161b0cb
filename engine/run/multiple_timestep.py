"""Whether a pair is fit for multiple time steps: what its low-fidelity expert knows, how far."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from duetto.errors import InputError
from duetto.experts.pair import ExpertPair
from duetto.partition.rules import seen_pairs
from duetto.run.config import RunConfig

log = logging.getLogger(__name__)

MEASURED = "outer_step_fs"
"""Where a pair file's provenance says up to which outer step its drift has been measured small."""


def inner_steps(config: RunConfig) -> int:
    """Steps between two evaluations of the slow forces; 1 where time is not split."""
    return 1 if config.multiple_timestep is None else config.multiple_timestep.every


def require_low_fidelity_everywhere(pair: ExpertPair, species: Sequence[str], name: str) -> None:
    """Refuse a pair whose low-fidelity expert cannot carry all atoms between outer steps.

    The energy would still be the mixture's, but the slow force as stiff as a bond.

    Args:
        pair: the experts.
        species: chemical symbols of the atoms.
        name: of the pair's file, for the message.

    Raises:
        InputError: naming what the expert never met.
    """
    if pair.lf is None:
        raise InputError(f"{name}: multiple_timestep needs the expert lf, which the pair lacks")
    seen = seen_pairs(pair)
    present = sorted(set(species))
    unseen = [
        (centre, other)
        for centre in present
        for other in present
        if seen is not None and (centre, other) not in seen
    ]
    if unseen:
        centre, other = unseen[0]
        raise InputError(
            f"{name}: multiple_timestep lets lf move every atom between two evaluations of hf, and "
            f"this lf never met {other} beside {centre}; take a pair whose lf was trained on all "
            "atoms, such as examples/ptco/ptco_time_linear.duetto (docs/time.md)"
        )


def warn_beyond_measured(pair: ExpertPair, config: RunConfig) -> None:
    """Say so where the outer step is longer than those that the pair was measured with."""
    every = inner_steps(config)
    limit = pair.provenance.get(MEASURED)
    outer = every * config.timestep_fs
    if every == 1 or not isinstance(limit, int | float) or outer <= limit:
        return
    log.warning(
        "multiple_timestep: an outer step of %g fs is beyond the %g fs up to which %s was measured "
        "to conserve energy; watch conserved_eV, see docs/time.md",
        outer,
        limit,
        config.pair_name,
    )
