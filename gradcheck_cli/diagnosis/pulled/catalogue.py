"""The known bugs of the backward of a softmax layer, each with what it makes."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from gradcheck_cli.diagnosis.bug import CONVENTION, ROUNDING
from gradcheck_cli.diagnosis.guess import Core, Guess, Name, Scale
from gradcheck_cli.diagnosis.pulled import cores
from gradcheck_cli.diagnosis.pulled.cores import right
from gradcheck_cli.diagnosis.pulled.piece import Layer, Pulled, sighted, stored
from gradcheck_cli.numeric.precision import BFLOAT16, FLOAT16, FLOAT32, Floats
from gradcheck_cli.numeric.softmax import Link
from gradcheck_cli.records import dataclass
from gradcheck_cli.tensors import Rows, Tensor

_COPIES = range(2, 65)
_POWERS = range(7, 40)
_TILES = tuple(2**power for power in range(2, 13))

DIAGONAL = Name(
    "diagonal-jacobian", "t a (1 - a)",
    "only the diagonal of the softmax Jacobian is used",
    "add the part off the diagonal: the backward of softmax is (t - <t, a>) a",
)  # fmt: skip
NO_DOT = Name(
    "missing-dot-term", "t a; t for the logarithm",
    "what every entry of a row has taken off it, <t, a> or a sum t, is missing",
    "subtract it: the backward of softmax is (t - <t, a>) a, that of log-softmax t - a sum t",
)  # fmt: skip
BARE_DOT = Name(
    "dot-without-probs", "(t - sum t) a; t - sum t or t - mean t for the logarithm",
    "the sum of the upstream gradient is subtracted without the probabilities",
    "softmax subtracts <t, a>, log-softmax a sum t",
)  # fmt: skip
OVER_BATCH = Name(
    "dot-over-batch", "(t - sum over all rows of <t, a>) a",
    "the inner product is taken over all rows together",
    "reduce <t, a> along the softmax axis alone",
)  # fmt: skip
OVER_TILE = Name(
    "dot-over-tile", "(t - sum over {which} of t a) a",
    "the inner product is taken over {which} of {width:,} columns, not over the whole row",
    "add up the tiles of a row before subtracting: <t, a> runs over every column",
)  # fmt: skip
CONFUSED = Name(
    "log-softmax-confused", "(t - <t, a>) a for t - a sum t, or the other way round",
    "this is the backward of {other}, not of {layer}",
    "pair the forward with its own backward: (t - <t, a>) a for softmax, t - a sum t for log-softmax",
)  # fmt: skip
WRONG_AXIS = Name(
    "wrong-axis", "the layer along axis {axis}",
    "the softmax is taken along axis {axis}, not {right}",
    "reduce along the axis that was asked for, or check with --axis {axis}", CONVENTION,
)  # fmt: skip
DOT_AXIS = Name(
    "dot-over-wrong-axis", "(t - sum over rows of t a) a",
    "the inner product is taken down each column, along axis 0, and not along each row",
    "reduce <t, a> along the softmax axis",
)  # fmt: skip
NO_TEMPERATURE = Name(
    "temperature-missing", "the layer with T = 1",
    "the temperature {temperature:g} is missing, in the softmax and behind it",
    "divide the logits by the temperature, and the gradient too", CONVENTION,
)  # fmt: skip
TRANSPOSED = Name(
    "transposed", "G transposed", "the numbers are right, but {words}: read so, every entry passes",
    "export a contiguous copy in the logits' own layout, or fix the strides",
)  # fmt: skip
LOW_PRECISION = Name(
    "low-precision", "the right formula in {dtype}",
    "every entry is what {dtype} arithmetic gives, though it is stored as {stored}",
    "keep probabilities and sums in float32, or say --compute-dtype {dtype}", ROUNDING,
)  # fmt: skip
IGNORED = Name(
    "upstream-ignored", "a (1 - a); 1 - K a for the logarithm",
    "the upstream gradient does not enter", "multiply by grad_output: the layer has no gradient without one",
)  # fmt: skip
FIRST_ROW = Name(
    "upstream-first-row-only", "the layer with t of row 0",
    "the upstream gradient of the first row is used for all rows", "index grad_output with the row",
)  # fmt: skip
TWICE = Name(
    "upstream-applied-twice", "t (t - <t, a>) a, or t^2 in place of t",
    "the upstream gradient enters twice", "multiply by grad_output once",
)  # fmt: skip
DOUBLE = Name(
    "double-softmax", "the layer at z' = softmax(z)",
    "softmax is applied to probabilities, which are a softmax already",
    "hand logits to the layer, or leave it out",
)  # fmt: skip
AGAIN = Name(
    "jacobian-applied-twice", "J(a) J(a) t", "the backward is applied twice",
    "lead the upstream gradient through the softmax once",
)  # fmt: skip
SIGMOID = Name(
    "sigmoid-for-softmax", "t s (1 - s)", "this is the backward of a sigmoid, entry by entry",
    "use the softmax of the row: its backward is (t - <t, a>) a",
)  # fmt: skip
PASSED_ON = Name(
    "upstream-exported", "t", "the file holds the upstream gradient itself",
    "lead it back through the softmax, or export the buffer that was written",
)  # fmt: skip
PROBS = Name(
    "probs-exported", "a", "this is no gradient: the file holds the probabilities",
    "export the gradient, or hand it in as --probs",
)  # fmt: skip
LOGITS = Name(
    "logits-exported", "z", "this is no gradient: the file holds the logits",
    "export the buffer that the backward pass writes",
)  # fmt: skip
STALE = Name(
    "stale-rows", "0 in rows that were not written",
    "some rows hold nothing but zeros, as if they had never been written",
    "check the launch grid, the bounds of the last block, and what decides that a row is skipped",
)  # fmt: skip
MASKED = Name(
    "masked-row", "NaN where every class is -inf",
    "rows that are masked throughout are NaN: 0/0 of a sum of no exponentials",
    "write 0 there, or pass --masked-rows ignore where it does not matter",
)  # fmt: skip
OVERFLOW = Name(
    "no-max-subtraction", "exp(z) / sum exp(z)",
    "rows whose logits have no exponential in {dtype} are NaN", "subtract the row's maximum before exp",
)  # fmt: skip

SIGN = Name(
    "sign-flipped", "-G", "the sign is flipped: got = -1 x expected",
    "negate the gradient, or look for a difference taken the wrong way round",
)  # fmt: skip
NO_CHAIN = Name(
    "temperature-chain-missing", "G T", "the factor 1/T of the temperature {factor:g} is missing",
    "divide the gradient by the temperature: z/T has the derivative 1/T",
)  # fmt: skip
CHAIN_TWICE = Name(
    "temperature-chain-twice", "G / T", "the factor 1/T of the temperature enters twice",
    "divide by the temperature once",
)  # fmt: skip
SUMMED = Name(
    "accumulated", "{factor:g} G", "the gradient was added {factor:g} times",
    "zero the buffer before the backward pass writes, or write instead of adding",
)  # fmt: skip
DIVIDED = Name(
    "divided-by-parts", "G / {parts:,}", "the gradient is divided by {parts:,}{which}",
    "the layer divides by nothing: leave the mean to the loss",
)  # fmt: skip
SCALED = Name(
    "loss-scale-not-removed", "2^{power} G", "got = 2^{power} x expected: a loss scale that is still there",
    "divide by the loss scale before the gradient is exported",
)  # fmt: skip

NAMES = (
    DIAGONAL, NO_DOT, BARE_DOT, OVER_TILE, OVER_BATCH, DOT_AXIS, CONFUSED, WRONG_AXIS, NO_TEMPERATURE,
    TRANSPOSED, LOW_PRECISION, IGNORED, FIRST_ROW, TWICE, DOUBLE, AGAIN, SIGMOID, PASSED_ON, PROBS,
    LOGITS, STALE, MASKED, OVERFLOW, SIGN, NO_CHAIN, CHAIN_TWICE, SUMMED, DIVIDED, SCALED,
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Suspicion:
    """A guess, and the layer whose rows it is tried on: another one where it was posed or read otherwise."""

    layer: Layer
    guess: Guess[Pulled]


def scales(layer: Layer) -> list[Scale]:
    """Return the factors that have a reason, the likeliest first."""
    temperature, rows, classes = layer.problem.link.temperature, layer.problem.rows, layer.problem.classes
    found = [Scale(SIGN, -1.0)]
    if temperature != 1.0:
        found += [Scale(NO_CHAIN, temperature), Scale(CHAIN_TWICE, 1.0 / temperature)]
    for parts, which in ((rows, ", the number of rows"), (classes, ", the number of classes"),
                         (rows * classes, ", the number of entries")):  # fmt: skip
        if parts > 1:
            found.append(Scale(DIVIDED, 1.0 / parts, {"parts": parts, "which": which}))
    found += [Scale(SUMMED, float(copies), general=True) for copies in _COPIES]
    found += [Scale(DIVIDED, 1.0 / parts, {"parts": parts, "which": ""}, general=True) for parts in _COPIES]
    found += [Scale(SCALED, 2.0**power, {"power": power}) for power in _POWERS]
    different: dict[float, Scale] = {}
    for each in found:
        different.setdefault(each.value, each)
    return list(different.values())


def bare(layer: Layer) -> list[Suspicion]:
    """Return the suspicion that nothing but a factor is wrong, without and with 16-bit arithmetic."""
    ways = (cores.tight,) if layer.export.native is None else (cores.tight, right)
    return [Suspicion(layer, Guess(None, core, general=core is right)) for core in ways]


def suspicions(layer: Layer) -> Iterator[Suspicion]:
    """Yield the bugs that rows show by themselves."""
    made: tuple[tuple[Name, Core[Pulled]], ...] = (
        (DIAGONAL, cores.diagonal), (NO_DOT, cores.no_dot), (BARE_DOT, cores.bare_dot),
        (IGNORED, cores.ignored), (TWICE, cores.squared), (TWICE, cores.weighted_again),
        (DOUBLE, cores.double), (DOUBLE, cores.double_short), (AGAIN, cores.jacobian_again),
    )  # fmt: skip
    if layer.problem.log:
        made = (
            (DIAGONAL, cores.log_diagonal), (NO_DOT, cores.passed_on), (BARE_DOT, cores.log_bare),
            (BARE_DOT, cores.log_mean), (IGNORED, cores.log_ignored), (TWICE, cores.log_squared),
            (TWICE, cores.weighted_again),
        )  # fmt: skip
    for name, core in (*made, (SIGMOID, cores.sigmoid)):
        yield Suspicion(layer, Guess(name, core))
    if not layer.problem.log:
        for width in (each for each in _TILES if each < layer.problem.classes):
            for own, which in ((False, "the first tile"), (True, "each tile")):
                told = {"width": width, "which": which}
                yield Suspicion(layer, Guess(OVER_TILE, cores.over_tile(width, own=own), told))
        yield Suspicion(layer, Guess(PASSED_ON, cores.passed_on, alone=True))
    yield Suspicion(layer, Guess(PROBS, cores.probabilities, alone=True))
    yield Suspicion(layer, Guess(LOGITS, cores.logits, alone=True))
    yield Suspicion(layer, Guess(MASKED, cores.poisoned, alone=True))
    yield Suspicion(layer, Guess(STALE, cores.unwritten, general=True, alone=True))
    compute = layer.export.compute
    words = {"dtype": compute.name}
    yield Suspicion(layer, Guess(OVERFLOW, cores.overflown(compute.digits), words, alone=True))
    if layer.problem.rows > 1:
        yield Suspicion(layer, Guess(FIRST_ROW, _with_first(layer)))


def _with_first(layer: Layer) -> Core[Pulled]:
    """Return the layer with the upstream gradient of the first row."""
    first = sighted(layer.problem.upstream, range(1))
    core = cores.log_soft if layer.problem.log else cores.soft
    return lambda piece: core(piece.under(np.broadcast_to(first, piece.got.shape)))


def reposed(layer: Layer) -> Iterator[Suspicion]:
    """Yield the layer as it may have been meant: judged by the check's own bounds under other settings."""
    problem, export = layer.problem, layer.export
    kind = {True: "log-softmax", False: "softmax"}
    told: dict[str, Any] = {"other": kind[not problem.log], "layer": kind[problem.log]}
    flags: tuple[str, ...] = () if problem.log else ("--log",)
    other = replace(layer, problem=replace(problem, log=not problem.log))
    yield Suspicion(other, Guess(CONFUSED, right, told, flags))
    if problem.link.temperature != 1.0:
        one = replace(layer, problem=replace(problem, link=Link(1.0)))
        told = {"temperature": problem.link.temperature}
        yield Suspicion(one, Guess(NO_TEMPERATURE, right, told, ("--temperature", "1")))
    shape = problem.logits.tensor.shape
    for axis in range(len(shape)):
        if axis != problem.axis and shape[axis] > 1:
            turned = replace(
                problem,
                axis=axis,
                logits=Rows(problem.logits.tensor, axis),
                upstream=Rows(problem.upstream.tensor, axis),
            )
            along = Layer(turned, replace(export, rows=Rows(export.rows.tensor, axis)), layer.tolerance)
            told = {"axis": axis, "right": problem.axis}
            yield Suspicion(along, Guess(WRONG_AXIS, right, told, ("--axis", f"{axis}")))
    for order, tensor, axis in _orders(export.rows.tensor, problem.axis):
        seen = replace(layer, export=replace(export, rows=Rows(tensor, axis)))
        yield Suspicion(seen, Guess(TRANSPOSED, right, {"words": order}, alone=True))
    if not export.grid.half and layer.tolerance is None:
        for half in (FLOAT16, BFLOAT16):
            rough = replace(export, compute=FLOAT32, native=half)
            told = {"dtype": half.name, "stored": export.grid.name}
            flags = ("--compute-dtype", half.name)
            guess = Guess(LOW_PRECISION, right, told, flags, general=True, alone=True)
            yield Suspicion(replace(layer, export=rough), guess)


def _orders(tensor: Tensor, axis: int) -> Iterator[tuple[str, Tensor, int]]:
    """Yield the orders that a transposed export may have: words, the tensor seen so, its softmax axis."""
    if tensor.layout == "F":
        yield "they lie in C order", replace(tensor, layout="C"), axis
        return
    for other in (axis - 1, axis + 1):
        if 0 <= other < len(tensor.shape) and 1 not in (tensor.shape[axis], tensor.shape[other]):
            turned = list(tensor.shape)
            turned[axis], turned[other] = turned[other], turned[axis]
            words = f"axes {min(axis, other)} and {max(axis, other)} are swapped"
            yield words, replace(tensor, shape=tuple(turned)), other


def summed(layer: Layer, whole: float, size: float, columns: Floats, sizes: Floats) -> Iterator[Suspicion]:
    """Yield what needs sums over all rows: of <t, a>, its size, and of t a in each column, (K,)."""
    if layer.problem.log:
        return
    blur = 2.0 * layer.export.compute.unit * math.fsum((layer.problem.rows, layer.problem.classes, 48.0))

    def over_batch(piece: Pulled) -> tuple[Floats, Floats]:
        error = (np.abs(piece.t) + abs(whole)) * piece.error + piece.a * (blur * size)
        return stored(piece, (piece.t - whole) * piece.a, 2.0 * error)

    def over_columns(piece: Pulled) -> tuple[Floats, Floats]:
        error = (np.abs(piece.t) + np.abs(columns)) * piece.error + piece.a * (blur * sizes)
        return stored(piece, (piece.t - columns) * piece.a, 2.0 * error)

    yield Suspicion(layer, Guess(OVER_BATCH, over_batch))
    yield Suspicion(layer, Guess(DOT_AXIS, over_columns))
