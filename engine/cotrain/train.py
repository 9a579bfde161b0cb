"""Training from a configuration file, by nequip's own trainer."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from hydra import compose, initialize_config_dir
from hydra.errors import HydraException
from lightning.pytorch.utilities.exceptions import SIGTERMException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from duetto.errors import InputError

LAST = "last.ckpt"
"""What Lightning's `ModelCheckpoint` calls the newest checkpoint under `save_last: true`."""

_SECTIONS = ("run", "data", "trainer", "training_module")


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
) -> None:
    """Train as `nequip-train` does.

    Args:
        config: a nequip configuration file.
        overrides: changes to it in Hydra's syntax, `epochs=3`.
        resume: continue from the last checkpoint in the folder of the configuration's
            `ModelCheckpoint`; the curve goes on as if nothing had happened.
        overwrite: replace a training that is already there.
        progress: whether to show a progress bar.

    Raises:
        InputError: the configuration, the data or the checkpoint cannot be used.
        Interrupted: stopped by SIGINT or SIGTERM.
    """
    path = Path(config).resolve()
    if not path.is_file() or path.suffix not in (".yaml", ".yml"):
        raise InputError(f"{config}: no such training configuration (a .yaml file)")
    if resume and overwrite:
        raise InputError("--resume continues a training and --overwrite replaces it: give one")
    changes = [f"++trainer.enable_progress_bar={str(progress).lower()}", *overrides]
    with _plain_errors(str(config)):
        composed = _compose(path, changes)
        folder = _checkpoint_folder(composed)
        changes += _resumed_from(folder, composed, resume, overwrite)
        with _stopped_by_signal(folder):
            _run_nequip(path, changes)


def _compose(path: Path, overrides: Sequence[str]) -> DictConfig:
    """The configuration with its defaults and overrides, checked for nequip's sections."""
    with initialize_config_dir(config_dir=str(path.parent), version_base=None):
        config = compose(config_name=path.stem, overrides=list(overrides))
    missing = [section for section in _SECTIONS if section not in config]
    if missing:
        raise InputError(f"{path.name}: the sections {', '.join(missing)} are missing")
    return config


def _checkpoint_folder(config: DictConfig) -> Path | None:
    """Where the newest checkpoint is kept; None if the configuration keeps none."""
    for callback in config.trainer.get("callbacks") or ():
        if callback["_target_"].endswith("ModelCheckpoint") and callback.get("save_last"):
            folder = callback.get("dirpath")
            return None if folder is None else Path(folder)
    return None


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
    if given is not None and not Path(given).is_file():
        raise InputError(f"ckpt_path {given}: no such checkpoint")
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
        nequip_train.main()
    finally:
        sys.argv = arguments


@contextmanager
def _stopped_by_signal(folder: Path | None) -> Iterator[None]:
    """Lightning's ways to end on a signal, told apart from success and failure."""
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
        cause = _input_error(error)
        raise InputError(f"{name}: {cause or error}") from error
    except AssertionError as error:
        # nequip checks configurations by assertions with a message.
        if not str(error):
            raise
        raise InputError(f"{name}: {error}") from error


def _input_error(error: BaseException | None) -> InputError | None:
    """The InputError that Hydra has wrapped, if there is one."""
    while error is not None and not isinstance(error, InputError):
        error = error.__cause__
    return error
