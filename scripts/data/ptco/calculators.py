"""The labelling calculator by name."""

from __future__ import annotations

import importlib
import importlib.metadata
import platform

from ase.calculators.calculator import Calculator

from duetto.errors import InputError


def load_calculator(name: str) -> Calculator:
    """`chgnet`, `emt` (plumbing tests only), or `module:Class` called without arguments.

    Raises:
        InputError: if the name does not lead to a calculator.
    """
    if name == "chgnet":
        try:
            from ptco.chgnet import FastCHGNet
        except ImportError as error:
            raise InputError(
                f"--calculator chgnet needs the chgnet package ({error}): "
                "pip install 'duetto[data]'"
            ) from error
        return FastCHGNet()
    if name == "emt":
        from ase.calculators.emt import EMT

        return EMT()
    module_name, separator, class_name = name.partition(":")
    if not separator:
        raise InputError(f"--calculator {name!r}: give 'chgnet', 'emt' or 'module:Class'")
    try:
        return getattr(importlib.import_module(module_name), class_name)()
    except (ImportError, AttributeError, TypeError) as error:
        raise InputError(f"--calculator {name!r} cannot be loaded: {error}") from error


def describe_calculator(name: str) -> dict[str, str]:
    """What was used to label, for the provenance file."""
    described = {"calculator": name, "python": platform.python_version()}
    for package in ("ase", "numpy", "torch", "chgnet"):
        try:
            described[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    if name == "chgnet":
        described["model"] = "CHGNet 0.3.0 (weights inside the chgnet package)"
        described["licence"] = "Modified BSD, (c) 2023 The Regents of the University of California"
        described["citation"] = "Deng et al., Nature Machine Intelligence 5, 1031 (2023)"
    return described
