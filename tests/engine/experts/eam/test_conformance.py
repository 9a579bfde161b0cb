"""Embedded-atom experts are experts like any other."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from duetto.experts.base import Expert
from tests.engine.experts import conformance
from tests.engine.experts.eam.tables import expert


@pytest.mark.parametrize("check", conformance.ALL, ids=lambda check: check.__name__)
@pytest.mark.parametrize("style", ["eam/alloy", "eam/fs"])
def test_expert_conforms(style: str, check: Callable[[Expert], None], tmp_path: Path) -> None:
    check(expert(tmp_path, style))


def test_a_mixture_with_allegro_conserves_energy(tmp_path: Path) -> None:
    conformance.runs_conserve_and_resume(expert(tmp_path), tmp_path)
