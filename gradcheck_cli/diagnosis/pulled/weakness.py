"""What this data could not have shown of a softmax layer's backward, whether the check passed or not."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from gradcheck_cli.diagnosis.weakness import LOOK, OVERFLOWS, RUNS, Weakness
from gradcheck_cli.exports import Export
from gradcheck_cli.layer.problem import LayerProblem
from gradcheck_cli.numeric.precision import Floats
from gradcheck_cli.records import dataclass

_TILE = 128  # columns that a kernel takes at a time
_NOTHING = 4.0  # units of the sizes that cancel, to which an inner product is 0


@dataclass(frozen=True, eq=False)
class _Seen:
    """A few rows: (n, K) each."""

    v: Floats  # logits over the temperature
    t: Floats  # upstream
    among: str  # says how many rows these are, if not all


def weaknesses(problem: LayerProblem, export: Export) -> tuple[Weakness, ...]:
    """Return what the data of a gradient lacks, the most telling first."""
    with np.errstate(all="ignore"):
        seen = _looked_at(problem)
        looks = (
            _of_rows(problem, seen),
            _of_upstream(problem, seen, export),
            _of_logits(problem, seen, export),
        )
        return tuple(each for look in looks for each in look)


def _looked_at(problem: LayerProblem) -> _Seen:
    """Read a few runs of rows that lie evenly, or all rows."""
    rows = problem.rows
    most = min(rows, max(1, LOOK // problem.classes))
    runs = 1 if most == rows else min(RUNS, most)
    size = most // runs
    starts = [0] if runs == 1 else np.linspace(0, rows - size, runs).astype(int).tolist()
    z, t = np.empty((2, size * len(starts), problem.classes))
    for place, start in enumerate(starts):
        here = slice(place * size, (place + 1) * size)
        problem.logits.read(start, start + size, z[here])
        problem.upstream.read(start, start + size, t[here])
    among = "" if len(z) == rows else f" (of {len(z):,} rows looked at)"
    return _Seen(problem.link.apply(z), t, among)


def _of_rows(problem: LayerProblem, seen: _Seen) -> Iterator[Weakness]:
    if problem.rows == 1:
        over_rows = () if problem.log else ("dot-over-batch", "dot-over-wrong-axis")
        yield Weakness("one-row", "there is only one row", ("upstream-first-row-only", *over_rows))
    elif (seen.t == seen.t[0]).all():
        lacks = f"every row has the same upstream gradient{seen.among}"
        yield Weakness("uniform-upstream", lacks, ("upstream-first-row-only",))


def _of_upstream(problem: LayerProblem, seen: _Seen, export: Export) -> Iterator[Weakness]:
    t = seen.t
    if np.isin(t, (0.0, 1.0)).all():
        lacks = f"the upstream gradient is 0 or 1 throughout{seen.among}"
        yield Weakness("upstream-of-ones", lacks, ("upstream-applied-twice (as t^2)",))
    if not problem.log and (t == t[:, :1]).all():
        lacks = f"the upstream of every row is one number, which the layer makes 0{seen.among}"
        yield Weakness("flat-upstream", lacks, ("sign-flipped", "accumulated", "upstream-applied-twice"))
        return
    w = np.exp(seen.v - seen.v.max(axis=1, keepdims=True))
    a = np.ones_like(w) if problem.log else w / w.sum(axis=1, keepdims=True)
    inner, size = (t * a).sum(axis=1), (np.abs(t) * a).sum(axis=1)
    if (np.abs(inner) <= _NOTHING * export.compute.unit * size).all():
        what = "sum t" if problem.log else "<t, a>"
        hides = "missing-dot-term", "dot-without-probs" if problem.log else "dot-over-batch"
        yield Weakness("no-inner-product", f"{what} is 0 in every row{seen.among}", hides)


def _of_logits(problem: LayerProblem, seen: _Seen, export: Export) -> Iterator[Weakness]:
    finite = seen.v[np.isfinite(seen.v)]
    limit = OVERFLOWS.get(export.compute.name, OVERFLOWS["float32"])
    if finite.size and float(finite.max()) < limit:
        none = f"no logit is above {limit:g}{seen.among}"
        yield Weakness("small-logits", none, ("no-max-subtraction",))
    if not problem.log and (seen.v == seen.v[:, :1]).all():
        alike = f"the logits of every row are all the same{seen.among}"
        yield Weakness("even-logits", alike, ("double-softmax (of the probabilities alone)",))
    if problem.classes <= _TILE and not problem.log:
        yield Weakness("one-tile", f"a row fits a tile of {_TILE} columns", ("dot-over-tile",))
