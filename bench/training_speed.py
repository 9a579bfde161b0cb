"""A training step in the folded form beside nequip's own, in one process, in turns.

    python bench/training_speed.py [--threads 2] [--rounds 7] [--role hf] [--json]

The step is a whole one: energies and forces of a batch, the loss, its gradients, Adam. Both models
have the same weights; their losses are compared before anything is timed. Where other work shares
the cores, OMP_WAIT_POLICY=passive keeps waiting threads from taking them.
"""

from __future__ import annotations

import argparse
import gzip
import io
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ase.io
import torch
from allegro.model import AllegroModel
from nequip.data import AtomicDataDict
from nequip.data.ase import from_ase
from nequip.data.transforms import ChemicalSpeciesToAtomTypeMapper, NeighborListTransform
from nequip.utils.global_state import set_global_state

from duetto.cotrain import FoldedAllegroModel

DATA = Path(__file__).parents[1] / "examples" / "ptco" / "data" / "ptco_chgnet_test.extxyz.gz"
TYPES = ["Pt", "C", "O"]
SIZES = {
    "hf": {"r_max": 5.5, "l_max": 2, "num_layers": 2, "avg_num_neighbors": 30.0},
    "lf": {"r_max": 4.5, "l_max": 1, "num_layers": 1, "avg_num_neighbors": 18.0},
}
"""The experts of examples/ptco/cotrain.yaml."""

LOSS_TOLERANCE = 1e-4
"""Relative; float32 sums over thousands of edges on both sides."""


def main() -> None:
    """Time and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--role", choices=SIZES, default="hf")
    parser.add_argument("--frames", type=int, default=4, help="frames per batch")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    set_global_state()
    result = measure(args.role, args.frames, args.rounds) | {"threads": args.threads}
    if args.json:
        print(json.dumps(result, indent=2))
        return
    print(f"{args.role}: {result['atoms']} atoms, {result['edges']} edges, {args.threads} threads")
    for name, times in result["ms_per_step"].items():
        spread = f"{min(times):.0f} to {max(times):.0f}"
        print(f"{name:8s} {statistics.median(times):8.1f} ms a step ({spread})")
    print(f"folded is {result['speedup']:.1f} times faster (median of {args.rounds} paired rounds)")


def measure(role: str, frames: int, rounds: int) -> dict[str, Any]:
    """Times of both, round by round, and the median of the rounds' ratios."""
    batch = make_batch(frames, SIZES[role]["r_max"])
    steps = {
        name: make_step(build(role), batch)
        for name, build in (("stock", _stock), ("folded", _folded))
    }
    losses = {name: step() for name, step in steps.items()}  # warm-up, too
    if abs(losses["stock"] - losses["folded"]) > LOSS_TOLERANCE * abs(losses["stock"]):
        raise SystemExit(f"the losses differ: {losses}")
    times: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(rounds):
        for name, step in steps.items():
            start = time.perf_counter()
            step()
            times[name].append(1e3 * (time.perf_counter() - start))
    ratios = [a / b for a, b in zip(times["stock"], times["folded"], strict=True)]
    return {
        "role": role,
        "atoms": int(batch[AtomicDataDict.NUM_NODES_KEY].sum()),
        "edges": batch[AtomicDataDict.EDGE_INDEX_KEY].shape[1],
        "ms_per_step": times,
        "speedup": statistics.median(ratios),
    }


def make_batch(frames: int, r_max: float) -> AtomicDataDict.Type:
    """Frames from all over the test set, with labels."""
    with gzip.open(DATA, "rt") as stream:
        everything = list(ase.io.iread(io.StringIO(stream.read()), index=":", format="extxyz"))
    transforms = [
        ChemicalSpeciesToAtomTypeMapper(
            model_type_names=TYPES,
            chemical_species_to_atom_type_map=dict(zip(TYPES, TYPES, strict=True)),
        ),
        NeighborListTransform(r_max=r_max),
    ]
    chosen = [from_ase(atoms) for atoms in everything[:: len(everything) // frames][:frames]]
    for transform in transforms:
        chosen = [transform(data) for data in chosen]
    return AtomicDataDict.batched_from_list(chosen)


def _arguments(role: str) -> dict[str, Any]:
    widths = ("scalar_embed_mlp", "allegro_mlp", "readout_mlp")
    return {
        "seed": 1,
        "model_dtype": "float32",
        "type_names": TYPES,
        "parity": True,
        "num_scalar_features": 32,
        "num_tensor_features": 16,
        "radial_chemical_embed": {
            "_target_": "allegro.nn.TwoBodyBesselScalarEmbed",
            "num_bessels": 8,
        },
        **{f"{network}_hidden_layers_width": 32 for network in widths},
        **SIZES[role],
    }


def _stock(role: str) -> torch.nn.Module:
    return AllegroModel(**_arguments(role))


def _folded(role: str) -> torch.nn.Module:
    return FoldedAllegroModel(**_arguments(role))


def make_step(model: torch.nn.Module, batch: AtomicDataDict.Type) -> Callable[[], float]:
    """A training step on the batch; it returns the loss before the step."""
    model.train()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    energy, forces = AtomicDataDict.TOTAL_ENERGY_KEY, AtomicDataDict.FORCE_KEY
    inputs = {key: value for key, value in batch.items() if key not in (energy, forces)}

    def step() -> float:
        optimizer.zero_grad()
        output = model(inputs.copy())
        loss = (output[forces] - batch[forces]).square().mean()
        loss = loss + 10 * (output[energy] - batch[energy]).square().mean()
        loss.backward()
        optimizer.step()
        return float(loss.detach())

    return step


if __name__ == "__main__":
    main()
