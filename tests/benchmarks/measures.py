"""Observed over allowed, for each of softgrad's bounds: what `tightness` reports.

A module of the benchmarks, not a program. Each measure yields the ratios of some rows after the other.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any
from unittest import mock

import ml_dtypes
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from gradcheck_cli.numeric import accuracy, cross_entropy, difference, half, logarithms, ruler
from gradcheck_cli.numeric.allowance import Allowance
from gradcheck_cli.numeric.logarithms import Arithmetic
from gradcheck_cli.numeric.models import Model
from gradcheck_cli.numeric.precision import BY_NAME, FLOAT32, FLOAT64, Floats
from tests import oracle
from tests.benchmarks import kernels
from tests.benchmarks.points import CONVENTIONS, DIVISOR, Convention, Rows, adversaries, some_rows, work_out

SMALL = (1, 2, 10, 129)
LARGE = 50_000
KERNEL_SIZES = (2, 10, 129, 1000)
PLAIN = CONVENTIONS["plain"]
KINDS: Mapping[str, Any] = MappingProxyType(
    {
        "float32": np.float32,
        "bfloat16": ml_dtypes.bfloat16,
        "float16": np.float16,
        "float8_e4m3fn": ml_dtypes.float8_e4m3fn,
        "float8_e5m2": ml_dtypes.float8_e5m2,
    }
)
ADDING: Mapping[Model, kernels.Add] = MappingProxyType(
    {Model.TREE: kernels.by_tree, Model.LANES: kernels.by_lanes, Model.ANY_ORDER: kernels.in_order}
)

Ratios = Iterator[tuple[str, Floats]]
"""Observed over allowed, entry by entry, with the words that say of which rows."""


def ratios(observed: Any, truth: Any, allowed: Floats) -> Floats:
    """Return |observed - truth| / allowed where one of them is not 0, in the precision of the truth.

    Left out is what says nothing: both infinite, and where anything is allowed.
    """
    found = []
    for x, t, bound in zip(np.ravel(observed), np.ravel(truth), np.ravel(allowed), strict=True):
        nearest = float(t)
        if bound == np.inf or (float(x) == nearest and not 0.0 < abs(nearest) < np.inf):
            continue
        found.append(_ratio(float(abs(t - float(x))), float(bound)))
    return np.array(found)


def quick_ratios(observed: Floats, truth: Floats, allowed: Floats) -> Floats:
    """Return the same, the truth being float64."""
    there = (observed != 0.0) | (truth != 0.0)
    error = np.abs(observed - truth)[there]
    return np.array(list(map(_ratio, error.tolist(), allowed[there].tolist())))


def _ratio(error: float, allowed: float) -> float:
    """Return error / allowed; infinite where either is no number, or an error is where none is allowed."""
    if not allowed >= 0.0 or math.isnan(error):
        return math.inf
    if error == 0.0:
        return 0.0
    return error / allowed if allowed > 0.0 else math.inf


# ---- against 50 digits ------------------------------------------------------------------------------------


def reference(name: str) -> Ratios:
    """Yield the ratios of the analytic gradient of a convention."""
    convention = CONVENTIONS[name]
    for rows in adversaries(convention, SMALL):
        truth = oracle.gradient(rows.z, rows.targets, convention.oracle(rows.at.sums.classes), rows.upstream)
        yield rows.words, ratios(rows.g, truth, _spread(rows, accuracy.reference_error(rows.at)))


def long_rows() -> Ratios:
    """Yield the ratios of the gradient of 50,000 classes."""
    for family in ("wide", "saturated", "forgotten"):
        rows = some_rows(PLAIN, family, LARGE)
        truth = oracle.probabilities(rows.z, PLAIN.oracle(LARGE))
        truth[np.arange(len(truth)), rows.targets] -= 1
        truth *= np.array([oracle.DIGITS_50.mpf(u) / DIVISOR for u in rows.upstream])[:, None]
        yield rows.words, ratios(rows.g, truth, _spread(rows, accuracy.reference_error(rows.at)))


def _softmaxes() -> Iterator[tuple[Rows, oracle.Convention]]:
    """Yield rows under each transformation of the logits."""
    for name in ("plain", "temperature", "softcap", "softcap and temperature"):
        for rows in adversaries(CONVENTIONS[name], SMALL):
            yield rows, CONVENTIONS[name].oracle(rows.at.sums.classes)


def probabilities() -> Ratios:
    """Yield the ratios of softmax."""
    for rows, convention in _softmaxes():
        sums, link, a = rows.at.sums, rows.at.loss.link, rows.planes.a
        bound = accuracy.probability_error(sums, link, FLOAT64, accuracy.pairwise(sums.classes))
        planes = replace(rows.planes, slope=None)
        allowed = bound.spread(accuracy.bare(sums, link), planes, a, np.empty_like(a), np.empty_like(a))
        yield rows.words, ratios(a, oracle.probabilities(rows.z, convention), allowed)


def log_probabilities() -> Ratios:
    """Yield the ratios of log-softmax; the allowance is for both sides, each in float64."""
    for rows, convention in _softmaxes():
        sums, d = rows.at.sums, rows.planes.d
        by, out = logarithms.REFERENCE, np.empty_like(d)
        allowed = logarithms.log_probability_error(sums, d, rows.at.loss.link, by, out)
        truth = oracle.log_probabilities(rows.z, convention)
        yield rows.words, ratios(d - sums.log_total[:, None], truth, allowed)


def at_probabilities() -> Ratios:
    """Yield the ratios of -y/a; the allowance is for both sides, each in float64."""
    for name in ("plain", "smoothing", "class weights", "soft targets", "temperature"):
        convention = CONVENTIONS[name]
        for rows in adversaries(convention, SMALL):
            got = cross_entropy.gradient_at_probabilities(rows.at, rows.planes, np.empty_like(rows.g))
            truth = oracle.gradient_at_probabilities(
                rows.z, rows.targets, convention.oracle(rows.at.sums.classes), rows.upstream
            )
            allowed = logarithms.gradient_at_probabilities_error(
                rows.at, rows.planes, logarithms.REFERENCE, (got, got), np.empty_like(got)
            )
            yield rows.words, ratios(got, truth, allowed)


def losses() -> Ratios:
    """Yield the ratios of each row's loss."""
    for convention in CONVENTIONS.values():
        for rows in adversaries(convention, SMALL):
            truth = oracle.row_losses(rows.z, rows.targets, convention.oracle(rows.at.sums.classes, None))
            whole = rows.plain + convention.z_loss * np.square(rows.at.sums.lse)
            yield (
                rows.words,
                ratios(whole, truth, logarithms.loss_error(rows.at, rows.plain, logarithms.REFERENCE)),
            )


# ---- the ruler --------------------------------------------------------------------------------------------


def central() -> Ratios:
    """Yield the ratios of the central difference against the analytic gradient, entry by entry."""
    for convention in CONVENTIONS.values():
        for rows in adversaries(convention, (*SMALL, 1000)):
            at, planes, g = rows.at, rows.planes, rows.g
            got = difference.central(at, planes, np.empty_like(g), np.empty_like(g))
            slope = None if planes.slope is None else planes.at_pivot(planes.slope)
            planes.put_pivot(got, difference.central_at_pivot(at, slope))
            bound = ruler.difference_error(at)
            allowed = _spread(rows, bound)
            planes.put_pivot(allowed, ruler.difference_at_pivot(at, bound, rows.slope))
            yield rows.words, quick_ratios(got, g, allowed)


def brute_force() -> Ratios:
    """Yield the ratios of the five-point difference of whole-row losses."""
    for convention in CONVENTIONS.values():
        for rows in adversaries(convention, (2, 10)):
            classes = rows.at.sums.classes
            wanted = convention.oracle(classes, None)
            truth = oracle.gradient(rows.z, rows.targets, wanted)
            for i, z in enumerate(rows.z):
                q = oracle.as_float64(np.array(oracle.target_weights(rows.targets[i], classes, wanted)))
                for j in range(classes):
                    slope, _ = difference.five_point(z, q, rows.at.loss, j)
                    allowed = ruler.audit_error(z, q, rows.at.loss, float(truth[i, j]), j)
                    yield rows.words, ratios([slope], truth[i, j], np.array([allowed]))


# ---- kernels in float32 and in 16 bits --------------------------------------------------------------------


def single(model: Model) -> Ratios:
    """Yield the ratios of float32 kernels whose sums are formed as a model says."""
    for convention in CONVENTIONS.values():
        for rows in adversaries(convention, KERNEL_SIZES, np.float32):
            bound = accuracy.gradient_error(rows.at, FLOAT32, model.sigma(rows.at.sums.classes))
            allowed = _spread(rows, bound + accuracy.reference_error(rows.at))
            for way in ("divide", "log-softmax"):
                got = kernels.Kernel(np.float32, ADDING[model], way).gradient(rows, convention)
                yield rows.words, quick_ratios(got.astype(np.float64), rows.g, allowed)


def fused() -> Ratios:
    """Yield the ratios of float32 kernels that take exp(v - lse), where lse is not off by 1 and more."""
    for convention in CONVENTIONS.values():
        for rows in adversaries(convention, KERNEL_SIZES, np.float32):
            at = rows.at
            if np.abs(at.sums.lse).max() * FLOAT32.unit > 0.25:
                continue
            bound = accuracy.gradient_error(at, FLOAT32, accuracy.any_order(at.sums.classes))
            with mock.patch.object(accuracy, "FUSED_LSE_CAP", 1e300):
                bound = replace(bound, fixed=bound.fixed + accuracy.fused_lse_error(at, FLOAT32))
            got = kernels.Kernel(np.float32, kernels.by_tree, "fused").gradient(rows, convention)
            allowed = _spread(rows, bound + accuracy.reference_error(at))
            yield rows.words, quick_ratios(got.astype(np.float64), rows.g, allowed)


def native(name: str, *, narrow: bool = False) -> Ratios:
    """Yield the ratios of 16-bit kernels; `narrow` ones also add the targets up in 16 bits, as JAX does.

    Of those, rows are left out that lost over a sixth of their largest gradient: they are not right.
    """
    kind, grid = KINDS[name], BY_NAME[name]
    for convention in CONVENTIONS.values():
        for rows in adversaries(convention, KERNEL_SIZES, kind):
            bound = accuracy.gradient_error(rows.at, FLOAT32, accuracy.any_order(rows.at.sums.classes))
            allowed = _spread(rows, (bound + accuracy.reference_error(rows.at)).stored(grid))
            room = (np.empty_like(rows.g), np.empty_like(rows.g))
            with mock.patch.object(half, "NATIVE_CAP", 1e300):
                allowed += half.native_error(rows.at, rows.planes, grid, rows.g, room)
            largest = np.abs(rows.g).max(axis=1, keepdims=True)
            for way in ("divide", "log-softmax"):
                kernel = kernels.Kernel(kind, kernels.by_tree, way, kind if narrow else np.float32)
                got = kernel.gradient(rows, convention).astype(np.float64)
                right = np.isfinite(got).all(axis=1)
                if narrow:
                    right &= (np.abs(got - rows.g) <= half.NATIVE_CAP * largest).all(axis=1)
                yield rows.words, quick_ratios(got[right], rows.g[right], allowed[right])


def storage(name: str) -> Ratios:
    """Yield the ratios of rounding to a format: random numbers, and midpoints of the format's own."""
    kind, grid = KINDS[name], BY_NAME[name]
    rng = np.random.default_rng(0)
    lowest, highest = (
        np.log2(grid.smallest_subnormal / 4.0),
        min(np.log2(_largest(kind)), 60),
    )
    x = np.exp2(rng.uniform(lowest, highest - 1.0, 20_000))
    below = x.astype(kind)
    above = np.nextafter(below, kind(_largest(kind)))
    middle = 0.5 * (below.astype(np.float64) + above.astype(np.float64))
    for words, values in (("random numbers", x), ("midpoints", middle)):
        nothing = Allowance(fixed=np.zeros(1), depth=0.0, target=0.0, floor=0.0).stored(grid)
        allowed = nothing.relative * values + nothing.floor
        yield words, quick_ratios(values.astype(kind).astype(np.float64), values, allowed)


def _largest(kind: Any) -> float:
    """Return the largest number of a dtype."""
    return float(ml_dtypes.finfo(kind).max)  # type: ignore[no-untyped-call]


# ---- logits that were rounded on export -------------------------------------------------------------------


def _exact_and_rounded(name: str, convention: Convention) -> Iterator[tuple[Rows, Rows]]:
    """Yield rows as a kernel had them, and as softgrad is given them."""
    for rows in adversaries(convention, (2, 10, 129)):
        rounded = rows.z.astype(KINDS[name]).astype(np.float64)
        if np.isfinite(rounded).all():
            yield rows, work_out(rows.words, rounded, rows.targets, convention, rows.upstream)


def rounded_logits(name: str) -> Ratios:
    """Yield the ratios of what rounding the logits moves the gradient by."""
    grid = BY_NAME[name]
    for convention in CONVENTIONS.values():
        for exact, rounded in _exact_and_rounded(name, convention):
            at, slope = rounded.at, rounded.slope
            outside, own = accuracy.rounded_logits_error(at, grid, slope)
            ours = accuracy.reference_error(at)
            bound = outside + ours + ours
            g, planes = rounded.g, rounded.planes
            allowed = bound.outside_pivot(at, planes, g, np.empty_like(g), np.empty_like(g))
            planes.put_pivot(allowed, own + 2.0 * ours.at_pivot(at, slope, planes.at_pivot(g)))
            yield exact.words, quick_ratios(exact.g, g, allowed)


def rounded_losses(name: str) -> Ratios:
    """Yield the ratios of what rounding the logits moves each row's loss by."""
    for convention in CONVENTIONS.values():
        for exact, rounded in _exact_and_rounded(name, convention):
            by = Arithmetic(FLOAT64, logits=BY_NAME[name])
            allowed = logarithms.loss_error(rounded.at, rounded.plain, by)
            whole, moved = (
                each.plain + convention.z_loss * np.square(each.at.sums.lse) for each in (rounded, exact)
            )
            yield exact.words, quick_ratios(moved, whole, allowed)


def _spread(rows: Rows, bound: Allowance) -> Floats:
    """Return every entry's allowance: (n, K)."""
    g = rows.g
    return bound.spread(rows.at, rows.planes, g, np.empty_like(g), np.empty_like(g))
