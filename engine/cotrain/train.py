"""Training from a configuration file, by nequip's own trainer.

Nothing of nequip, torch or Lightning is imported before the configuration, the files and the
folder have been looked at.
"""

from __future__ import annotations

import importlib
import logging
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, redirect_stderr
from pathlib import Path
from typing import Any

import yaml
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from duetto.cotrain.composed import checkpoint_folder, composed, plain_data
from duetto.cotrain.config import TrainConfig, load_train_config
from duetto.cotrain.expansion import data_section, nequip_configuration
from duetto.cotrain.labelled import unlabelled_per_batch
from duetto.cotrain.look import SPLITS, SetCounts, look_at
from duetto.errors import InputError
from duetto.files import atomic_write, require_file
from duetto.folders import claimed

LAST = "last.ckpt"
"""What Lightning's `ModelCheckpoint` calls the newest checkpoint under `save_last: true`."""

BEST = "best.ckpt"
"""The checkpoint with the least validation loss, of a short configuration."""

PAIR = "pair.duetto"
"""HF and the LF that it corrects, where that was given."""

EXPANDED = "nequip.yaml"
"""The configuration that nequip was given, in the folder of a training by a short one."""

_OF_NEQUIP = ("defaults", "run", "trainer", "training_module")
"""Keys that a short configuration does not have."""


class Interrupted(Exception):
    """Training was stopped by a signal; `checkpoint` is what it can be resumed from, if anything.

    Attributes:
        signal_name: "SIGINT" or "SIGTERM".
        checkpoint: that of the last finished epoch.
    """

    def __init__(self, signal_name: str, checkpoint: Path | None):
        super().__init__(signal_name)
        self.signal_name, self.checkpoint = signal_name, checkpoint


def train(
    config: str | os.PathLike[str],
    overrides: Sequence[str] = (),
    *,
    resume: bool = False,
    overwrite: bool = False,
    progress: bool = False,
    verbose: bool = False,
    say: Callable[[str], None] = print,
) -> Path | None:
    """Look at the configuration and all its files, lock its folder, and train as nequip does.

    Args:
        config: a short configuration (`duetto.cotrain.config`), or one of nequip's.
        overrides: changes to it: `epochs=3`; in Hydra's syntax for nequip's.
        resume: continue from the last checkpoint in the folder of the configuration's
            `ModelCheckpoint`; the curve goes on as if nothing had happened.
        overwrite: replace a training that is already there.
        progress: whether to show a progress bar.
        verbose: let nequip and Lightning tell what they do.
        say: where lines for the user go.

    Returns:
        The folder of the checkpoints; None if the configuration keeps none.

    Raises:
        InputError: the configuration, the data or the checkpoint cannot be used.
        Interrupted: stopped by SIGINT or SIGTERM.
    """
    path = Path(config).resolve()
    if not path.is_file() or path.suffix not in (".yaml", ".yml"):
        raise InputError(f"{config}: no such training configuration (a .yaml file)")
    if resume and overwrite:
        raise InputError("--resume continues a training and --overwrite replaces it: give one")
    if _is_nequips(path):
        return _train_nequips(config, overrides, resume, overwrite, progress, verbose, say)
    short = load_train_config(config, overrides)
    counts = look_at(data_section(short))
    structures = None
    if short.lf_linear is not None:
        linear_lf = importlib.import_module("duetto.cotrain.linear_lf")  # it needs torch
        structures = linear_lf.structures_to_fit(short)
    expanded = nequip_configuration(short, _steps_per_epoch(short, counts))
    with claimed(short.output):
        # Beside the checkpoints, for nequip's own commands and for people.
        written = short.output / EXPANDED
        changes = _resumed_from(short.output, OmegaConf.create(expanded), resume, overwrite)
        _tell(counts, say)
        head = f"# Made by duetto train from {path.name}.\n"
        atomic_write(written, head + yaml.safe_dump(expanded, sort_keys=False, allow_unicode=True))
        _start(written.resolve(), short.output, changes, progress, verbose, str(config))
        if structures is not None:
            linear_lf.fit_linear(short, structures, short.output / BEST, say)
        if short.lf_pair is not None:
            _write_pair(short.output, str(short.lf_pair))
    return short.output


def _write_pair(folder: Path, lf: str) -> None:
    """The best correction beside the LF that it was trained for."""
    assemble = importlib.import_module("duetto.conversion.assemble").assemble
    pair, _ = assemble(hf=str(folder / BEST), lf=lf)
    pair.save(folder / PAIR)


def _steps_per_epoch(config: TrainConfig, counts: Sequence[SetCounts]) -> int:
    training = next(found for found in counts if found.name == SPLITS["train"])
    share = config.agreement_fraction if training.unlabelled else 0.0
    per_batch = config.batch_size - unlabelled_per_batch(config.batch_size, share)
    return -(-training.labelled // per_batch)


def _train_nequips(
    config: str | os.PathLike[str],
    overrides: Sequence[str],
    resume: bool,
    overwrite: bool,
    progress: bool,
    verbose: bool,
    say: Callable[[str], None],
) -> Path | None:
    """Train by a configuration of nequip's."""
    path = Path(config).resolve()
    with _plain_errors(str(config)):
        written = composed(path, overrides)
        folder = checkpoint_folder(written)
        counts = look_at(plain_data(written))
    with claimed(folder) if folder is not None else nullcontext():
        changes = [*overrides, *_resumed_from(folder, written, resume, overwrite)]
        _tell(counts, say)
        _start(path, folder, changes, progress, verbose, str(config))
    return folder


def _start(
    path: Path,
    folder: Path | None,
    changes: Sequence[str],
    progress: bool,
    verbose: bool,
    name: str,
) -> None:
    shown = [f"++trainer.enable_progress_bar={str(progress).lower()}"]
    if not verbose:
        shown += ["++trainer.enable_model_summary=false", "hydra/job_logging=none"]
        shown += ["hydra/hydra_logging=none"]
    with _plain_errors(name), _quiet(not verbose), _stopped_by_signal(folder):
        _run_nequip(path, [*shown, *changes])


def _tell(counts: Sequence[SetCounts], say: Callable[[str], None]) -> None:
    for found in counts:
        say(found.sentence())


def _is_nequips(path: Path) -> bool:
    """Whether a file is a configuration of nequip's (Hydra's) rather than a short one."""
    try:
        data = yaml.safe_load(path.read_text())
    except (YAMLError, UnicodeDecodeError):
        return False
    return isinstance(data, Mapping) and any(key in data for key in _OF_NEQUIP)


def _resumed_from(
    folder: Path | None, config: DictConfig, resume: bool, overwrite: bool
) -> list[str]:
    """The override that names the checkpoint to continue from, if any."""
    if resume and folder is None:
        raise InputError("--resume: the configuration has no ModelCheckpoint with save_last")
    last = None if folder is None else folder / LAST
    exists = last is not None and last.is_file()
    if resume and not exists:
        raise InputError(f"--resume: there is no {last}")
    if resume:
        return [f"++ckpt_path='{last}'"]
    given = config.get("ckpt_path")
    if given is not None:
        require_file(given, "checkpoint", "ckpt_path: ")
    if exists and given is None and not overwrite and "train" in list(config.run):
        raise InputError(
            f"{folder} holds a training already; continue it with --resume, replace it with "
            "--overwrite, or set another output="
        )
    if exists and overwrite and last is not None:
        last.unlink()  # or an interruption in the first epoch would point at the old training
    return []


def _run_nequip(path: Path, overrides: Sequence[str]) -> None:
    # nequip registers this resolver in every run, and OmegaConf takes a name only once.
    OmegaConf.clear_resolver("training_data_stats")
    nequip_train = importlib.import_module("nequip.scripts.train")
    arguments = sys.argv
    sys.argv = ["duetto train", "-cp", str(path.parent), "-cn", path.stem, *overrides]
    try:
        with redirect_stderr(_WithoutHydrasLine(sys.stderr)):
            nequip_train.main()
    finally:
        sys.argv = arguments


class _WithoutHydrasLine:
    """A stream without the line in which Hydra repeats the overrides of a run that failed."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write unless it is that line."""
        if text.startswith("Error executing job with overrides"):
            return len(text)
        return int(self._stream.write(text))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def _quiet(wanted: bool) -> Iterator[None]:
    """nequip and Lightning tell of every step of their own; the lines per epoch say enough."""
    if not wanted:
        yield
        return
    os.environ.setdefault("_NEQUIP_LOG_LEVEL", "WARNING")
    before = logging.root.manager.disable
    logging.disable(logging.INFO)  # packages imported on the way set levels of their own loggers
    try:
        with warnings.catch_warnings():
            # About data loaders' workers, and about the folder that was looked at above.
            warnings.filterwarnings("ignore", module=r"lightning\.")
            yield
    finally:
        logging.disable(before)


@contextmanager
def _stopped_by_signal(folder: Path | None) -> Iterator[None]:
    """Lightning's ways to end on a signal, told apart from success and failure."""
    from lightning.pytorch.utilities.exceptions import SIGTERMException

    try:
        yield
    except SIGTERMException as stop:
        raise Interrupted("SIGTERM", _newest(folder)) from stop
    except (KeyboardInterrupt, SystemExit) as stop:
        if isinstance(stop, SystemExit) and not isinstance(stop.__context__, KeyboardInterrupt):
            raise
        raise Interrupted("SIGINT", _newest(folder)) from stop


def _newest(folder: Path | None) -> Path | None:
    last = None if folder is None else folder / LAST
    return last if last is not None and last.is_file() else None


@contextmanager
def _plain_errors(name: str) -> Iterator[None]:
    """What a configuration can do wrong, as InputError."""
    try:
        yield
    except (HydraException, OmegaConfBaseException, YAMLError) as error:
        raise InputError(f"{name}: {_in_a_line(_input_error(error) or error)}") from error
    except ImportError as error:
        if "Are you sure that" not in str(error):  # Hydra's words for a _target_ that is not there
            raise
        raise InputError(f"{name}: {_in_a_line(error)}") from error
    except AssertionError as error:
        # nequip checks configurations by assertions with a message.
        if not str(error):
            raise
        raise InputError(f"{name}: {_in_a_line(error)}") from error


def _in_a_line(error: BaseException) -> str:
    return " ".join(str(error).split())


def _input_error(error: BaseException | None) -> InputError | None:
    """The InputError that Hydra has wrapped, if there is one."""
    while error is not None and not isinstance(error, InputError):
        error = error.__cause__
    return error
