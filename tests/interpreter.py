"""Triton's interpreter, spared what it does again and again: its results stay what they are."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np


class _Nothing:
    """A scope in which nothing was changed."""

    def restore(self) -> None:
        """Leave all as it is."""


def quicken_interpreter() -> None:
    """Take half off the interpreter's time.

    Before every call of one function of a kernel by another it replaces all of Triton's language by
    its own, which it has already done for the launch. It makes a table of types whenever it asks
    for NumPy's name of one. And it computes whether integers overflow, for an assertion that is
    left out unless its builder debugs, which it does not. A Triton without these parts stays as it
    is.
    """
    from triton.runtime import interpreter

    if not hasattr(interpreter, "_LangPatchScope"):
        return
    language = interpreter.tl
    patch_lang, np_dtype = interpreter._patch_lang, interpreter._get_np_dtype
    names: dict[str, np.dtype[Any]] = {}
    scopes: list[Any] = []
    replaced: set[int] = set()
    """Both of the launch under way: what it has changed, and in which modules."""

    def patch_once(function: Any) -> Any:
        known = function.__globals__.values()
        modules = {id(one) for one in known if one is language or one is language.core}
        if scopes and modules <= replaced:
            return _Nothing()
        scopes.append(patch_lang(function))
        replaced.update(modules)
        return _Launch() if len(scopes) == 1 else _Nothing()

    class _Launch:
        def restore(self) -> None:
            replaced.clear()
            while scopes:
                scopes.pop().restore()

    def np_dtype_once(kind: Any) -> np.dtype[Any]:
        scalar = kind.scalar
        if isinstance(scalar, language.pointer_type):
            return np_dtype(scalar)
        if scalar.name not in names:
            names[scalar.name] = np_dtype(scalar)
        return names[scalar.name]

    builder = interpreter.interpreter_builder
    if not builder.options.debug:
        builder.options = replace(builder.options, sanitize_overflow=False)
    interpreter._patch_lang = patch_once
    interpreter._get_np_dtype = np_dtype_once
