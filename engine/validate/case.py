"""What a property is measured on."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ase import Atoms

from duetto.validate.config import ValidateConfig
from duetto.validate.subject import Subject


@dataclass(frozen=True)
class Case:
    """One pair and what it is asked.

    Attributes:
        config: of the validation.
        subject: the pair.
        crystal: one conventional cell, cubic.
        crystal_name: how people call it.
        structure: the atoms of dynamics and force errors.
        found: what earlier properties have found, by key of the report.
    """

    config: ValidateConfig
    subject: Subject
    crystal: Atoms
    crystal_name: str
    structure: Atoms
    found: dict[str, Any] = field(default_factory=dict)
