"""Replays a compiled kernel and finds unordered accesses of its threads to the stash.

The addresses in the PTX of a kernel are computed for every thread, from the numbers of threads and
programs; what depends on loaded numbers is not known and not needed. A barrier ends an epoch.
Within one, what a thread has stored no other may load or replace, and what a thread has loaded no
other may replace.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.int64]
"""One number per thread."""

_LINE = re.compile(r"^\s*(?:@(!?)(%p\d+)\s+)?([a-z][\w.:]*)\s+(.*?);", re.MULTILINE)
_ACCESS = re.compile(r"\[\s*(%rd\d+)\s*(?:\+\s*(-?\d+))?\s*\]")
_BARRIER = re.compile(r"^(?:bar|barrier)\.(?:cta\.)?(?:warp\.)?sync")
_PARAMETER = re.compile(r"\[\w+_param_(\d+)\]")
_BITS = re.compile(r"(\d+)$")

_BINARY: dict[str, Callable[[Values, Values], Values]] = {
    "add": np.add,
    "sub": np.subtract,
    "and": np.bitwise_and,
    "or": np.bitwise_or,
    "xor": np.bitwise_xor,
    "shl": lambda a, b: a << np.minimum(b, 63),
    "shr": lambda a, b: a >> np.minimum(b, 63),
    "min": np.minimum,
    "max": np.maximum,
}
_COMPARED: dict[str, Callable[[Values, Values], NDArray[np.bool_]]] = {
    "eq": np.equal, "ne": np.not_equal, "lt": np.less, "le": np.less_equal, "gt": np.greater,
    "ge": np.greater_equal,
}  # fmt: skip


@dataclass(frozen=True)
class Access:
    """One instruction that loads from the stash or stores there.

    Attributes:
        stored: else loaded.
        epoch: how many barriers come before.
        threads: (N,) those that take part.
        words: (N, n) the numbers that each of them accesses, counted from the centre's first.
        line: of the PTX.
    """

    stored: bool
    epoch: int
    threads: Values
    words: Values
    line: int


def stash_accesses(ptx: str, parameter: int, *, program: int = 1) -> list[Access]:
    """What a kernel's threads load from the stash and store there, in order.

    Args:
        ptx: of one kernel.
        parameter: which of its parameters the stash is.
        program: number of the program.

    Raises:
        ValueError: the address of such an access depends on what is loaded, or an instruction on
            the way to one is not known.
    """
    threads = int(re.search(r"\.reqntid (\d+)", ptx)[1])
    replay = _Replay(threads, parameter, program)
    epoch, found = 0, []
    for number, guard, operation, operands in _instructions(ptx):
        if _BARRIER.match(operation):
            epoch += 1
        elif operation.startswith(("ld.global", "st.global", "red.global", "atom.global")):
            address, offset = _ACCESS.search(operands).groups()
            if address in replay.of_stash:
                where = replay.values.get(address)
                if where is None or not operation.startswith(("ld", "st")):
                    raise ValueError(f"line {number}: {operation} {operands}: unknown address")
                active = replay.active(guard)
                first = (where[active] + int(offset or 0)) // 4
                words = first[:, None] + np.arange(_numbers(operation))
                stored = operation.startswith("st")
                found.append(Access(stored, epoch, np.flatnonzero(active), words, number))
        else:
            replay.take(operation, operands)
    return found


def races(accesses: list[Access]) -> list[tuple[int, int]]:
    """Lines of accesses of different threads to one number in one epoch, one of them a store."""
    found = []
    for epoch in {access.epoch for access in accesses}:
        seen: list[Access] = []
        for access in (access for access in accesses if access.epoch == epoch):
            found += [
                (earlier.line, access.line)
                for earlier in seen
                if (earlier.stored or access.stored) and _across_threads(earlier, access)
            ]
            seen.append(access)
    return found


def barriers_of_machine_code(code: str) -> int:
    """Barriers among all threads of a program in the machine code (SASS)."""
    return len(re.findall(r"\bBAR\.(?:SYNC|RED)", code))


def barriers_of_ptx(ptx: str) -> int:
    """The same in the PTX."""
    return sum(bool(_BARRIER.match(operation)) for _, _, operation, _ in _instructions(ptx))


def _across_threads(one: Access, other: Access) -> bool:
    size = 1 + max(int(one.words.max()), int(other.words.max()))
    low, high = np.full(size, np.iinfo(np.int64).max), np.full(size, -1)
    for column in one.words.T:
        np.minimum.at(low, column, one.threads)
        np.maximum.at(high, column, one.threads)
    thread = other.threads[:, None]
    touched = high[other.words] >= 0
    return bool((touched & ((low[other.words] != thread) | (high[other.words] != thread))).any())


def _numbers(operation: str) -> int:
    """How many numbers of four bytes one thread accesses."""
    vector = re.search(r"\.v(\d)", operation)
    size = int(_BITS.search(operation)[1]) // 32
    return max(size, 1) * (int(vector[1]) if vector else 1)


def _instructions(ptx: str) -> Iterator[tuple[int, tuple[bool, str] | None, str, str]]:
    """Number of the line, guard (whether inverted, register), operation and operands."""
    at, line = 0, 1
    for match in _LINE.finditer(ptx):
        line += ptx.count("\n", at, match.start(3))
        at = match.start(3)
        guard = None if match[2] is None else (bool(match[1]), match[2])
        yield line, guard, match[3], match[4]


class _Replay:
    """Values of the registers whose values follow from the numbers of thread and program."""

    def __init__(self, threads: int, stash: int, program: int) -> None:
        self.threads = threads
        self.stash = stash
        self.values: dict[str, Values] = {
            "%tid.x": np.arange(threads),
            "%ctaid.x": np.full(threads, program),
        }
        self.of_stash: set[str] = set()

    def active(self, guard: tuple[bool, str] | None) -> NDArray[np.bool_]:
        """(threads,) which take part; all, where that is not known."""
        if guard is None or guard[1] not in self.values:
            return np.ones(self.threads, dtype=bool)
        return (self.values[guard[1]] != 0) != guard[0]

    def take(self, operation: str, operands: str) -> None:
        """Execute an instruction, or forget what it writes."""
        written, *read = [word.strip() for word in re.split(r",\s*(?![^{]*\})", operands)]
        if not written.startswith("%"):
            return
        value = self._value(operation, read)
        from_stash = operation.startswith("ld.param") and value is not None
        if from_stash or any(register in self.of_stash for register in read):
            self.of_stash.add(written)
        self.values.pop(written, None)
        if value is not None:
            self.values[written] = value

    def _value(self, operation: str, read: list[str]) -> Values | None:
        name, *kinds = operation.split(".")
        if name == "ld":
            return self._parameter(read[0]) if kinds[0] == "param" else None
        numbers = [self._number(word) for word in read]
        if any(number is None for number in numbers) or kinds[-1].startswith(("f", "bf")):
            return None
        result = _computed(name, kinds, _as_read(numbers, name, kinds))
        if result is None:
            return None
        return result if kinds[-1] == "pred" or name == "setp" else _wrapped(result, name, kinds)

    def _parameter(self, operand: str) -> Values | None:
        index = _PARAMETER.search(operand)
        if index is None or int(index[1]) != self.stash:
            return None
        return np.zeros(self.threads, dtype=np.int64)

    def _number(self, word: str) -> Values | None:
        if re.fullmatch(r"-?\d+|0x[0-9a-fA-F]+", word):
            return np.full(self.threads, int(word, 0))
        return self.values.get(word)


def _computed(name: str, kinds: list[str], values: list[Values]) -> Values | None:
    """The result before it is cut to its width; None for an operation that is not known."""
    if name in _BINARY:
        return _BINARY[name](values[0], values[1])
    if name == "setp":
        return _COMPARED[kinds[0]](values[0], values[1]).astype(np.int64)
    if name == "selp":
        return np.where(values[2] != 0, values[0], values[1])
    if name in ("mul", "mad"):
        product = values[0] * values[1]
        return product if name == "mul" else product + values[2]
    if name == "bfe":
        field = (values[0] >> values[1]) & ((1 << values[2]) - 1)
        signed = kinds[0].startswith("s")
        return field - ((field >> (values[2] - 1)) << values[2]) if signed else field
    if name in ("mov", "cvt", "cvta"):
        return values[0]
    return -values[0] if name == "neg" else ~values[0] if name == "not" else None


def _as_read(values: list[Values], name: str, kinds: list[str]) -> list[Values]:
    """Values are kept signed; what reads them as numbers without a sign gets those."""
    width = int((_BITS.search(kinds[-1]) or [0, 64])[1])
    if width >= 64 or not (kinds[-1].startswith("u") or (name, kinds[-1][0]) == ("shr", "b")):
        return values
    narrow = 2 if name == "mad" and "wide" in kinds else len(values)
    return [value & ((1 << width) - 1) if k < narrow else value for k, value in enumerate(values)]


def _wrapped(value: Values, name: str, kinds: list[str]) -> Values:
    """Cut to the width of the result, signed."""
    kind = kinds[0] if name == "cvt" else kinds[-1]
    bits = _BITS.search(kind)
    width = int(bits[1]) if bits else 32
    width *= 2 if "wide" in kinds else 1
    if width >= 64:
        return value
    low = value & ((1 << width) - 1)
    unsigned = kind.startswith("u")
    return low if unsigned else low - ((low >> (width - 1)) << width)
