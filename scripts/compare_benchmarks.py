"""Compare a run of the benchmarks with the baseline, as ratios that do not depend on the machine.

    pytest bench --benchmark-enable --benchmark-json=bench.json
    python scripts/compare_benchmarks.py bench.json

Every benchmark is a ratio: its fastest time over that of a yardstick timed between its rounds (a
matrix product, or the plain reference on the same input). A ratio above the baseline's by more
than the limit is a slowdown: it is named, and the exit code is 1. `--update` writes the run as the
new baseline instead.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

BASELINE = Path(__file__).resolve().parent.parent / "bench" / "baseline.json"


def ratios(path: Path) -> dict[str, float]:
    """Ratio of each benchmark in a file that pytest-benchmark wrote."""
    benchmarks = json.loads(path.read_text())["benchmarks"]
    return {one["name"]: one["extra_info"]["ratio"] for one in benchmarks}


def compare(found: dict[str, float], expected: dict[str, float], limit: float) -> list[str]:
    """One line for each benchmark that has become slower, and for each that is missing."""
    lines = [
        f"{name}: in the baseline, but was not run" for name in sorted(set(expected) - set(found))
    ]
    for name in sorted(set(found) & set(expected)):
        change = found[name] / expected[name]
        if change > limit:
            lines.append(
                f"{name}: {change:.2f} times as slow as the baseline "
                f"(ratio {found[name]:.3f}, was {expected[name]:.3f})"
            )
    return lines


def main(arguments: list[str] | None = None) -> int:
    """Compare, or write the baseline; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, help="JSON file of pytest-benchmark")
    parser.add_argument("--baseline", type=Path, default=BASELINE)
    parser.add_argument("--limit", type=float, default=1.5, help="slowdown that is flagged")
    parser.add_argument("--update", action="store_true", help="make this run the baseline")
    args = parser.parse_args(arguments)
    found = ratios(args.run)
    if args.update:
        rounded = {name: float(f"{ratio:.3g}") for name, ratio in sorted(found.items())}
        args.baseline.write_text(json.dumps(rounded, indent=1) + "\n")
        return 0
    expected = json.loads(args.baseline.read_text())
    for name in sorted(found):
        was = f"{expected[name]:9.3f}" if name in expected else "      new"
        print(f"{name:32s} {found[name]:9.3f} {was}")
    slow = compare(found, expected, args.limit)
    print("\n".join(slow) if slow else "no slowdown", file=sys.stderr if slow else sys.stdout)
    return 1 if slow else 0


if __name__ == "__main__":
    sys.exit(main())
