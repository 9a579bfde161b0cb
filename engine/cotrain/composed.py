"""A configuration of nequip's: composed by Hydra, and looked at before nequip is imported."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf

from duetto.errors import InputError

_SECTIONS = ("run", "data", "trainer", "training_module")


def composed(path: Path, overrides: Sequence[str]) -> DictConfig:
    """The configuration with its defaults and overrides, checked for nequip's sections.

    Raises:
        InputError: a section is missing, or an override puts words where the file has a number.
    """
    with initialize_config_dir(config_dir=str(path.parent), version_base=None):
        written = compose(config_name=path.stem)
        config = compose(config_name=path.stem, overrides=list(overrides))
    missing = [section for section in _SECTIONS if section not in config]
    if missing:
        raise InputError(f"{path.name}: the sections {', '.join(missing)} are missing")
    _require_numbers(_values(written), _values(config))
    epochs = OmegaConf.select(config, "trainer.max_epochs")
    if epochs is not None and not isinstance(epochs, int):
        raise InputError(
            f"command line: trainer.max_epochs: got {epochs!r}; allowed: a whole number"
        )
    return config


def _require_numbers(written: dict[str, Any], given: dict[str, Any]) -> None:
    """Refuse words in place of numbers: nequip would stumble over them somewhere, in many lines."""
    for key, value in given.items():
        before = written.get(key)
        number = isinstance(before, (int, float)) and not isinstance(before, bool)
        if number and isinstance(value, (str, bool)) and not str(value).startswith("${"):
            raise InputError(f"command line: {key}: got {value!r}; allowed: a number, as {before}")


def _values(config: DictConfig) -> dict[str, Any]:
    """Every value by its path of keys, interpolations as they are written."""
    return dict(_leaves(OmegaConf.to_container(config, resolve=False), ""))


def _leaves(node: Any, path: str) -> Iterator[tuple[str, Any]]:
    if not isinstance(node, (dict, list)):
        yield path, node
        return
    for key, value in node.items() if isinstance(node, dict) else enumerate(node):
        yield from _leaves(value, f"{path}.{key}" if path else str(key))


def plain_data(config: DictConfig) -> dict[str, Any]:
    """The section `data` as plain data, without what only nequip can resolve."""
    plain: dict[str, Any] = {}
    for name in ("train_dataset", "val_dataset", "test_dataset"):
        given = OmegaConf.select(config, f"data.{name}")
        if given is not None:
            sets = [given] if isinstance(given, DictConfig) else given
            plain[name] = [_plain_set(dataset) for dataset in sets]
    return plain


def _plain_set(dataset: DictConfig) -> dict[str, Any]:
    keys = [key for key in dataset if key != "transforms"]
    plain = {
        str(key): OmegaConf.to_container(dataset[key], resolve=True)
        if OmegaConf.is_config(dataset[key])
        else dataset[key]
        for key in keys
    }
    transforms = dataset.get("transforms") or ()
    names = [t["model_type_names"] for t in transforms if "model_type_names" in t]
    if names:
        plain["transforms"] = [{"model_type_names": list(names[0])}]
    return plain


def checkpoint_folder(config: DictConfig) -> Path | None:
    """Where the newest checkpoint is kept; None if the configuration keeps none."""
    for callback in config.trainer.get("callbacks") or ():
        if callback["_target_"].endswith("ModelCheckpoint") and callback.get("save_last"):
            folder = callback.get("dirpath")
            return None if folder is None else Path(folder)
    return None
