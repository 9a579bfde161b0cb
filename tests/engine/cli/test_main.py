import subprocess
import sys

import pytest

from duetto.cli.main import COMMANDS, main
from duetto.errors import InputError, RunStopped


def run_main(capsys, *arguments):
    try:
        code = main(arguments)
    except SystemExit as end:
        code = end.code
    printed = capsys.readouterr()
    return code, printed.out, printed.err


def test_help_lists_every_command(capsys):
    code, out, err = run_main(capsys, "--help")
    assert code == 0
    assert err == ""
    for name, summary in COMMANDS.items():
        assert name in out
        assert summary.split()[0] in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "required: COMMAND"),
        (("rnu",), "invalid choice: 'rnu'"),
        (("run",), "required: CONFIG"),
        (("run", "x.yaml", "--resum3"), "unrecognized arguments: --resum3"),
    ],
)
def test_bad_arguments_are_one_line(capsys, arguments, message):
    code, out, err = run_main(capsys, *arguments)
    assert code == 2
    assert out == ""
    assert message in err
    assert err.count("\n") == 1


def test_bad_input_is_one_line_and_exit_2(capsys, tmp_path):
    code, out, err = run_main(capsys, "run", str(tmp_path / "none.yaml"))
    assert (code, out) == (2, "")
    assert err == f"duetto: error: {tmp_path / 'none.yaml'}: no such file\n"
    (tmp_path / "run.yaml").write_text("pair: 1\npair: 2\n")
    code, _, err = run_main(capsys, "run", str(tmp_path / "run.yaml"))
    assert code == 2
    assert "line 2, column 1: the key 'pair' is given twice" in err
    assert err.count("\n") == 1
    code, _, err = run_main(capsys, "run", "run.yaml", "--resume", "--overwrite")
    assert code == 2
    assert "give one of them" in err


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (InputError("a\nb"), 2, "duetto: error: a b\n"),
        (RunStopped("step 3: hot"), 1, "duetto: stopped: step 3: hot\n"),
        (KeyboardInterrupt(), 130, "duetto: interrupted\n"),
    ],
)
def test_exit_codes(capsys, monkeypatch, error, code, line):
    def fail(*arguments, **options):
        raise error

    monkeypatch.setattr("duetto.run.refusals.refuse_early", fail)
    assert run_main(capsys, "run", "x.yaml") == (code, "", line)


def test_a_bug_is_no_bad_input(monkeypatch):
    def fail(*arguments, **options):
        raise ZeroDivisionError

    monkeypatch.setattr("duetto.run.refusals.refuse_early", fail)
    with pytest.raises(ZeroDivisionError):
        main(["run", "x.yaml"])


def test_help_needs_no_torch():
    """The command line starts quickly: what a command needs is imported when it runs."""
    code = (
        "import sys, duetto.cli.main\n"
        "try: duetto.cli.main.main(['run', '--help'])\n"
        "except SystemExit: pass\n"
        "sys.exit(any(name in sys.modules for name in ('torch', 'numpy', 'ase')))"
    )
    finished = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert finished.returncode == 0, finished.stderr
    assert "--resume" in finished.stdout


def test_version(capsys):
    from importlib.metadata import version

    assert run_main(capsys, "--version") == (0, f"duetto {version('duetto')}\n", "")
