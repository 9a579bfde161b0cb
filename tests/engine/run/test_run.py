"""Runs from configuration to files, with a potential of closed form in the pair's place."""

import functools
import json
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import ase.io
import numpy as np
import pytest

from duetto.cli.main import main
from duetto.errors import InputError, RunStopped
from duetto.run import run as production
from duetto.run.append import AppendedFile
from duetto.run.checkpoint import save_checkpoint
from duetto.run.folder import CHECKPOINT, SUMMARY, THERMO, TRAJECTORY
from duetto.run.run import run
from duetto.run.thermo import read_thermo
from tests.engine.md.toy import ToyModel, argon

ROOT = Path(__file__).parents[3]

CONFIG = """
structure: argon.xyz
pair: none.duetto
regions: {complex: {indices: [0, 1, 2]}}
timestep_fs: 4
seed: 11
initial_temperature_K: 60
stages:
  - {ensemble: langevin, steps: 40, temperature_K: 60, friction_per_fs: 0.01}
  - {ensemble: nve, steps: 60}
output: {dir: out, thermo_every: 3, trajectory_every: 7, checkpoint_every: 10}
"""


@pytest.fixture
def folder(tmp_path):
    ase.io.write(tmp_path / "argon.xyz", argon(2))
    (tmp_path / "run.yaml").write_text(CONFIG)
    (tmp_path / "none.duetto").touch()  # the command wants a file; nothing reads it
    return tmp_path


def toy(folder, *overrides, **options):
    said = []
    summary = run(
        folder / "run.yaml",
        overrides=overrides,
        potential_factory=ToyModel,
        say=said.append,
        **options,
    )
    return summary, said


@pytest.fixture
def command(folder, monkeypatch, capsys):
    """The command line, in this process."""

    def call(*arguments, fault=":0"):
        monkeypatch.setenv("DUETTO_TEST_FAULT", fault)
        monkeypatch.setattr(production, "run", functools.partial(run, potential_factory=ToyModel))
        code = main(["run", str(folder / "run.yaml"), *arguments])
        monkeypatch.delenv("DUETTO_TEST_FAULT")
        monkeypatch.setattr(production, "run", run)
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return call


def killed_process(folder, *arguments, fault):
    """The command line in a process of its own, killed by itself."""
    finished = subprocess.run(
        [sys.executable, "-m", "tests.engine.run.toy_run", str(folder / "run.yaml"), *arguments],
        cwd=ROOT,
        env={**os.environ, "DUETTO_TEST_FAULT": fault},
        capture_output=True,
        timeout=300,
        check=False,
    )
    assert finished.returncode == -signal.SIGKILL


def output(folder, name="out"):
    return {file: (folder / name / file).read_bytes() for file in (THERMO, TRAJECTORY)}


def test_a_run_writes_what_it_says(folder):
    summary, said = toy(folder)
    out = folder / "out"
    assert sorted(path.name for path in out.iterdir()) == sorted(
        [CHECKPOINT, SUMMARY, THERMO, TRAJECTORY]
    )
    table = read_thermo(out / THERMO)
    assert table["step"].tolist() == list(range(0, 101, 3))
    assert table["time_fs"].tolist() == [4.0 * step for step in range(0, 101, 3)]
    assert table["temperature_K"][0] == pytest.approx(60.0, rel=1e-12)
    frames = ase.io.read(out / TRAJECTORY, index=":")
    assert [frame.info["step"] for frame in frames] == [*range(0, 101, 7), 100]
    assert frames[-1].arrays["w"].tolist() == [1.0] * 3 + [0.0] * 29
    assert said[0] == "argon.xyz: 32 atoms, 3 complex, 0 blend, 29 simple"
    assert "backend toy" in said[1]
    written = json.loads((out / SUMMARY).read_text())
    assert written["step"] == written["steps_measured"] == 100
    assert written["time_fs"] == 400.0
    assert written["n_rebuilds"] == table["n_rebuilds"][-1] > 3
    nve = table["step"] >= 40
    drift = np.polyfit(table["time_fs"][nve] * 1e-3, table["conserved_eV"][nve] * 1e3 / 32, 1)[0]
    assert summary.nve_drift_meV_per_atom_per_ps == pytest.approx(drift, rel=1e-6)


def test_resume_is_bit_for_bit_from_every_checkpoint(folder):
    toy(folder, "output.dir=whole")
    whole = output(folder, "whole")
    # Stop within and between stages, on and off the rows of the files.
    for stop in (1, 12, 39, 40, 41, 77, 100):
        steps = [f"stages.0.steps={min(stop, 40)}"]
        if stop > 40:
            steps.append(f"stages.1.steps={stop - 40}")
        else:
            text = CONFIG.replace("  - {ensemble: nve, steps: 60}\n", "")
            (folder / "run.yaml").write_text(text)
        toy(folder, *steps, overwrite=True)
        (folder / "run.yaml").write_text(CONFIG)
        summary, _ = toy(folder, resume=True)
        assert summary.steps_measured == 100 - stop
        assert output(folder) == whole, stop


def test_the_order_of_sums_matters_here(folder, monkeypatch):
    """Without the list's reference a resumed run differs: the test above does test it."""
    toy(folder, "output.dir=whole")
    toy(folder, "stages.1.steps=37")
    monkeypatch.setattr("tests.engine.md.toy.Pairs.list_reference", lambda self: None, raising=True)
    toy(folder, "stages.1.steps=37", overwrite=True)
    monkeypatch.undo()
    toy(folder, resume=True)
    assert output(folder) != output(folder, "whole")


def test_kill_9_and_resume_leave_the_same_files(folder):
    toy(folder, "output.dir=whole")
    # The first two evaluations are those of the start and of its check.
    killed_process(folder, fault="kill:38")
    # All rows up to the kill are there, beyond the checkpoint of step 30.
    assert read_thermo(folder / "out" / THERMO)["step"][-1] == 33
    killed_process(folder, "--resume", fault="kill:50")
    assert read_thermo(folder / "out" / THERMO)["step"][-1] == 78
    # Half a row and half a frame, as a crash of the machine leaves them.
    for name in (THERMO, TRAJECTORY):
        with open(folder / "out" / name, "ab") as stream:
            stream.write(b"81,324,5")
    summary, _ = toy(folder, resume=True)
    assert summary.steps_measured == 30
    assert output(folder) == output(folder, "whole")


@pytest.mark.parametrize(("name", "code"), [("SIGINT", 130), ("SIGTERM", 143)])
def test_signals_finish_the_step_and_say_how_to_resume(folder, command, name, code):
    before = signal.getsignal(signal.Signals[name])
    returned, out, _ = command(fault=f"{name}:25")
    assert returned == code
    assert signal.getsignal(signal.Signals[name]) is before
    assert out.strip().splitlines()[-1] == (
        f"stopped by {name} after step 23; continue with: duetto run {folder / 'run.yaml'} --resume"
    )
    summary, _ = toy(folder, resume=True)
    assert summary.steps_measured == 100 - 23
    toy(folder, "output.dir=whole")
    assert output(folder) == output(folder, "whole")


def test_forces_that_are_not_finite_leave_the_last_good_step(folder, command):
    code, _, err = command(fault="nan:29")
    assert code == 1
    (line,) = err.strip().splitlines()
    assert line.startswith("duetto: stopped: step 27 (108 fs): energy or forces are not finite")
    assert "atom 5 (Ar, w = 0)" in line
    assert line.endswith(f"the last good step, 26, is in {folder / 'out' / CHECKPOINT}")
    summary, _ = toy(folder, resume=True)
    assert summary.steps_measured == 100 - 26
    toy(folder, "output.dir=whole")
    assert output(folder) == output(folder, "whole")


def test_a_full_disk_is_one_line_and_the_checkpoint_is_whole(folder, command):
    # The system cuts the write that passes the limit short and refuses the next, as a full disk.
    unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, unlimited[1]))
    try:
        code, _, err = command()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
    assert code == 1
    (line,) = err.strip().splitlines()
    assert f"cannot write {folder / 'out' / TRAJECTORY}: File too large" in line
    assert "is whole: make room, then continue with --resume" in line
    assert (folder / "out" / TRAJECTORY).stat().st_size == 40_000
    toy(folder, resume=True)
    toy(folder, "output.dir=whole")
    assert output(folder) == output(folder, "whole")


def test_a_checkpoint_that_cannot_be_written_leaves_the_old_one(folder, monkeypatch):
    toy(folder, "stages.1.steps=5")
    before = (folder / "out" / CHECKPOINT).read_bytes()

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("duetto.files.os.fsync", full)
    with pytest.raises(RunStopped, match="No space left on device; the checkpoint of step 45 is"):
        toy(folder, resume=True)
    monkeypatch.undo()
    assert (folder / "out" / CHECKPOINT).read_bytes() == before
    assert not list((folder / "out").glob(".*"))
    toy(folder, resume=True)


def test_a_run_is_not_overwritten_unasked(folder):
    toy(folder, "stages.0.steps=2", "stages.1.steps=1")
    with pytest.raises(InputError, match=r"exists; continue that run with --resume"):
        toy(folder)
    short = output(folder)
    toy(folder, overwrite=True)
    assert len(output(folder)[THERMO]) > len(short[THERMO])


class Killed(BaseException):
    """Stands for a kill: nothing catches it."""


@pytest.fixture
def killed_before(monkeypatch):
    """Kill before the n-th thing that is done to the files of a run."""

    def arm(n):
        count = 0

        def counted(function):
            def call(*arguments, **options):
                nonlocal count
                count += 1
                if count == n:
                    raise Killed
                return function(*arguments, **options)

            return call

        patch = pytest.MonkeyPatch()
        patch.setattr("duetto.run.files.save_checkpoint", counted(save_checkpoint))
        for name in ("clear", "write", "sync"):
            patch.setattr(AppendedFile, name, counted(getattr(AppendedFile, name)))
        patch.setattr(Path, "unlink", counted(Path.unlink))
        return patch

    return arm


@pytest.mark.parametrize("n", range(1, 9))
@pytest.mark.parametrize("before", ["nothing", "a run"])
def test_a_run_killed_while_it_begins_is_the_old_one_or_the_new(folder, killed_before, before, n):
    short = ("stages.0.steps=8", "stages.1.steps=4")
    old, new = ("seed=1", *short), ("seed=2", *short)
    toy(folder, *new, "output.dir=whole")
    if before == "a run":
        toy(folder, *old)
        earlier = output(folder)
    patch = killed_before(n)
    with pytest.raises(Killed):
        toy(folder, *new, overwrite=before == "a run")
    patch.undo()
    try:
        toy(folder, *new, resume=True)
        assert output(folder) == output(folder, "whole")
    except InputError:
        if before == "a run":
            toy(folder, *old, resume=True)
            assert output(folder) == earlier
        else:
            toy(folder, *new)
            assert output(folder) == output(folder, "whole")


def another_process(folder, *arguments, fault=":0"):
    return subprocess.Popen(
        [sys.executable, "-m", "tests.engine.run.toy_run", str(folder / "run.yaml"), *arguments],
        cwd=ROOT,
        env={**os.environ, "DUETTO_TEST_FAULT": fault},
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )


def test_no_run_slips_in_while_another_prepares(folder):
    """Between the look at the folder and the first file another run could have come and gone."""
    errors = []

    class Slow(ToyModel):
        def __init__(self, config):
            super().__init__(config)
            process = another_process(folder)
            errors.append(process.communicate(timeout=300)[1])
            assert process.returncode == 2

    run(folder / "run.yaml", potential_factory=Slow, say=str)
    (line,) = errors
    assert f"{folder / 'out'}: process {os.getpid()} on " in line
    assert "is writing there" in line
    assert not list((folder / "out").glob(".*"))


def test_a_run_that_is_still_ending_is_not_resumed(folder):
    toy(folder, "output.dir=whole")
    process = another_process(folder, fault="SIGSTOP:38")
    os.waitpid(process.pid, os.WUNTRACED)
    before = output(folder)

    class Late(ToyModel):
        def potential(self, *arguments):
            """The checkpoint has been read: now the old process goes on to its end."""
            os.kill(process.pid, signal.SIGCONT)
            process.communicate(timeout=300)
            return super().potential(*arguments)

    with pytest.raises(InputError, match=rf"process {process.pid} on .* is writing there"):
        run(folder / "run.yaml", potential_factory=Late, say=str, resume=True)
    assert output(folder) == before
    os.kill(process.pid, signal.SIGCONT)
    process.communicate(timeout=300)
    assert output(folder) == output(folder, "whole")


def test_the_last_step_is_in_the_trajectory_once(folder):
    """Also of a run that was resumed when it had ended; a run made longer goes on without it."""
    steps = lambda: [f.info["step"] for f in ase.io.read(folder / "out" / TRAJECTORY, index=":")]  # noqa: E731
    toy(folder, "stages.1.steps=10")
    assert steps() == [*range(0, 50, 7), 50]
    toy(folder, "stages.1.steps=10", resume=True)
    assert steps() == [*range(0, 50, 7), 50]
    toy(folder, "stages.1.steps=16", resume=True)
    assert steps() == [*range(0, 57, 7)]


def test_resume_needs_the_same_run(folder):
    with pytest.raises(InputError, match="no checkpoint to resume; run without --resume"):
        toy(folder, resume=True)
    assert not (folder / "out").exists()
    toy(folder, "stages.1.steps=5")
    for override, message in {
        "timestep_fs=2": r"timestep_fs: the run was started with 4.0, now it is 2.0",
        "stages.0.temperature_K=50": r"stages\[0\].temperature_K",
        "stages.0.steps=30": r"stages\[0\].steps: the run was started with 40, now it is 30",
        "stages.1.steps=4": r"stages\[1\].steps",
        "seed=12": "seed",
        "dtype=float64": "dtype",
        "regions.complex.indices=[0]": "regions.complex.indices",
        "output.thermo_every=4": "output.thermo_every",
    }.items():
        with pytest.raises(InputError, match=message):
            toy(folder, override, resume=True)
    (folder / "run.yaml").write_text(
        CONFIG.split("stages:")[0]
        + (
            "stages: [{ensemble: langevin, steps: 40, temperature_K: 60, friction_per_fs: 0.01}]\n"
            "output: {dir: out, thermo_every: 3, trajectory_every: 7}\n"
        )
    )
    with pytest.raises(InputError, match=r"stages\[1\]: .* now it is nothing"):
        toy(folder, resume=True)
    (folder / "run.yaml").write_text(CONFIG)
    # What does not touch the steps done may change.
    allowed = ("limits.temperature_K=9000", "guard=warn", "output.checkpoint_every=3")
    summary, _ = toy(folder, *allowed, resume=True)
    assert summary.step == 100


def test_a_finished_run_resumes_to_nothing(folder):
    toy(folder)
    before = output(folder)
    summary, _ = toy(folder, resume=True)
    assert summary.steps_measured == 0
    assert summary.seconds_per_step is None
    assert output(folder) == before


def test_files_that_were_changed_are_not_resumed(folder):
    toy(folder, "stages.1.steps=5")
    thermo = folder / "out" / THERMO
    thermo.write_bytes(thermo.read_bytes()[:-10])
    with pytest.raises(InputError, match=r"thermo.csv: has \d+ bytes, but the checkpoint counts"):
        toy(folder, resume=True)


def test_another_pair_is_not_resumed(folder, monkeypatch):
    toy(folder, "stages.1.steps=5")
    monkeypatch.setattr(ToyModel, "content_hash", "another")
    with pytest.raises(InputError, match="not the pair that the run was started with"):
        toy(folder, resume=True)


def test_bad_input_writes_nothing(folder):
    before = sorted(path.name for path in folder.iterdir())
    for override in (
        "structure.frame=7",
        "structure.file=missing.xyz",
        "timestep_fs=-1",
        "regions.complex.indices=[99]",
        "initial_temperature_K=null",
    ):
        with pytest.raises(InputError):
            toy(folder, override)
        assert sorted(path.name for path in folder.iterdir()) == before


def test_the_temperature_limit_follows_the_target(folder):
    with pytest.raises(RunStopped, match=r"the limit is 70 K \(limits.temperature_K\)"):
        toy(folder, "limits.temperature_K=70", "stages.0.temperature_K=600")


def test_no_progress_bar_without_a_terminal(command):
    code, out, err = command("--json")
    assert code == 0
    assert json.loads(out)["step"] == 100
    assert "step/s" not in err
    assert "\r" not in err


def test_another_structure_is_not_resumed_but_a_lost_one_is(folder):
    toy(folder, "stages.1.steps=5")
    ase.io.write(folder / "argon.xyz", argon(2, seed=1))
    with pytest.raises(InputError, match=r"argon.xyz: the file has changed since the run"):
        toy(folder, resume=True)
    (folder / "argon.xyz").unlink()
    summary, _ = toy(folder, resume=True)
    assert summary.step == 100
    ase.io.write(folder / "argon.xyz", argon(2))
    toy(folder, "output.dir=whole")
    assert output(folder) == output(folder, "whole")


def test_another_number_of_threads_is_told(folder, monkeypatch, caplog):
    toy(folder, "stages.1.steps=5")
    monkeypatch.setattr("duetto.run.run.torch.get_num_threads", lambda: 77)
    toy(folder, resume=True)
    assert "now there are 77: it goes on, but" in caplog.text


def test_out_of_memory_at_the_start_writes_nothing(folder, command):
    code, _, err = command(fault="memory:1")
    assert code == 1
    assert err.startswith("duetto: stopped: step 0: out of memory with 32 atoms on cpu: CUDA out")
    assert not (folder / "out").exists()
