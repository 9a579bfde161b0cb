"""The pair style's Python half: what its C++ half calls, in the same process.

An exception must not cross into C++: it becomes a line, which the pair style turns into a LAMMPS
error.
"""

from __future__ import annotations

import ctypes
import math
import os
import traceback
from collections.abc import Callable, Sequence
from ctypes import POINTER, Structure, c_char_p, c_double, c_int32, c_int64, c_void_p
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from ase.data import atomic_masses, atomic_numbers
from numpy.typing import NDArray

from duetto.environment import usable_cores
from duetto.errors import InputError, RunStopped
from duetto.experts.pair import ExpertPair
from duetto.frontends.lammps.build import build_plugin
from duetto.frontends.lammps.following import FollowingOnRank, Places
from duetto.frontends.lammps.unified import DuettoUnified
from duetto.settings.values import suggestion

Array = NDArray[Any]
KEYWORDS = ("terms", "dtype", "device", "threads", "backend", "precision", "follow")
FOLLOW = "follow"


class _Edges(Structure):
    """`DuettoEdges` of pair_duetto.cpp."""

    _fields_: ClassVar = [
        ("step", c_int64),
        ("nlocal", c_int32),
        ("ntotal", c_int32),
        ("nlist", c_int32),
        ("npairs", c_int64),
        ("x", POINTER(c_double)),
        ("type", POINTER(c_int32)),
        ("tag", POINTER(c_int64)),
        ("iatoms", POINTER(c_int32)),
        ("pair_i", POINTER(c_int32)),
        ("pair_j", POINTER(c_int32)),
        ("rij", POINTER(c_double)),
        ("weight", POINTER(c_double)),
        ("energy", POINTER(c_double)),
        ("gradient", POINTER(c_double)),
    ]


class _Type(Structure):
    """`DuettoType` of pair_duetto.cpp."""

    _fields_: ClassVar = [
        ("mass", c_double),
        ("present", c_int32),
        ("weighted", c_int32),
        ("seed", c_int32),
    ]


class _Seeds(Structure):
    """`DuettoSeeds` of pair_duetto.cpp."""

    _fields_: ClassVar = [
        ("nlocal", c_int32),
        ("nseeds", c_int32),
        ("fresh", c_int32),
        ("by_atom", c_int32),
        ("periodic", c_int32 * 3),
        ("renewed", c_int32),
        ("skin", c_double),
        ("cell", c_double * 9),
        ("x", POINTER(c_double)),
        ("type", POINTER(c_int32)),
        ("own", POINTER(c_double)),
        ("weight", POINTER(c_double)),
        ("wide", POINTER(c_int32)),
        ("force", POINTER(c_double)),
        ("virial", POINTER(c_double)),
    ]


_OPEN = ctypes.CFUNCTYPE(c_int32, c_int32, c_char_p, c_int32, c_int32, c_void_p, c_int32)
_COEFF = ctypes.CFUNCTYPE(
    c_int32, c_int32, c_int32, c_char_p, POINTER(c_double), POINTER(_Type), c_void_p, c_int32
)
_FOLLOW = ctypes.CFUNCTYPE(c_int32, c_int32, POINTER(_Seeds), c_void_p, c_int32)
_COMPUTE = ctypes.CFUNCTYPE(c_int32, c_int32, POINTER(_Edges), POINTER(_Seeds), c_void_p, c_int32)
_CLOSE = ctypes.CFUNCTYPE(None, c_int32)


class _Table(Structure):
    """`DuettoCallbacks` of pair_duetto.cpp."""

    _fields_: ClassVar = [
        ("open", _OPEN),
        ("coeff", _COEFF),
        ("follow", _FOLLOW),
        ("compute", _COMPUTE),
        ("close", _CLOSE),
    ]


class PairStyle:
    """One `pair_style duetto` of an input script.

    Attributes:
        settings: of the style's line.
        unified: the potential, after pair_coeff.
        following: its weights where they follow seeds.
    """

    def __init__(self, arguments: Sequence[str], local_rank: int, local_size: int) -> None:
        """Read `pair_style duetto [KEYWORD VALUE …]`.

        Args:
            arguments: terms, dtype, device, threads, backend, precision, each with its value, and
                follow with two.
            local_rank: which of this machine's ranks.
            local_size: how many ranks this machine has.

        Raises:
            InputError: a keyword or value that is not allowed.
        """
        words = _keywords(arguments)
        torch.set_num_threads(threads_of_rank(words.pop("threads", "auto"), local_size))
        words["device"] = device_of_rank(words.get("device", "auto"), local_rank)
        self.settings: dict[str, Any] = words
        self.unified: DuettoUnified | None = None
        self.following: FollowingOnRank | None = None

    def coeff(self, words: Sequence[str], n_types: int) -> DuettoUnified:
        """Read `pair_coeff * * FILE NAME …`, one name a type.

        Raises:
            InputError: the pair cannot be used, or a name is unknown or missing.
        """
        names = list(words[1:])
        if len(names) != n_types:
            raise InputError(
                f"pair_coeff: {len(names)} names for {n_types} atom types: {' '.join(names)}"
            )
        self.unified = DuettoUnified(ExpertPair.load(Path(words[0])), names, **self.settings)
        self.unified.engine.warm_up()
        self.following = None if self.unified.follow is None else FollowingOnRank(self.unified)
        return self.unified

    def potential(self) -> DuettoUnified:
        """The potential, which pair_coeff has named.

        Raises:
            InputError: there was no pair_coeff.
        """
        if self.unified is None:
            raise InputError("pair_style duetto: pair_coeff is missing")
        return self.unified


def _keywords(arguments: Sequence[str]) -> dict[str, Any]:
    """The words of a pair_style line with their values.

    Raises:
        InputError: a word is unknown, given twice, or has no value.
    """
    words: dict[str, Any] = {}
    left = list(arguments)
    while left:
        word = left.pop(0)
        if word not in KEYWORDS:
            raise InputError(
                f"pair_style duetto: unknown keyword {word}{suggestion(word, KEYWORDS)}; "
                f"allowed: {', '.join(KEYWORDS)}"
            )
        if word in words:
            raise InputError(f"pair_style duetto: {word} is given twice")
        values, left = left[: 1 + (word == FOLLOW)], left[1 + (word == FOLLOW) :]
        if not values:
            raise InputError(f"pair_style duetto: {word} has no value")
        words[word] = _lengths(values) if word == FOLLOW else values[0]
    return words


def _lengths(values: Sequence[str]) -> tuple[float, float]:
    """Core and blend of weights that follow seeds.

    Raises:
        InputError: they are not two lengths.
    """
    try:
        core, blend = (float(value) for value in values)
    except ValueError:
        core = blend = 0.0
    if not (0.0 < core < math.inf and 0.0 < blend < math.inf):
        raise InputError(
            f"pair_style duetto: follow {' '.join(values)}: use follow CORE BLEND, two numbers "
            "above 0: Å around a seed in which hf computes alone, and Å further out to lf alone"
        )
    return core, blend


def threads_of_rank(asked: str, local_size: int) -> int:
    """Threads of one rank: what is asked for, OMP_NUM_THREADS, or the rank's share of the cores.

    Raises:
        InputError: not a number above 0, and not "auto".
    """
    asked = os.environ.get("OMP_NUM_THREADS", "auto") if asked == "auto" else asked
    if asked == "auto":
        return max(1, usable_cores() // local_size)
    if not asked.isdecimal() or int(asked) < 1:
        raise InputError(f"pair_style duetto: threads {asked}: use auto or a number from 1")
    return int(asked)


def device_of_rank(asked: str, local_rank: int) -> str:
    """The device of one rank: one GPU per rank, dealt out by the rank's place on its machine.

    Raises:
        InputError: not a device, or not there.
    """
    n_gpus = torch.cuda.device_count() if asked != "cpu" else 0
    if asked == "auto":
        asked = "cuda" if n_gpus else "cpu"
    if asked == "cpu":
        return "cpu"
    kind, _, index = asked.partition(":")
    if kind != "cuda" or not (index.isdecimal() or ":" not in asked):
        raise InputError(f"pair_style duetto: device {asked}: use auto, cpu, cuda or cuda:N")
    if not n_gpus or int(index or 0) >= n_gpus:
        raise InputError(f"pair_style duetto: device {asked}: PyTorch sees {n_gpus} CUDA devices")
    return asked if index else f"cuda:{local_rank % n_gpus}"


class _Data:
    """LAMMPS's arrays in the shape of its ML-IAP data, without copies."""

    def __init__(self, edges: _Edges, following: FollowingOnRank | None) -> None:
        self._edges, self.following = edges, following
        self.ntotal, self.nlocal = edges.ntotal, edges.nlocal
        self.nlistatoms, self.npairs = edges.nlist, edges.npairs
        self.iatoms = _array(edges.iatoms, edges.nlist)
        self.elems = _array(edges.type, edges.ntotal) - 1
        self.pair_i = _array(edges.pair_i, edges.npairs)
        self.pair_j = _array(edges.pair_j, edges.npairs)
        self.rij = _array(edges.rij, edges.npairs, 3)
        self.weights = _array(edges.weight, edges.nlocal)[self.iatoms] if edges.weight else None
        self.energy = 0.0

    @property
    def eatoms(self) -> Array:
        """(nlistatoms,) eV."""
        return _array(self._edges.energy, self.nlistatoms)

    @eatoms.setter
    def eatoms(self, values: Array) -> None:
        self.eatoms[:] = values

    def update_pair_forces(self, fij: Array) -> None:
        """Take dE/dr_ij (npairs, 3), eV/Å."""
        _array(self._edges.gradient, self.npairs, 3)[:] = fij

    def require_finite(self) -> None:
        """Name the atom of an energy or gradient that is not finite.

        Raises:
            RunStopped: there is one.
        """
        bad = np.flatnonzero(~np.isfinite(self.eatoms))
        atoms = self.iatoms[bad]
        if not len(bad):
            gradient = _array(self._edges.gradient, self.npairs, 3)
            atoms = self.pair_i[np.flatnonzero(~np.isfinite(gradient).all(axis=1))]
        if len(atoms):
            i = int(atoms[0])
            place = np.array2string(_array(self._edges.x, self.ntotal, 3)[i], precision=3)
            raise RunStopped(
                f"step {self._edges.step}: energy or force of atom "
                f"{_array(self._edges.tag, self.ntotal)[i]} at {place} Å is not finite"
            )


def _places(seeds: _Seeds) -> Places:
    """LAMMPS's arrays, without copies."""
    n, P = seeds.nlocal, seeds.nlocal + seeds.nseeds
    return Places(
        n_own=n,
        fresh=bool(seeds.fresh),
        skin=seeds.skin,
        periodic=np.array(seeds.periodic, dtype=bool),
        cell=np.array(seeds.cell).reshape(3, 3),
        x=_array(seeds.x, P, 3),
        types=_array(seeds.type, n) - 1,
        own=_array(seeds.own, n) if seeds.own else None,
        weight=_array(seeds.weight, n),
        wide=_array(seeds.wide, n),
        force=_array(seeds.force, P, 3),
        virial=_array(seeds.virial, P if seeds.by_atom else 1, 3, 3),
    )


def _array(pointer: Any, *shape: int) -> Array:
    if 0 in shape:
        return np.zeros(shape, dtype=np.dtype(pointer._type_))
    return np.ctypeslib.as_array(pointer, shape=shape)


class Callbacks:
    """The table of functions that the plugin calls; it must live as long as LAMMPS.

    Attributes:
        styles: the pair styles in use, by their number.
        failure: what went wrong in the last call that failed.
    """

    def __init__(self, library: ctypes.CDLL) -> None:
        """Register the table with the plugin."""
        self.styles: dict[int, PairStyle] = {}
        self.failure: BaseException | None = None
        self._library = library
        library.duetto_gather.argtypes = [c_double, c_void_p]
        self._table = _Table(
            _OPEN(self._open),
            _COEFF(self._coeff),
            _FOLLOW(self._follow),
            _COMPUTE(self._compute),
            _CLOSE(self._close),
        )
        library.duetto_register(ctypes.byref(self._table))

    def gather(self, value: float) -> list[float]:
        """Every rank's number, in the order of ranks, on the first rank; zeros on the others."""
        every = (c_double * self._library.duetto_ranks())()
        self._library.duetto_gather(value, ctypes.cast(every, c_void_p))
        return list(every)

    def wait_for_all(self) -> None:
        """Return when all ranks are here."""
        self._library.duetto_wait_for_all()

    def _open(
        self, number: int, words: bytes, rank: int, size: int, message: int, length: int
    ) -> int:
        def work() -> None:
            arguments = words.decode().split("\n") if words else []
            self.styles[number] = PairStyle(arguments, rank, size)

        return self._told(work, message, length)

    def _coeff(
        self,
        number: int,
        n_types: int,
        words: bytes,
        cutoffs: Any,
        types: Any,
        message: int,
        length: int,
    ) -> int:
        def work() -> None:
            unified = self.styles[number].coeff(words.decode().split("\n"), n_types)
            _array(cutoffs, 2, n_types, n_types)[:] = unified.cutoffs, unified.narrow
            for t, kind in enumerate(unified.types):
                followed = kind.seed and unified.follow is not None
                mass = float(atomic_masses[atomic_numbers.get(kind.symbol, 0)])
                known = kind.symbol in atomic_numbers
                types[t] = _Type(mass * known, kind.present, kind.weight is None, followed)

        return self._told(work, message, length)

    def _follow(self, number: int, seeds: Any, message: int, length: int) -> int:
        def work() -> None:
            following, handed = self.styles[number].following, seeds.contents
            assert following is not None, "the weights of this style follow nothing"
            handed.renewed = following.bring(_places(handed))

        return self._told(work, message, length)

    def _compute(self, number: int, edges: Any, seeds: Any, message: int, length: int) -> int:
        def work() -> None:
            style = self.styles[number]
            data = _Data(edges.contents, style.following)
            style.potential().compute_forces(data)
            data.require_finite()

        return self._told(work, message, length)

    def _close(self, number: int) -> None:
        self.styles.pop(number, None)

    def _told(self, work: Callable[[], None], message: int, length: int) -> int:
        """Do the work; what goes wrong becomes a line at `message` and a 1."""
        try:
            work()
        except BaseException as error:
            self.failure = error
            line = " ".join(str(error).split()) or type(error).__name__
            if not isinstance(error, InputError | RunStopped):
                place = traceback.extract_tb(error.__traceback__)[-1]
                where = f"{Path(place.filename).name}:{place.lineno}"
                line = f"{type(error).__name__}: {line} ({where})"
            text = line.encode()[: length - 1]
            ctypes.memmove(message, text + b"\0", len(text) + 1)
            return 1
        return 0


_kept: dict[Path, Callbacks] = {}
"""Tables by their plugins, which point to them: they may not go before the process does, and a
plugin has one for all instances of LAMMPS."""


def install(instance: Any) -> Callbacks:
    """Make `pair_style duetto` known to a LAMMPS instance, on every rank.

    Raises:
        InputError: the plugin cannot be compiled or loaded.
    """
    path = build_plugin(instance)
    if path not in _kept:
        _kept[path] = Callbacks(ctypes.CDLL(str(path)))
    instance.command(f"plugin load {path}")
    # LAMMPS says nothing where it cannot load a plugin.
    if not instance.has_style("pair", "duetto"):
        raise InputError(f"{path}: LAMMPS does not load the pair style; remove the file, try again")
    return _kept[path]
