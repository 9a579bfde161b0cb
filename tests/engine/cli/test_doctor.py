"""`duetto doctor`: says what is there, and notices what is broken."""

import json

import pytest
import torch

from duetto.cli.main import main
from duetto.errors import RunStopped
from duetto.kernels.cpu.expert import CPUExpert
from duetto.potential.self_check import check_backend


def test_a_working_installation(capsys):
    assert main(["doctor", "--json"]) == 0
    findings = json.loads(capsys.readouterr().out)
    assert findings["works"] is True
    assert findings["versions"]["torch"] == str(torch.__version__)
    assert findings["machine"]["threads"] == torch.get_num_threads()
    checked = [(c["device"], c["dtype"]) for c in findings["self_check"]]
    assert checked[:2] == [("cpu", "float32"), ("cpu", "float64")]
    assert {"path", "writable", "was_filled"} == set(findings["compiler_cache"])


def test_the_table_names_every_subject(capsys):
    assert main(["doctor"]) == 0
    text = capsys.readouterr().out
    for subject in ("versions", "processor", "threads", "triton", "nequip", "compiler cache"):
        assert f"\n{subject}" in f"\n{text}"
    assert "verdict            works" in text


@pytest.mark.parametrize(("dtype", "most"), [("float64", 1e-13), ("float32", 1e-5)])
def test_backend_and_reference_agree_to_the_precision(dtype, most):
    """Sums of some hundred terms: a few tens of roundings of 1e-16 and 6e-8."""
    backend, error = check_backend("cpu", dtype)
    assert backend == "numba"
    assert 0.0 < error < most


def test_a_wrong_kernel_is_found(monkeypatch, capsys):
    evaluate = CPUExpert.evaluate

    def wrong(self, work, chunk, energies, gradient):
        evaluate(self, work, chunk, energies, gradient)
        gradient[0] *= 1.01

    monkeypatch.setattr(CPUExpert, "evaluate", wrong)
    with pytest.raises(RunStopped, match="differs from the reference"):
        check_backend("cpu", "float32")
    assert main(["doctor"]) == 1
    text = capsys.readouterr().out
    assert "FAILED: RunStopped: backend numba" in text
    assert "verdict            does not work" in text
