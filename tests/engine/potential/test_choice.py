"""Which backend is chosen where there is a GPU, without one: nothing is computed."""

from __future__ import annotations

import inspect

import pytest
import torch

from duetto.errors import InputError
from duetto.frontends.ase import DuettoCalculator
from duetto.potential import choice
from duetto.potential.choice import choose_backend, precision_of
from duetto.potential.mixture import Potential
from duetto.run.config import RunConfig
from tests.pairs import mismatched_pair


@pytest.fixture(autouse=True)
def _one_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)


def test_defaults_of_every_door_take_the_kernels() -> None:
    """None of them asks for float64, which has no kernels on a GPU and is many times slower."""
    calculator = DuettoCalculator(mismatched_pair()).parameters
    assert torch.device(calculator["device"]).type == "cuda"
    assert (calculator["backend"], calculator["dtype"]) == ("triton", "float32")
    asked = set()
    for owner in (Potential, DuettoCalculator):
        given = inspect.signature(owner.__init__).parameters
        asked.add((given["backend"].default, given["dtype"].default))
    fields = RunConfig.model_fields
    asked.add((fields["backend"].default, fields["dtype"].default))
    assert asked == {("auto", "float32")}
    assert choose_backend("auto", "cuda", "float32") == "triton"
    assert precision_of("auto", "triton", "cuda", "float32") == "bf16x3"


def test_float64_on_a_gpu_is_said_to_be_slow(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("WARNING", "duetto"):
        assert choose_backend("auto", "cuda", "float64") == "reference"
    assert "many times slower" in caplog.text
    assert "use dtype float32" in caplog.text


def test_the_calculator_says_so_too_and_takes_a_precision(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("WARNING", "duetto"):
        slow = DuettoCalculator(mismatched_pair(), device="auto", dtype="float64").parameters
        assert slow["backend"] == "reference"
        assert "use dtype float32" in caplog.text
        caplog.clear()
        fast = DuettoCalculator(mismatched_pair(), device="auto", precision="fp32").parameters
        assert (fast["backend"], fast["precision"]) == ("triton", "fp32")
        assert not caplog.records
    with pytest.raises(InputError, match="precision: got 'tf32'; allowed with dtype float32"):
        DuettoCalculator(mismatched_pair(), device="auto", precision="tf32")


def test_without_triton_the_warning_says_what_to_install(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(choice.importlib.util, "find_spec", lambda name: None)
    with caplog.at_level("WARNING", "duetto"):
        assert choose_backend("auto", "cuda", "float32") == "reference"
    assert 'pip install "duetto[gpu]"' in caplog.text
