"""A linear LF at the end of HF's training: the same fit as that of `duetto distil`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from duetto.atoms.labels import LabelKeys, config_type
from duetto.cotrain.bulk_frames import BulkFrames
from duetto.cotrain.config import CrystalFrames, TrainConfig
from duetto.cotrain.expansion import made
from duetto.cotrain.labelled import Purposes, labelled_frames, unlabelled_frames
from duetto.distil.structures import Structure
from duetto.errors import InputError

PAIR = "pair.duetto"
"""The pair of HF and the fitted LF, in the folder of the training."""


def structures_to_fit(config: TrainConfig) -> list[Structure]:
    """The labelled frames of `fits.lf`, and all without labels, of the species that LF is to know.

    Raises:
        InputError: a frame cannot be used, or there are none.
    """
    settings, data = config.lf_linear, config.data
    assert settings is not None
    keys = LabelKeys.from_dict(data.keys)
    purposes = Purposes({"hf": config.fits.hf, "lf": config.fits.lf})
    labelled = labelled_frames(_paths(data.labelled), purposes, keys, species=config.species)
    sources = [
        BulkFrames(**{k: v for k, v in made(source, config.seed).items() if k != "_target_"})
        if isinstance(source, CrystalFrames)
        else str(source)
        for source in data.unlabelled
    ]
    frames = [frame for frame in labelled if frame.trains["lf"]]
    frames += unlabelled_frames(sources, purposes, config.species)
    wanted = set(settings.species or (settings.crystal and [settings.crystal.symbol]) or ())
    found = []
    for frame in frames:
        if not wanted or set(frame.atoms.symbols) <= wanted:
            # Frames of one trajectory are alike: cross-validation keeps them together.
            group = str(frame.atoms.info.get("trajectory", frame.where))
            found.append(Structure(frame.atoms, group, config_type(frame.atoms, "made", keys)))
    if not found:
        raise InputError(
            f"lf.linear: no frame of fits.lf and data.unlabelled is of "
            f"{', '.join(sorted(wanted)) or 'any species'} alone"
        )
    return found


def fit_linear(
    config: TrainConfig,
    structures: Sequence[Structure],
    checkpoint: Path,
    say: Callable[[str], None],
) -> Path:
    """Fit LF to the HF of a checkpoint, on the frames that LF is to know; write the pair.

    Args:
        config: of the training, with `lf_linear`.
        structures: see `structures_to_fit`.
        checkpoint: of HF.
        say: is told what goes on.

    Returns:
        The pair file; the report of the fit is beside it, as .json and .html.

    Raises:
        InputError: constraints that cannot be met; see `duetto.distil.fit.distil`.
    """
    from duetto.conversion.pack import pack
    from duetto.distil.fit import distil
    from duetto.distil.report import write_pair

    trained = pack([str(checkpoint)])[0]
    hf, settings = trained.hf, config.lf_linear
    assert hf is not None
    assert settings is not None
    changes: dict[str, Any] = {"test": tuple(_paths(config.data.test))}
    if not settings.species and settings.crystal is None:
        met = {symbol for one in structures for symbol in one.atoms.symbols}
        changes["species"] = tuple(symbol for symbol in config.species if symbol in met)
    settings = settings.model_copy(update=changes)
    say(f"fitting a linear LF to HF on {len(structures)} frames")
    fit = distil(hf, settings, say, structures)
    target = config.output / PAIR
    report = write_pair(hf, fit, settings, target, trained.content_hash, trained.provenance)
    errors = report["fit_rmse"]
    say(
        f"{report['coefficients']} coefficients; from HF on these frames: "
        f"{errors['sites']:.2f} meV an atom, {errors['forces']:.1f} meV/Å"
    )
    return target


def _paths(files: Iterable[Path]) -> list[str]:
    return [str(path) for path in files]
