"""A learner's function, before it runs: was anything written, does it take the inputs, does it use what it should not?"""

import dis
import inspect
from collections.abc import Callable, Iterator
from types import CodeType, FunctionType
from typing import Any

_EMPTY_BODY = {"RESUME", "NOP", "LOAD_CONST", "RETURN_CONST", "RETURN_VALUE", "COPY_FREE_VARS", "RETURN_GENERATOR", "POP_TOP"}


def is_stub(answer: Any) -> bool:
    """A value that is None or `...`, or a function with an empty body, was not attempted.

    >>> is_stub(None), is_stub(lambda x: ...), is_stub(lambda x: 3)
    (True, True, False)
    """
    if answer is None or answer is ...:
        return True
    code = getattr(_unwrapped(answer), "__code__", None)
    if code is None:
        return False
    steps = list(dis.get_instructions(code))
    constants = [step.argval for step in steps if step.opname in ("LOAD_CONST", "RETURN_CONST")]
    return {step.opname for step in steps} <= _EMPTY_BODY and all(value in (None, ...) for value in constants)


def takes(answer: Callable[..., Any], count: int) -> bool:
    """Whether the function can be called with so many inputs; what cannot be told is tried."""
    try:
        inspect.signature(answer).bind(*[None] * count)
    except TypeError:
        return False
    except ValueError:
        return True
    return True


def parameters(function: Callable[..., Any]) -> list[str]:
    """The names of a function's inputs."""
    return list(inspect.signature(function).parameters)


def forbidden_use(answer: Any, forbidden: tuple[str, ...]) -> str | None:
    """The first of the forbidden names that the function uses, itself or in a function of its own file that it calls.

    A forbidden function that is handed in as the answer is found by its name; one that the learner has written is theirs.
    """
    function = _unwrapped(answer)
    own_name = getattr(function, "__name__", "")
    if own_name in forbidden and not _is_theirs(function):
        return own_name
    for name, holder in _names_used(function, set()):
        if name in forbidden and not _is_theirs(holder.__globals__.get(name)):
            return name
    return None


def _is_theirs(value: Any) -> bool:
    """A function from a notebook or a test, and not from a library."""
    module = getattr(value, "__module__", None) or ""
    return isinstance(value, FunctionType) and module.partition(".")[0] not in ("course_lib", "torch", "numpy", "jiwer")


def _names_used(function: Any, seen: set[CodeType]) -> Iterator[tuple[str, FunctionType]]:
    if not isinstance(function, FunctionType) or function.__code__ in seen:
        return
    for code in _codes(function.__code__):
        seen.add(code)
        for name in code.co_names:
            yield name, function
            called = _unwrapped(function.__globals__.get(name))
            if isinstance(called, FunctionType) and called.__code__.co_filename == function.__code__.co_filename:
                yield from _names_used(called, seen)
    for cell in function.__closure__ or ():
        try:
            yield from _names_used(_unwrapped(cell.cell_contents), seen)
        except ValueError:
            continue


def _codes(code: CodeType) -> Iterator[CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _codes(constant)


def _unwrapped(answer: Any) -> Any:
    try:
        return inspect.unwrap(answer) if callable(answer) else answer
    except ValueError:
        return answer
