"""Compare the operations of bench/ with those of an older revision, both in one run, in turns.

    python scripts/compare_with.py REVISION
    python scripts/compare_with.py REVISION --only md_step neighbor_list --rounds 60

The older revision is put into outputs/revisions/, and two workers take turns, each with its own
package and its own bench/: what else the machine does slows both, and their ratio stays. It is
present over past, of the fastest times and in the middle of the rounds' ratios; above the limit by
both an operation counts as slower, and the exit code is 1. Times are of the processor, on one
thread. The first run of a revision takes minutes more, to compile it.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
FILES = ("test_operations.py", "test_step.py", "test_dynamics.py")
PARTS = ("engine", "kernels", "bench")

MOVED = {"duetto.measure.bench.": "duetto.bench.", "duetto.potential.mixture": "duetto.potential"}
"""Where revisions older than a benchmark have what it imports."""


@dataclass
class Comparison:
    """Seconds of one operation, a pair for every round.

    Attributes:
        past: of the older revision.
        present: of the working tree.
    """

    past: list[float] = field(default_factory=list)
    present: list[float] = field(default_factory=list)

    @property
    def of_fastest(self) -> float:
        """Ratio of the fastest times."""
        return min(self.present) / min(self.past)

    @property
    def in_the_middle(self) -> float:
        """Median of the rounds' ratios."""
        return median(b / a for a, b in zip(self.past, self.present, strict=True))


class Worker:
    """A process that runs a tree's benchmarks and answers when it is its turn."""

    def __init__(self, tree: Path) -> None:
        """Start it; the first thing that it says are the names of its operations."""
        theirs, ours = os.pipe(), os.pipe()
        files = [f"bench/{name}" for name in FILES if (tree / "bench" / name).exists()]
        command = [sys.executable, "-m", "pytest", "-q", "-c", os.devnull, "--rootdir", str(tree)]
        command += ["-p", "no:benchmark", "-p", "no:cacheprovider", "-p", "no:warnings"]
        command += ["-p", "turn_taking", *files]
        environment = dict(os.environ, OMP_NUM_THREADS="1", DUETTO_TURNS=f"{theirs[0]} {ours[1]}")
        environment["PYTHONPATH"] = os.pathsep.join([str(tree), str(Path(__file__).parent)])
        self._log = tree / "pytest.log"
        with self._log.open("w") as log:
            self._process = subprocess.Popen(
                command, cwd=tree, env=environment, pass_fds=(theirs[0], ours[1]), stdout=log
            )
        os.close(theirs[0])
        os.close(ours[1])
        self._to, self._from = os.fdopen(theirs[1], "w"), os.fdopen(ours[0])

    def say(self, word: Any) -> None:
        """Send a line."""
        print(json.dumps(word), file=self._to, flush=True)

    def hear(self) -> Any:
        """The worker's next line.

        Raises:
            SystemExit: it has died.
        """
        line = self._from.readline()
        if not line:
            sys.exit(f"a worker ended with exit code {self._process.wait()}, see {self._log}")
        return json.loads(line)

    def turn(self) -> float:
        """Seconds of the operation at hand."""
        self.say("go")
        return float(self.hear())


def tree_of(folder: Path, sources: Path) -> Path:
    """A folder with the package under its name, of sources that are not installed."""
    (folder / "duetto").mkdir(parents=True, exist_ok=True)
    links = [(folder / "duetto" / path.name, path) for path in (sources / "engine").iterdir()]
    links += [
        (folder / "duetto/kernels", sources / "kernels"),
        (folder / "bench", sources / "bench"),
    ]
    for link, target in links:
        if not link.exists():
            link.symlink_to(target)
    return folder


def checked_out(revision: str) -> Path:
    """The sources of a revision, in a folder that keeps them and their machine code."""
    git = ["git", "-C", str(ROOT)]
    found = subprocess.run(
        [*git, "rev-parse", "--short", f"{revision}^{{commit}}"], capture_output=True, text=True
    )
    if found.returncode:
        sys.exit(f"{revision}: git knows no such revision")
    folder = ROOT / "outputs" / "revisions" / found.stdout.strip()
    if not (folder / "bench").is_dir():
        folder.mkdir(parents=True, exist_ok=True)
        archive = subprocess.run(
            [*git, "archive", revision, *PARTS], capture_output=True, check=True
        )
        subprocess.run(["tar", "-x", "-C", str(folder)], input=archive.stdout, check=True)
    for name in FILES:
        if not (folder / "bench" / name).exists():
            text = (ROOT / "bench" / name).read_text()
            for here, there in MOVED.items():
                text = text.replace(f"from {here}", f"from {there}")
            (folder / "bench" / name).write_text(text)
    return folder


def compare(past: Worker, present: Worker, only: list[str], rounds: int) -> dict[str, Comparison]:
    """Have both run the operations that both have, by name."""
    known = past.hear()
    shared = [name for name in present.hear() if name in known]
    chosen = [name for name in shared if not only or any(word in name for word in only)]
    for worker in (past, present):
        worker.say(chosen)
    found = {}
    for name in chosen:
        answers = {worker: worker.hear() for worker in (past, present)}
        ready = [worker for worker, answer in answers.items() if answer == "ready"]
        if len(ready) == 2:
            found[name] = comparison = Comparison()
            turns = [(past, comparison.past), (present, comparison.present)]
            for number in range(rounds):
                for worker, times in turns if number % 2 else reversed(turns):
                    times.append(worker.turn())
            print(
                f"{name:36s} {1e3 * min(comparison.past):10.4f} "
                f"{1e3 * min(comparison.present):10.4f} {comparison.of_fastest:8.3f} "
                f"{comparison.in_the_middle:8.3f}",
                flush=True,
            )
        else:
            print(f"{name:36s} fails", flush=True)
        for worker in ready:
            worker.say("enough")
            worker.hear()
    return found


def main(arguments: list[str] | None = None) -> int:
    """Compare; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("revision", help="the older one, as git names it")
    parser.add_argument("--only", nargs="+", default=[], help="operations with one of these words")
    parser.add_argument("--rounds", type=int, default=40, help="turns of each")
    parser.add_argument("--limit", type=float, default=1.03, help="ratio that counts as slower")
    args = parser.parse_args(arguments)
    sources = checked_out(args.revision)
    trees = ROOT / "outputs" / "revisions"
    past = Worker(tree_of(trees / f"tree-{sources.name}", sources))
    present = Worker(tree_of(trees / "tree-present", ROOT))
    print(f"{'operation':36s} {'past/ms':>10s} {'present/ms':>10s} {'fastest':>8s} {'middle':>8s}")
    found = compare(past, present, args.only, args.rounds)
    slower = [
        name
        for name, times in found.items()
        if min(times.of_fastest, times.in_the_middle) > args.limit
    ]
    print(f"slower than {args.limit}: {', '.join(slower)}" if slower else "none is slower")
    return 1 if slower or not found else 0


if __name__ == "__main__":
    sys.exit(main())
