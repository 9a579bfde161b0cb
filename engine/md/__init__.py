"""Molecular dynamics: a thin loop over one explicit state."""

from duetto.md.limits import Limits
from duetto.md.loop import NVE, Langevin, run_md
from duetto.md.state import State, initial_state

__all__ = ["NVE", "Langevin", "Limits", "State", "initial_state", "run_md"]
