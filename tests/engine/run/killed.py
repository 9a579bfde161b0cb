"""A run in a process of its own, killed from outside."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import torch


def run_and_kill(words: list[str], thermo: Path, lines: int) -> None:
    """Start `duetto run` with `words`, and kill it once its table has so many lines."""
    process = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import sys, torch; from duetto.cli.main import main; "
            f"torch.set_num_threads({torch.get_num_threads()}); sys.exit(main(sys.argv[1:]))",
            "run",
            *words,
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    began = time.monotonic()
    while not thermo.exists() or thermo.read_bytes().count(b"\n") < lines:
        assert process.poll() is None
        assert time.monotonic() - began < 300
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
