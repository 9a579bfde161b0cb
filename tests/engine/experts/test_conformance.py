"""A toy of twenty lines is an expert like any other; and so is Allegro."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from duetto.experts.base import Expert
from duetto.experts.kinds import KINDS, register
from tests.engine.experts import conformance
from tests.engine.experts.lennard_jones import LennardJones
from tests.pairs import low_fidelity


@pytest.fixture
def _toy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("duetto.experts.kinds.KINDS", dict(KINDS))
    register("lennard-jones", LennardJones)


@pytest.mark.usefixtures("_toy")
@pytest.mark.parametrize("check", conformance.ALL, ids=lambda check: check.__name__)
@pytest.mark.parametrize("expert", [LennardJones(), low_fidelity()], ids=["toy", "allegro"])
def test_expert_conforms(expert: Expert, check) -> None:
    check(expert)


@pytest.mark.usefixtures("_toy")
def test_a_toy_runs_beside_allegro(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "duetto"):
        conformance.runs_conserve_and_resume(LennardJones(), tmp_path)
    assert "expert lf (lennard-jones) has no kernel on the CPU" in caplog.text
