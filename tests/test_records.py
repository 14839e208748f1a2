"""Records are frozen dataclasses in all that anybody can see: the standard library's own are the oracle."""

from __future__ import annotations

import copy
import dataclasses
import pickle
from typing import Any

import pytest

from gradcheck_cli import records


def _classes(make: Any) -> tuple[Any, Any, Any]:
    """Return records of three kinds, made by one of the decorators."""

    @make(frozen=True)
    class Plain:
        """A record."""

        first: int
        second: str = "two"
        third: tuple[int, ...] = dataclasses.field(default_factory=tuple)
        silent: int = dataclasses.field(default=0, repr=False, compare=False)

        def __post_init__(self) -> None:
            if self.first < 0:
                raise ValueError("negative")

    @make(frozen=True, eq=False)
    class Apart:
        only: float

    @make(frozen=True, kw_only=True)
    class Named:
        a: int = 1
        b: float

    return Plain, Apart, Named


OURS, THEIRS = _classes(records.dataclass), _classes(dataclasses.dataclass)

CALLS: list[tuple[int, tuple[Any, ...], dict[str, Any]]] = [
    (0, (1,), {}),
    (0, (1, "x", (1, 2)), {}),
    (0, (1, "x", (1, 2), 9), {}),
    (0, (), {"first": 1, "third": (3,)}),
    (0, (1,), {"silent": 4}),
    (0, (1, "x", (), 1, 2), {}),
    (0, (), {}),
    (0, (1,), {"first": 2}),
    (0, (1,), {"fourth": 2}),
    (0, (), {"second": "x"}),
    (0, (-1,), {}),
    (1, (float("nan"),), {}),
    (2, (), {"b": 2.0}),
    (2, (), {"a": 3, "b": 2.0}),
    (2, (2.0,), {}),
    (2, (), {}),
]


def _made(kind: Any, values: tuple[Any, ...], named: dict[str, Any]) -> Any:
    try:
        return kind(*values, **named)
    except (TypeError, ValueError) as error:
        return type(error)


@pytest.mark.parametrize(("kind", "values", "named"), CALLS)
def test_a_record_takes_what_a_dataclass_takes(kind: int, values: Any, named: dict[str, Any]) -> None:
    ours, theirs = _made(OURS[kind], values, named), _made(THEIRS[kind], values, named)
    if isinstance(theirs, type):
        assert ours is theirs
        return
    assert str(dataclasses.asdict(ours)) == str(dataclasses.asdict(theirs))
    assert repr(ours) == repr(theirs)


@pytest.mark.parametrize("kind", [0, 1, 2])
def test_records_are_equal_where_dataclasses_are(kind: int) -> None:
    told = [(values, named) for number, values, named in CALLS if number == kind]
    pairs = [(_made(OURS[kind], *each), _made(THEIRS[kind], *each)) for each in told]
    pairs = [pair for pair in pairs if not isinstance(pair[0], type)]
    for ours, theirs in pairs:
        for other, other_theirs in [*pairs, (1, 1), (theirs, ours)]:
            assert (ours == other) == (theirs == other_theirs)
        assert (hash(ours) == hash(copy.copy(ours))) == (hash(theirs) == hash(copy.copy(theirs)))


@pytest.mark.parametrize("kind", [0, 1, 2])
def test_a_record_is_a_frozen_dataclass(kind: int) -> None:
    cls: Any = OURS[kind]
    record: Any = cls(b=2.0) if kind == 2 else cls(1)
    assert dataclasses.is_dataclass(cls)
    name = dataclasses.fields(record)[0].name
    with pytest.raises(dataclasses.FrozenInstanceError, match=f"cannot assign to field '{name}'"):
        setattr(record, name, 2)
    with pytest.raises(dataclasses.FrozenInstanceError, match=f"cannot delete field '{name}'"):
        delattr(record, name)
    assert getattr(dataclasses.replace(record, **{name: 7}), name) == 7
    assert getattr(record, name) == 1


@pytest.mark.parametrize("below", [OURS[0], THEIRS[0]])
def test_a_record_may_stand_on_another(below: Any) -> None:
    @records.dataclass(frozen=True)
    class Above(below):  # type: ignore[misc]
        fourth: int = 4

    record: Any = Above(1, fourth=5)
    assert dataclasses.asdict(record) == {"first": 1, "second": "two", "third": (), "silent": 0, "fourth": 5}
    assert record == Above(1, "two", (), 9, 5)
    assert record != Above(1)
    with pytest.raises(dataclasses.FrozenInstanceError):
        record.first = 2


def test_a_record_can_travel() -> None:
    from gradcheck_cli.summary import Head  # noqa: PLC0415 - one that does

    head = Head("a", 1, "pass", "")
    assert pickle.loads(pickle.dumps(head)) == head


def test_a_record_that_is_not_frozen_is_refused() -> None:
    with pytest.raises(TypeError, match="frozen"):

        @records.dataclass(frozen=False)
        class Open:
            x: int
