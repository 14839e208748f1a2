"""Frozen records as those of ``dataclasses``, made in a fraction of the time.

``dataclasses`` writes and compiles six functions for each record, which was a sixth of what a small check
takes from start to end. Here the same few functions serve all records. `fields`, `replace` and type checkers
see a dataclass. A record that is made by the hundred in a case is better off with the compiled functions.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from operator import attrgetter
from typing import TYPE_CHECKING, Any

__all__ = ["dataclass"]

if TYPE_CHECKING:
    from dataclasses import dataclass
else:

    def dataclass(*, frozen: bool, eq: bool = True, kw_only: bool = False) -> Callable[[type], type]:
        """Return what makes a class a frozen record; ``frozen=True`` is there for who reads the class."""
        if not frozen:
            raise TypeError("a record is frozen")
        return lambda cls: _made(cls, eq, kw_only)


def _made(cls: type[Any], eq: bool, kw_only: bool) -> Any:  # noqa: FBT001 - of the decorator
    cls.__doc__ = cls.__doc__ or cls.__name__  # dataclasses would work out a signature
    if any(
        map(dataclasses.is_dataclass, cls.__mro__[1:])
    ):  # few: they may stand on one that is not made here
        return dataclasses.dataclass(frozen=True, eq=eq, kw_only=kw_only)(cls)
    made: Any = dataclasses.dataclass(init=False, repr=False, eq=False, kw_only=kw_only)(cls)
    of = dataclasses.fields(made)
    made.__dataclass_params__.frozen = True
    made.__init__ = _initializer(made, of)
    made.__setattr__, made.__delattr__ = _refuse_to_assign, _refuse_to_delete
    if "__repr__" not in vars(cls):
        made.__repr__ = _shown
    if eq:
        _compare(made, tuple(each.name for each in of if each.compare))
    return made


def _initializer(cls: type[Any], of: tuple[dataclasses.Field[Any], ...]) -> Callable[..., None]:
    """Return the ``__init__`` of a record: fields in their order, then by name."""
    placed = [each.name for each in of if not each.kw_only]
    count, ends = len(of), getattr(cls, "__post_init__", None)

    def begin(self: Any, *values: Any, **named: Any) -> None:
        held = self.__dict__
        held.update(zip(placed, values), **named)  # noqa: B905 - what is too many is told below
        given = len(held)
        if given < count:
            _fill(cls, held, of)
        if given != len(values) + len(named) or len(held) != count:
            raise TypeError(f"{cls.__name__}: a field is given twice, or is none: {[*values, *named]}")
        if ends is not None:
            ends(self)

    return begin


def _fill(cls: type[Any], held: dict[str, Any], of: tuple[dataclasses.Field[Any], ...]) -> None:
    """Put defaults where nothing was given."""
    for each in of:
        if each.name in held:
            continue
        if each.default is not dataclasses.MISSING:
            held[each.name] = each.default
        elif each.default_factory is not dataclasses.MISSING:
            held[each.name] = each.default_factory()
        else:
            raise TypeError(f"{cls.__name__}: {each.name} is missing")


def _compare(cls: Any, names: tuple[str, ...]) -> None:
    """Let records of a class be equal where these fields are."""
    values: Callable[[Any], Any] = attrgetter(*names) if len(names) > 1 else _few(names)

    def equal(self: Any, other: Any) -> Any:
        return values(self) == values(other) if other.__class__ is self.__class__ else NotImplemented

    def hashed(self: Any) -> int:
        return hash(values(self))

    cls.__eq__, cls.__hash__ = equal, hashed


def _few(names: tuple[str, ...]) -> Callable[[Any], tuple[Any, ...]]:
    return lambda record: tuple(getattr(record, name) for name in names)


def _shown(self: Any) -> str:
    told = [f"{each.name}={getattr(self, each.name)!r}" for each in dataclasses.fields(self) if each.repr]
    return f"{self.__class__.__qualname__}({', '.join(told)})"


def _refuse_to_assign(self: Any, name: str, value: object) -> None:  # noqa: ARG001 - the method's form
    raise dataclasses.FrozenInstanceError(f"cannot assign to field {name!r}")


def _refuse_to_delete(self: Any, name: str) -> None:  # noqa: ARG001 - the method's form
    raise dataclasses.FrozenInstanceError(f"cannot delete field {name!r}")
