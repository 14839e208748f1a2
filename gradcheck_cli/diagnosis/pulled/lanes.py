"""Bugs of a softmax layer's backward that come of how a kernel cuts a row: lanes, shards, and a tail."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from gradcheck_cli.diagnosis.guess import Core, Guess, Name
from gradcheck_cli.diagnosis.pulled.catalogue import Suspicion
from gradcheck_cli.diagnosis.pulled.cores import Made, backward, log_backward
from gradcheck_cli.diagnosis.pulled.piece import Layer, Pulled, stored
from gradcheck_cli.numeric.precision import Floats

PADDED = Name(
    "padded-lanes", "a = exp(z) / (sum exp(z) + {lanes} exp(0))",
    "{lanes} padded lanes with the logit 0 are summed into the denominator, as if a row had {width:,}",
    "load masked lanes as -inf, not as 0",
)  # fmt: skip
LOCAL = Name(
    "local-denominator", "a = exp(z) / sum over a shard of K/{shards}",
    "each of {shards} shards of a row is divided by its own sum of exponentials{inner}",
    "all-reduce the maximum and the sum of exponentials over the shards, and <t, a> too",
)  # fmt: skip
TAIL = Name(
    "tail-columns", "0 from column {first:,} on",
    "the last {count:,} of {classes:,} columns, from {first:,} on, hold nothing but zeros",
    "check the mask of the last block of columns ({block:,} wide, or a part of that)",
)  # fmt: skip

NAMES = (PADDED, LOCAL, TAIL)

_BLOCKS = tuple(2**power for power in range(2, 13))
_WIDEST = 8  # times the columns, that padding may bring a row to; or 1024
_SHARDS = (2, 4, 8, 16, 32)


def of_lanes(layer: Layer) -> Iterator[Suspicion]:
    """Yield what padding, shards and tails make of the layer."""
    classes = layer.problem.classes
    widths = {-(-classes // block) * block for block in _BLOCKS} | {1 << (classes - 1).bit_length()}
    for width in sorted(each for each in widths if classes < each <= max(_WIDEST * classes, 1024)):
        told = {"lanes": width - classes, "width": width}
        yield Suspicion(layer, Guess(PADDED, _padded(layer, width - classes), told))
    for shards in (each for each in _SHARDS if classes % each == 0 and classes > each):
        for local, words in ((False, ""), (True, ", and so is the inner product")):
            shard = {"shards": shards, "inner": words}
            yield Suspicion(layer, Guess(LOCAL, _sharded(layer, shards, local=local), shard))
    for block in (each for each in _BLOCKS if each < classes and classes % each):
        first = classes - classes % block
        told = {"first": first, "count": classes - first, "classes": classes, "block": block}
        yield Suspicion(layer, Guess(TAIL, _cut(first), told, general=True, alone=True))


def _of(layer: Layer) -> Callable[[Floats, Floats, Floats], Made]:
    return log_backward if layer.problem.log else backward


def _padded(layer: Layer, lanes: int) -> Core[Pulled]:
    """Return the layer with so many lanes of exp(0) more in the denominators."""

    def core(piece: Pulled) -> Made:
        total = np.exp(piece.v - piece.top[:, None]).sum(axis=1)
        by = (total / (total + lanes * np.exp(-piece.top)))[:, None]
        return stored(piece, *_of(layer)(piece.a * by, piece.error * by, piece.t))

    return core


def _sharded(layer: Layer, shards: int, *, local: bool) -> Core[Pulled]:
    """Return the layer with probabilities of each shard; `local`: with inner products of each, too."""

    def core(piece: Pulled) -> Made:
        parts = piece.a.reshape(len(piece.a), shards, -1)
        total = parts.sum(axis=2, keepdims=True)
        by = np.divide(1.0, total, out=np.zeros_like(total), where=total > 0.0)
        a, error = parts * by, 2.0 * piece.error.reshape(parts.shape) * by
        rows = (-1, parts.shape[2]) if local else piece.a.shape
        made = _of(layer)(a.reshape(rows), error.reshape(rows), piece.t.reshape(rows))
        plane, off = (each.reshape(piece.a.shape) for each in made)
        return stored(piece, plane, off)

    return core


def _cut(first: int) -> Core[Pulled]:
    """Return what is right, and 0 from a column on."""

    def core(piece: Pulled) -> Made:
        there = np.arange(piece.right.shape[1]) < first
        return np.where(there, piece.right, 0.0), np.where(there, piece.allowed, 0.0)

    return core
