"""Two bugs of a softmax layer's backward at once: another upstream gradient, another layer, rows not written.

Each is one bug's formula on what another bug makes of its ingredients.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np

from gradcheck_cli.diagnosis.guess import Core, Guess, Name
from gradcheck_cli.diagnosis.pulled import catalogue, cores
from gradcheck_cli.diagnosis.pulled.catalogue import Suspicion
from gradcheck_cli.diagnosis.pulled.piece import Layer, Pulled, sighted
from gradcheck_cli.numeric.precision import Floats

Change = Callable[[Pulled], Pulled]


def pairs(layer: Layer) -> Iterator[Suspicion]:
    """Yield two bugs at once; what 16 bits excuse leaves only one to be told."""
    if layer.export.grid.half:
        return
    single, moved = _formulas(layer), _moved(layer)
    several = [(first, second, _after(core, change)) for first, change in moved for second, core in single]
    several += [(name, catalogue.STALE, _written(core)) for name, core in (*single, *_of_moved(layer, moved))]
    for first, second, core in several:
        general = second is catalogue.STALE
        told = _told(layer) if catalogue.CONFUSED in (first, second) else {}
        yield Suspicion(layer, Guess(first, core, told, general=general, alone=True, second=second))
    yield Suspicion(layer, Guess(catalogue.STALE, cores.unwritten, general=True))
    for other in catalogue.reposed(layer):
        name = other.guess.name
        if name not in (catalogue.NO_TEMPERATURE, catalogue.WRONG_AXIS):
            continue
        for second, core in (*single, *_of_moved(other.layer, _moved(other.layer))):
            told = other.guess.told | (_told(layer) if second is catalogue.CONFUSED else {})
            yield Suspicion(
                other.layer, replace(other.guess, core=core, told=told, alone=True, second=second)
            )


def _told(layer: Layer) -> dict[str, str]:
    """Return what is said of a layer that is confused with the other one."""
    names = "softmax", "log-softmax"
    return {"layer": names[layer.problem.log], "other": names[not layer.problem.log]}


def _formulas(layer: Layer) -> list[tuple[Name, Core[Pulled]]]:
    """Return the formulas that may stand in for the right one."""
    if layer.problem.log:
        return [
            (catalogue.DIAGONAL, cores.log_diagonal), (catalogue.NO_DOT, cores.passed_on),
            (catalogue.BARE_DOT, cores.log_bare), (catalogue.BARE_DOT, cores.log_mean),
            (catalogue.SIGMOID, cores.sigmoid), (catalogue.CONFUSED, cores.soft),
        ]  # fmt: skip
    return [
        (catalogue.DIAGONAL, cores.diagonal), (catalogue.NO_DOT, cores.no_dot),
        (catalogue.BARE_DOT, cores.bare_dot), (catalogue.DOUBLE, cores.double),
        (catalogue.DOUBLE, cores.double_short), (catalogue.AGAIN, cores.jacobian_again),
        (catalogue.SIGMOID, cores.sigmoid), (catalogue.CONFUSED, cores.log_soft),
    ]  # fmt: skip


def _moved(layer: Layer) -> list[tuple[Name, Change]]:
    """Return what bugs make of the upstream gradient."""
    found: list[tuple[Name, Change]] = [(catalogue.TWICE, lambda piece: piece.under(piece.t * piece.t))]
    if layer.problem.rows > 1:
        first = sighted(layer.problem.upstream, range(1))
        found.append((catalogue.FIRST_ROW, lambda piece: _with(piece, first)))
    return found


def _with(piece: Pulled, t: Floats) -> Pulled:
    return piece.under(np.broadcast_to(t, piece.t.shape))


def _of_moved(layer: Layer, moved: list[tuple[Name, Change]]) -> list[tuple[Name, Core[Pulled]]]:
    """Return the right formula on another upstream gradient."""
    core = cores.log_soft if layer.problem.log else cores.soft
    return [(name, _after(core, change)) for name, change in moved]


def _after(core: Core[Pulled], change: Change) -> Core[Pulled]:
    return lambda piece: core(change(piece))


def _written(core: Core[Pulled]) -> Core[Pulled]:
    """Return a formula but for the rows that are exported as 0 throughout."""

    def made(piece: Pulled) -> tuple[Floats, Floats]:
        there = piece.got.any(axis=1, keepdims=True)
        plane, error = core(piece)
        return np.where(there, plane, 0.0), np.where(there, error, 0.0)

    return made
