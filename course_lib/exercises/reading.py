"""What a learner's function gave back → a plain value that can be compared, whichever library it came from.

Numpy arrays, tensors, lists, tuples, generators and numbers of any library are welcome wherever numbers are. Strings of
digits, True for 1 and 2.0 for the id 2 are not: the numbers may be right, but whatever comes next would stumble over them.
"""

import math
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from decimal import Decimal
from numbers import Integral, Real
from typing import Any, Protocol, runtime_checkable

import numpy as np
from torch import Tensor

MOST_SHOWN = 70
"""Characters of a value that a verdict shows."""


class Unreadable(Exception):  # noqa: N818 (a sentence for the learner)
    """The answer is of another kind; `meant` is what it would be in the right type, if that is clear."""

    def __init__(self, complaint: str, meant: Any = None):
        super().__init__(complaint)
        self.meant = meant


@dataclass(frozen=True)
class OneOf:
    """Several values that are equally right, or that one mistake may lead to."""

    values: tuple[Any, ...]


@runtime_checkable
class Reader(Protocol):
    """One kind of answer: how it is read, when two are the same, and how two that differ are shown."""

    wanted: str

    def read(self, value: Any) -> Any:
        """The value in one form, or Unreadable."""

    def same(self, found: Any, expected: Any) -> bool:
        """Whether two values that were read are equal, rounding aside."""

    def apart(self, found: Any, expected: Any) -> str:
        """ "gave …, expected …", at the first place where they differ."""


def plain(value: Any) -> Any:
    """Tensors, arrays and whatever can be walked through, as nested lists; numbers of a library as Python's."""
    if isinstance(value, Tensor):
        return value.detach().cpu().tolist()
    if isinstance(value, (np.ndarray, np.generic)):
        return value.tolist()
    if isinstance(value, (str, bytes, Mapping, Set)) or not isinstance(value, Iterable):
        return value
    return [plain(part) for part in value]


def short(value: Any) -> str:
    """A value as a verdict shows it: whole when it is small, its shape or its beginning when it is not."""
    if isinstance(value, (Tensor, np.ndarray)):
        if math.prod(value.shape) > 8:
            return f"{'a tensor' if isinstance(value, Tensor) else 'an array'} of shape {tuple(value.shape)}"
        value = plain(value)
    if isinstance(value, list) and any(isinstance(part, (Tensor, np.ndarray)) for part in value):
        return f"[{', '.join(short(part) for part in value)}]" if len(value) < 4 else f"a list of {len(value)} tensors"
    text = repr(_rounded(value))
    return text if len(text) <= MOST_SHOWN else f"{text[: MOST_SHOWN - 25]} … {text[-20:]}"


def _rounded(value: Any) -> Any:
    if isinstance(value, float) and math.isfinite(value):
        return float(f"{value:.6g}")
    if isinstance(value, np.generic):
        return _rounded(value.item())
    if isinstance(value, (list, tuple)) and type(value) in (list, tuple):
        return type(value)(_rounded(part) for part in value)
    return value


def two_numbers(found: int | float, expected: int | float) -> tuple[str, str]:
    """Both with as many digits as it takes to tell them apart.

    >>> two_numbers(0.3333333, 0.3333)
    ('0.33333', '0.3333')
    >>> two_numbers(1234567.0, 1234568.0)
    ('1,234,567', '1,234,568')
    """
    if all(math.isfinite(x) and x == int(x) and abs(x) < 1e15 for x in (found, expected)):
        return f"{int(found):,}", f"{int(expected):,}"
    for digits in range(4, 18):
        pair = f"{found:.{digits}g}", f"{expected:.{digits}g}"
        if pair[0] != pair[1]:
            return pair
    return pair


def kind_of(value: Any) -> str:
    """How a sentence names a value of the wrong kind."""
    if isinstance(value, (bool, np.bool_)):
        return f"{value}, True or False"
    if isinstance(value, str):
        return f"the string {short(value)}"
    if isinstance(value, (Real, Decimal)):
        return f"the number {short(value)}"
    if isinstance(value, (list, tuple, Tensor, np.ndarray)):
        return short(value)
    if callable(value):
        return "a function: call it"
    return f"a value of type {type(value).__name__}"


def _as_float(value: Any) -> float | None:
    """A string of digits or a truth value as the number that it may stand for."""
    try:
        return float(value)
    except (TypeError, ValueError):
        return None


@dataclass(frozen=True)
class Number:
    """One number. `whole` is for counts: 5.0 is then read as 5."""

    whole: bool = False
    rtol: float = 1e-4
    atol: float = 1e-6

    @property
    def wanted(self) -> str:
        return "a whole number" if self.whole else "one number"

    def read(self, value: Any) -> int | float:
        if isinstance(value, (Tensor, np.ndarray)) and math.prod(value.shape) == 1:
            value = value.reshape(())
        value = plain(value)
        if isinstance(value, bool) or not isinstance(value, (Real, Decimal)):
            raise Unreadable(f"wanted: {self.wanted}; yours: {kind_of(value)}", _as_float(value))
        if self.whole and isinstance(value, Integral):
            return int(value)
        number = float(value)
        return int(number) if self.whole and number.is_integer() else number

    def same(self, found: int | float, expected: int | float) -> bool:
        if self.whole:
            return found == expected
        if math.isnan(found) or math.isnan(expected):
            return math.isnan(found) and math.isnan(expected)
        return math.isclose(found, expected, rel_tol=self.rtol, abs_tol=self.atol)

    def apart(self, found: int | float, expected: int | float) -> str:
        left, right = two_numbers(found, expected)
        return f"gave {left}, expected {right}"


@dataclass(frozen=True)
class Numbers:
    """A block of numbers of any shape: a list, a matrix, …"""

    rtol: float = 1e-4
    atol: float = 1e-6
    wanted: str = "a tensor of numbers"

    def read(self, value: Any) -> np.ndarray:
        shape = tuple(value.shape) if isinstance(value, (Tensor, np.ndarray)) else None
        value = plain(value)
        leaves = list(_leaves(value))
        if not isinstance(value, list) and shape is None:
            raise Unreadable(f"wanted: {self.wanted}; yours: {kind_of(value)}")
        strange = next((leaf for leaf in leaves if isinstance(leaf, bool) or not isinstance(leaf, (Real, Decimal))), None)
        if strange is not None:
            floats = [_as_float(leaf) for leaf in leaves]
            meant = np.array(floats, dtype=float) if None not in floats else None
            meant = meant.reshape(_shape(value)) if meant is not None and _is_block(value) else None
            raise Unreadable(f"wanted: {self.wanted}; in yours stands {kind_of(strange)}", meant)
        if not _is_block(value):
            raise Unreadable(f"wanted: {self.wanted}; your rows differ in length")
        return np.array(value, dtype=np.float64).reshape(shape if shape is not None else _shape(value))

    def same(self, found: np.ndarray, expected: np.ndarray) -> bool:
        if found.size == expected.size == 0 and found.ndim <= 1:
            return True
        return found.shape == expected.shape and np.allclose(found, expected, rtol=self.rtol, atol=self.atol, equal_nan=True)

    def apart(self, found: np.ndarray, expected: np.ndarray) -> str:
        if found.shape != expected.shape:
            return f"has the shape {found.shape}, expected {expected.shape}"
        wrong = ~np.isclose(found, expected, rtol=self.rtol, atol=self.atol, equal_nan=True)
        place = tuple(int(index) for index in np.argwhere(wrong)[0])
        left, right = two_numbers(float(found[place]), float(expected[place]))
        return f"gave {left} at {list(place)}, expected {right}"


@dataclass(frozen=True)
class Ids:
    """A list of whole numbers that name something. 2.0, "2" and True name nothing."""

    wanted: str = "a list of ids, which are whole numbers (int)"
    ndim: int = 1

    def read(self, value: Any) -> list:
        shape = tuple(value.shape) if isinstance(value, (Tensor, np.ndarray)) else None
        value = plain(value)
        if not isinstance(value, list):
            raise Unreadable(f"wanted: {self.wanted}; yours: {kind_of(value)}")
        strange = next((leaf for leaf in _leaves(value) if isinstance(leaf, bool) or not isinstance(leaf, Integral)), None)
        if strange is not None:
            floats = [_as_float(leaf) for leaf in value] if not any(isinstance(part, list) for part in value) else [None]
            meant = (
                [int(x) for x in floats] if all(x is not None and math.isfinite(x) and x == int(x) for x in floats) else None
            )
            raise Unreadable(f"wanted: {self.wanted}; in yours stands {kind_of(strange)}", meant)
        if self.ndim == 1 and any(isinstance(part, list) for part in value):
            raise Unreadable(f"wanted: {self.wanted}; yours has lists within the list")
        if self.ndim == 2 and value and not (shape is None or len(shape) == 2):
            raise Unreadable(f"wanted: {self.wanted}; yours has the shape {shape}")
        return value

    def same(self, found: list, expected: list) -> bool:
        return found == expected

    def apart(self, found: list, expected: list) -> str:
        return _apart_lists(found, expected)


@dataclass(frozen=True)
class Text:
    """One string."""

    wanted: str = "one string"

    def read(self, value: Any) -> str:
        value = plain(value)
        if not isinstance(value, str):
            joined = "".join(value) if isinstance(value, list) and all(isinstance(part, str) for part in value) else None
            raise Unreadable(f"wanted: {self.wanted}; yours: {kind_of(value)}", joined)
        return str(value)

    def same(self, found: str, expected: str) -> bool:
        return found == expected

    def apart(self, found: str, expected: str) -> str:
        return f"gave {short(found)}, expected {short(expected)}"


@dataclass(frozen=True)
class Truth:
    """True or False, and not 1 or "True"."""

    wanted: str = "True or False"

    def read(self, value: Any) -> bool:
        if isinstance(value, (Tensor, np.ndarray)) and math.prod(value.shape) == 1:
            value = value.reshape(())
        value = plain(value)
        if not isinstance(value, bool):
            meant = {0: False, 1: True, "True": True, "False": False}.get(value) if isinstance(value, (Real, str)) else None
            raise Unreadable(f"wanted: {self.wanted}; yours: {kind_of(value)}", meant)
        return value

    def same(self, found: bool, expected: bool) -> bool:
        return found is expected

    def apart(self, found: bool, expected: bool) -> str:
        return f"gave {found}, expected {expected}"


@dataclass(frozen=True)
class Truths:
    """A matrix of True and False."""

    wanted: str = "a matrix of True and False"

    def read(self, value: Any) -> np.ndarray:
        value = plain(value)
        if not isinstance(value, list) or not _is_block(value):
            raise Unreadable(f"wanted: {self.wanted}; yours: {kind_of(value)}")
        strange = next((leaf for leaf in _leaves(value) if not isinstance(leaf, bool)), None)
        if strange is not None:
            numbers = all(isinstance(leaf, Real) and leaf in (0, 1) for leaf in _leaves(value))
            meant = np.array(value, dtype=bool) if numbers else None
            raise Unreadable(f"wanted: {self.wanted}; in yours stands {kind_of(strange)}. Compare, or use & and |", meant)
        return np.array(value, dtype=bool).reshape(_shape(value))

    def same(self, found: np.ndarray, expected: np.ndarray) -> bool:
        return found.shape == expected.shape and bool((found == expected).all())

    def apart(self, found: np.ndarray, expected: np.ndarray) -> str:
        if found.shape != expected.shape:
            return f"has the shape {found.shape}, expected {expected.shape}"
        place = tuple(int(index) for index in np.argwhere(found != expected)[0])
        return f"gave {bool(found[place])} at {list(place)}, expected {bool(expected[place])}"


class Parts:
    """A fixed number of values of different kinds, as a tuple or a list: (substitutions, insertions, deletions)."""

    def __init__(self, *readers: Reader, wanted: str):
        self.readers = readers
        self.wanted = wanted

    def read(self, value: Any) -> tuple:
        parts = list(value) if isinstance(value, Iterable) and not isinstance(value, (str, bytes, Mapping, Set)) else None
        if parts is None or len(parts) != len(self.readers):
            raise Unreadable(f"wanted: {self.wanted}; yours: {kind_of(value)}")
        return _read_all(self.readers, parts)

    def same(self, found: tuple, expected: tuple) -> bool:
        return all(reader.same(a, b) for reader, a, b in zip(self.readers, found, expected, strict=True))

    def apart(self, found: tuple, expected: tuple) -> str:
        if all(isinstance(part, (int, str)) for part in (*found, *expected)):
            return f"gave {found}, expected {expected}"
        pairs = zip(self.readers, found, expected, strict=True)
        place = next(at for at, (reader, a, b) in enumerate(pairs) if not reader.same(a, b))
        return f"{self.readers[place].apart(found[place], expected[place])} (part {place + 1} of {len(self.readers)})"


class ListOf:
    """A list of values of one kind, as many as the solution has."""

    def __init__(self, reader: Reader, wanted: str):
        self.reader = reader
        self.wanted = wanted

    def read(self, value: Any) -> list:
        if isinstance(value, (str, bytes, Mapping, Set)) or not isinstance(value, Iterable):
            raise Unreadable(f"wanted: {self.wanted}; yours: {kind_of(value)}")
        parts = list(value)
        try:
            return list(_read_all([self.reader] * len(parts), parts))
        except Unreadable as problem:
            raise Unreadable(str(problem), None if problem.meant is None else list(problem.meant)) from None

    def same(self, found: list, expected: list) -> bool:
        return len(found) == len(expected) and all(self.reader.same(a, b) for a, b in zip(found, expected, strict=True))

    def apart(self, found: list, expected: list) -> str:
        if len(found) != len(expected):
            return f"has {len(found)} entries, expected {len(expected)}" + (
                f": {short(expected)}, not {short(found)}" if len(str(expected)) <= MOST_SHOWN else ""
            )
        place = next(at for at, (a, b) in enumerate(zip(found, expected, strict=True)) if not self.reader.same(a, b))
        return f"{self.reader.apart(found[place], expected[place])} (entry {place})"


def _read_all(readers: Sequence[Reader], parts: list[Any]) -> tuple:
    """Read each part; what is of the wrong kind in one of them is still compared, with the others."""
    values, complaint = [], None
    for reader, part in zip(readers, parts, strict=True):
        try:
            values.append(reader.read(part))
        except Unreadable as error:
            complaint = complaint or error
            values.append(error.meant)
    if complaint is not None:
        raise Unreadable(str(complaint), tuple(values) if all(value is not None for value in values) else None)
    return tuple(values)


def _leaves(value: Any) -> Iterable[Any]:
    if isinstance(value, list):
        for part in value:
            yield from _leaves(part)
    else:
        yield value


def _shape(value: Any) -> tuple[int, ...]:
    return (len(value), *(_shape(value[0]) if value else ())) if isinstance(value, list) else ()


def _is_block(value: Any) -> bool:
    """Whether all rows are equally long, at every depth."""
    if not isinstance(value, list):
        return True
    return all(_is_block(part) for part in value) and len({_shape(part) for part in value}) <= 1


def _apart_lists(found: list, expected: list) -> str:
    if max(len(str(found)), len(str(expected))) <= MOST_SHOWN:
        return f"gave {found}, expected {expected}"
    if len(found) != len(expected):
        return f"has {len(found)} entries, expected {len(expected)}"
    place = next(at for at, (a, b) in enumerate(zip(found, expected, strict=True)) if a != b)
    return f"gave {short(found[place])} at {place}, expected {short(expected[place])}"
