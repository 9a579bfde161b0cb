"""Long runs whose region moves: what they conserve, and what changing weights costs.

    python bench/moving_regions.py --steps 20000

CO on Pt(111), `examples/ptco/follow.yaml`, at constant energy: with weights that follow the
molecule, and with a partition that is updated around it, for the shipped pair, for its twin and for
a crossed pair, the HF of the one with the LF of the other.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from duetto.experts.pair import ExpertPair
from duetto.run.run import run

EXAMPLE = Path(__file__).parents[1] / "examples" / "ptco"
SURFACES = "{layers: {axis: z, top: 1, of: {species: Pt}}}, {layers: {axis: z, bottom: 1}}"
UPDATED = (
    "regions={complex: {any: [{within: {distance: 5.0, of: {species: [C, O]}}}, "
    f"{SURFACES}]}}, blend: {{width: 1.5}}, update: {{every: 20, average: 100, ramp: 50}}}}"
)


def write_pairs(folder: Path) -> dict[str, Path]:
    """The pair, its twin, and the two crossed."""
    pairs = {"co-trained": EXAMPLE / "ptco.duetto", "twin": EXAMPLE / "ptco_independent.duetto"}
    one, other = (ExpertPair.load(path) for path in pairs.values())
    crossed = ExpertPair(one.hf, other.lf, {"lf": other.provenance.get("lf")})
    crossed.save(folder / "crossed.duetto")
    return {**pairs, "crossed": folder / "crossed.duetto"}


def main() -> None:
    """Print one row per pair and way of moving, in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=20000, help="at constant energy, of 1 fs")
    args = parser.parse_args()
    print("| pair | region | drift, meV/atom/ps | booked, eV/ps | Σ abs(Δw ΔE), eV/ps |")
    print("|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for name, pair in write_pairs(Path(folder)).items():
            for way, extra in (("follow", []), ("update", [UPDATED])):
                summary = run(
                    EXAMPLE / "follow.yaml",
                    overrides=[
                        f"pair={pair}",
                        f"output.dir={folder}/{name}-{way}",
                        f"stages.1.steps={args.steps}",
                        *extra,
                    ],
                    say=lambda line: None,
                )
                drift = summary.nve_drift_meV_per_atom_per_ps
                print(
                    f"| {name} | {way} | {drift:.1e} | {summary.e_repartition_eV_per_ps:.3f} "
                    f"| {summary.repartition_work_eV_per_ps:.3f} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
