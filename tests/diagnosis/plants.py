"""Wrong gradients written down from their formulas, with nothing of the package: what must be named.

A `Plant` says which bug it is, under which settings it is planted, and how the gradient comes out. The right
gradient and every ingredient are worked out here once more, in plain NumPy.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
IGNORED = -100


def softmax(z: Array, axis: int = -1) -> Array:
    """Return softmax along an axis."""
    e = np.exp(z - z.max(axis=axis, keepdims=True))
    a: Array = e / e.sum(axis=axis, keepdims=True)
    return a


def vjp(a: Array, t: Array) -> Array:
    """Return the backward of softmax: (t - <t, a>) a."""
    bottom: Array = (t - (t * a).sum(axis=1, keepdims=True)) * a
    return bottom


@dataclass(frozen=True, eq=False)
class Data:
    """Logits and labels, and whatever an exporter may have beside them."""

    z: Array
    labels: Array  # true ones, of ignored rows too
    ignored: Array
    upstream: Array
    weights: Array

    @property
    def stored(self) -> Array:
        """Return the labels as a file has them."""
        return np.where(self.ignored, IGNORED, self.labels)

    @property
    def y(self) -> Array:
        """Return the one-hot labels."""
        return np.eye(self.z.shape[1])[self.labels]

    @property
    def v(self) -> Array:
        """Return 1 for the rows that count, as a column."""
        return (~self.ignored)[:, None].astype(float)

    @property
    def n(self) -> int:
        """Return the number of rows that count."""
        return int((~self.ignored).sum())

    @property
    def a(self) -> Array:
        """Return the probabilities."""
        return softmax(self.z)

    @property
    def w(self) -> Array:
        """Return the weight of each row's label, as a column."""
        return self.weights[self.labels][:, None]

    @property
    def lse(self) -> Array:
        """Return logsumexp of the rows, as a column."""
        m = self.z.max(axis=1, keepdims=True)
        lse: Array = m + np.log(np.exp(self.z - m).sum(axis=1, keepdims=True))
        return lse

    @property
    def right(self) -> Array:
        """Return the gradient of the mean loss."""
        mean: Array = self.v * (self.a - self.y) / self.n
        return mean


def friendly(seed: int = 0) -> Data:
    """Return data on which every bug shows: ignored and confident rows, varied upstream and weights."""
    rng = np.random.default_rng(seed)
    rows, classes = 44, 12
    z = (2.0 * rng.normal(size=(rows, classes))).astype(np.float16).astype(np.float64)
    labels = rng.integers(0, classes, rows)
    z[::6] += 9.0 * np.eye(classes)[labels[::6]]
    ignored = np.zeros(rows, dtype=bool)
    ignored[[1, 2, 5, 9, 17, 18, 41]] = True
    return Data(z, labels, ignored, rng.uniform(0.5, 2.0, rows), rng.uniform(0.5, 3.0, classes).round(2))


def adversarial(seed: int = 1) -> Data:
    """Return saturated rows, offsets, ties, an ignored first row, labels at the ends, powers of two."""
    rng = np.random.default_rng(seed)
    rows, classes = 64, 64
    z = (6.0 * rng.normal(size=(rows, classes))).astype(np.float16).astype(np.float64)
    labels = rng.integers(0, classes, rows)
    labels[:8] = [0, classes - 1, 0, 0, classes - 1, 1, 0, 5]
    z[8:16] += 40.0 * np.eye(classes)[labels[8:16]]
    z[16:20] -= 50.0
    z[20, :] = 3.0
    ignored = np.zeros(rows, dtype=bool)
    ignored[[0, 7, 33, 34, 35, 63]] = True
    upstream = rng.normal(size=rows)
    upstream[[3, 40]] = 0.0
    return Data(z, labels, ignored, upstream, rng.uniform(0.1, 9.0, classes).round(2))


def weak(seed: int = 2) -> Data:
    """Return data that hides much: few rows, none ignored, one upstream and one weight for all."""
    rng = np.random.default_rng(seed)
    rows, classes = 8, 4
    z = rng.normal(size=(rows, classes)).astype(np.float16).astype(np.float64)
    labels = rng.integers(0, classes, rows)
    return Data(z, labels, np.zeros(rows, dtype=bool), np.full(rows, 2.0), np.full(classes, 2.0))


Make = Callable[[Data], Array]


@dataclass(frozen=True, eq=False)
class Plant:
    """A bug, the settings it is planted under, and the wrong gradient."""

    codes: tuple[str, ...]
    make: Make
    settings: dict[str, Any] = field(default_factory=dict)
    exported: tuple[str, ...] = ()  # upstream, class_weights
    name: str = ""
    same: str = ""  # a bug of the same numbers where no row is ignored and weights are all alike
    needs: Callable[[Data], bool] = lambda _: True

    @property
    def title(self) -> str:
        """Return what the plant is called in a test."""
        return self.name or "+".join(self.codes)


def micro(d: Data, cuts: list[int], *, mean: bool) -> Array:
    """Return each part of the rows divided by its own count, and by the number of parts."""
    out = np.zeros_like(d.right)
    parts = np.split(np.arange(len(d.z)), cuts)
    for part in parts:
        out[part] = (d.v * (d.a - d.y))[part] / max(d.v[part].sum(), 1.0) / (len(parts) if mean else 1)
    return out


def smoothed(d: Data, e: float, each: float, own: float | None = None) -> Array:
    """Return the gradient with `each` on every class and `own` (default 1 - e) more at the label."""
    q = np.full_like(d.z, each) + (1.0 - e if own is None else own) * d.y
    wrong: Array = d.v * (d.a * q.sum(axis=1, keepdims=True) - q) / d.n
    return wrong


def capped(d: Data, c: float) -> tuple[Array, Array]:
    """Return softmax of the capped logits, and the slope of the cap."""
    return softmax(c * np.tanh(d.z / c)), 1.0 - np.tanh(d.z / c) ** 2


def shifted(d: Data, by: int) -> Array:
    """Return the gradient with the labels of the rows above or below, ignored rows by their own label."""
    wrong: Array = d.v * (d.a - np.roll(d.y, by, axis=0)) / d.n
    return wrong


def weighted(d: Data) -> Array:
    """Return the gradient of the weighted mean."""
    wrong: Array = d.v * d.w * (d.a - d.y) / (d.v * d.w).sum()
    return wrong


def padded(d: Data, lanes: int) -> Array:
    """Return the gradient whose denominators hold so many exp(0) too many."""
    total = np.exp(d.z).sum(axis=1, keepdims=True) + lanes
    wrong: Array = d.v * (np.exp(d.z) / total - d.y) / d.n
    return wrong


def sharded(d: Data, shards: int) -> Array:
    """Return the gradient whose classes are normalised shard by shard."""
    parts = [softmax(each) for each in np.split(d.z, shards, axis=1)]
    wrong: Array = d.v * (np.concatenate(parts, axis=1) - d.y) / d.n
    return wrong


def overflowed(d: Data) -> Array:
    """Return the gradient of a float32 softmax without its maximum subtracted."""
    with np.errstate(all="ignore"):
        w = np.exp(d.z.astype(np.float32))
        a = w / w.sum(axis=1, keepdims=True)
    return np.where(d.v > 0, (a - d.y) / d.n, 0.0)


def tail(d: Data, columns: int) -> Array:
    """Return the gradient without its last columns."""
    out = d.right.copy()
    out[:, -columns:] = 0.0
    return out


def ahead(d: Data, rows: int) -> Array:
    """Return the gradient whose last rows are those of so many rows before."""
    out = d.right.copy()
    out[-rows:] = d.right[-2 * rows : -rows]
    return out


def unwritten(d: Data, rows: int) -> Array:
    """Return the gradient without its last rows."""
    out = d.right.copy()
    out[-rows:] = 0.0
    return out


NONE, SMOOTH, TEMPERED = {"reduction": "none"}, {"label_smoothing": 0.1}, {"temperature": 2.5}
CAPPED, LOSS_Z = {"softcap": 8.0}, {"z_loss": 0.03}
TOTAL = {"reduction": "sum"}
UP, WEIGHTS = ("upstream",), ("class_weights",)


def in_quarters(d: Data, *, mean: bool) -> Array:
    """Return the gradient of four micro-batches of the same size."""
    quarter = len(d.z) // 4
    return micro(d, [quarter, 2 * quarter, 3 * quarter], mean=mean)


def scratched(d: Data, by: float) -> Array:
    """Return the gradient with the losses of the rows in the first entries of its buffer."""
    out = d.right.copy()
    losses = -(d.y * (d.z - d.lse)).sum(axis=1) * ~d.ignored
    out.reshape(-1)[: len(losses)] = losses / by
    return out


def uneven(d: Data) -> Array:
    """Return the gradient of four micro-batches of different sizes, averaged."""
    return micro(d, [10, 25, 40], mean=True)


def misread(d: Data) -> Array:
    """Return the gradient with labels that have nothing to do with the right ones."""
    classes = d.z.shape[1]
    read = (d.labels * 7 + np.arange(len(d.z)) * 5) % classes
    wrong: Array = d.v * (d.a - np.eye(classes)[read]) / d.n
    return wrong


def bare(d: Data) -> Array:
    """Return the gradient whose ignored rows hold a."""
    return np.where(d.v > 0, d.right, d.a / d.n)


def leaking(d: Data) -> Array:
    """Return the smoothed gradient whose ignored rows hold the smoothing alone."""
    classes = d.z.shape[1]
    return np.where(d.v > 0, smoothed(d, 0.1, 0.1 / classes), 0.1 * (d.a - 1 / classes) / d.n)


def over_others(d: Data, e: float) -> Array:
    """Return the gradient with e spread over the other classes."""
    each = e / (d.z.shape[1] - 1)
    return smoothed(d, e, each, 1.0 - e - each)


def by_row(d: Data) -> Array:
    """Return the weighted gradient with weights that are indexed by the row."""
    read = d.weights[np.arange(len(d.z)) % d.z.shape[1]][:, None]
    wrong: Array = d.v * read * (d.a - d.y) / (d.v * d.w).sum()
    return wrong


def cap_last(d: Data) -> Array:
    """Return the gradient of logits divided by 2.5 and capped at 8 then."""
    bent = np.tanh(d.z / 20)
    wrong: Array = d.v * (softmax(8 * bent) - d.y) / d.n * (1 - bent**2) / 2.5
    return wrong


def capped_otherwise(d: Data, c: float, *, own: bool) -> Array:
    """Return the gradient of z tanh(z/c), with its own derivative or without any."""
    bent = np.tanh(d.z / c)
    slope = bent + d.z / c * (1 - bent**2)
    wrong: Array = d.v * (softmax(d.z * bent) - d.y) / d.n * (slope if own else 1.0)
    return wrong


def capped_lanes(d: Data, c: float, lanes: int) -> Array:
    """Return the gradient of capped logits whose denominators hold so many exp(-c) too many."""
    v, slope = c * np.tanh(d.z / c), capped(d, c)[1]
    total = np.exp(v).sum(axis=1, keepdims=True) + lanes * np.exp(-c)
    wrong: Array = d.v * (np.exp(v) / total - d.y) / d.n * slope
    return wrong


def local_smoothing(d: Data, e: float, *, whole: bool) -> Array:
    """Return the gradient smoothed over half of the classes; `whole`: targets are known to sum to more."""
    classes = d.z.shape[1] // 2
    each = e / (classes - 1)
    q = each + (1 - e - each) * d.y
    wrong: Array = d.v * (d.a * (q.sum(axis=1, keepdims=True) if whole else 1.0) - q) / d.n
    return wrong


def z_weighted(d: Data, by: Array, divisor: float) -> Array:
    """Return the weighted gradient with a z-loss of 0.03 that is weighted and divided so."""
    wrong: Array = weighted(d) + d.v * 0.06 * d.lse * d.a * by / divisor
    return wrong


def padding(d: Data) -> bool:
    """Tell whether rows are ignored."""
    return bool(d.ignored.any())


def uneven_weights(d: Data) -> bool:
    """Tell whether the class weights differ."""
    return bool(np.ptp(d.weights) > 0)


def overflows(d: Data) -> bool:
    """Tell whether float32 exponentials overflow."""
    return bool(d.z.max() > 89.0)


PLANTS = (
    Plant(("sum-for-mean",), lambda d: d.right * d.n),
    Plant(("mean-for-sum",), lambda d: d.right, {"reduction": "sum"}),
    Plant(("mean-over-all-rows",), lambda d: d.right * d.n / len(d.z), needs=padding),
    Plant(("mean-over-valid-rows",), lambda d: d.right, {"reduction": "full"}, needs=padding),
    Plant(("averaged-twice",), lambda d: d.right / d.n),
    Plant(("mean-over-elements",), lambda d: d.right / d.z.shape[1]),
    Plant(("mean-of-means",), lambda d: in_quarters(d, mean=True), needs=padding),
    Plant(("mean-of-means",), uneven, name="unequal means", needs=padding),
    Plant(("sum-of-means",), lambda d: micro(d, [len(d.z) // 2], mean=False), needs=padding),
    Plant(("loss-scale-not-removed",), lambda d: d.right * 2.0**13),
    Plant(("accumulated",), lambda d: d.right * 3),
    Plant(("divided-by-parts",), lambda d: d.right / 7),
    Plant(("clipped",), lambda d: d.right * 0.05 / np.linalg.norm(d.right)),
    Plant(("sign-flipped",), lambda d: -d.right),
    Plant(("upstream-ignored",), lambda d: d.v * (d.a - d.y), NONE, UP),
    Plant(("upstream-first-row-only",), lambda d: d.v * (d.a - d.y) * d.upstream[0], NONE, UP),
    Plant(("upstream-applied-twice",), lambda d: d.v * (d.a - d.y) * d.upstream[:, None] ** 2, NONE, UP),
    Plant(("onehot-not-subtracted",), lambda d: d.v * d.a / d.n),
    Plant(("label-off-by-one",), lambda d: d.v * (d.a - np.roll(d.y, 1, axis=1)) / d.n),
    Plant(("label-off-by-one",), lambda d: d.v * (d.a - np.roll(d.y, -1, 1)) / d.n, name="label less one"),
    Plant(("label-shifted",), lambda d: shifted(d, 1)),
    Plant(("label-shifted",), lambda d: shifted(d, -1), name="label of the next row"),
    Plant(("label-misread",), misread),
    Plant(("class-ignored",), lambda d: d.right * (d.labels != d.labels[3])[:, None]),
    Plant(("ignored-rows-not-zeroed",), lambda d: (d.a - d.y) / d.n, needs=padding),
    Plant(("ignored-rows-not-zeroed",), bare, name="no one-hot", needs=padding),
    Plant(("smoothing-leaks-into-ignored-rows",), leaking, SMOOTH, needs=padding),
    Plant(("zloss-on-ignored-rows",), lambda d: d.right + 0.06 * d.lse * d.a / d.n, LOSS_Z, needs=padding),
    Plant(("smoothing-missing",), lambda d: d.right, SMOOTH),
    Plant(("smoothing-applied",), lambda d: smoothed(d, 0.2, 0.2 / d.z.shape[1])),
    Plant(("smoothing-over-others",), lambda d: over_others(d, 0.1), SMOOTH),
    Plant(("smoothing-mass-wrong",), lambda d: d.v * (d.a - 0.9 * d.y - 1 / d.z.shape[1]) / d.n, SMOOTH),
    Plant(("weights-missing",), lambda d: d.right, {}, WEIGHTS),
    Plant(("weights-applied-twice",), lambda d: weighted(d) * d.w, {}, WEIGHTS),
    Plant(("weights-by-row",), by_row, {}, WEIGHTS),
    Plant(("weights-per-column",), lambda d: d.v * d.weights * (d.a - d.y) / (d.v * d.w).sum(), {}, WEIGHTS),
    Plant(("weights-not-normalised",), lambda d: d.v * d.w * (d.a - d.y) / d.n, {}, WEIGHTS),
    Plant(("temperature-missing",), lambda d: d.right, TEMPERED),
    Plant(("temperature-chain-missing",), lambda d: d.v * (softmax(d.z / 2.5) - d.y) / d.n, TEMPERED),
    Plant(("distillation-factor",), lambda d: d.v * (softmax(d.z / 2.5) - d.y) / d.n * 2.5, TEMPERED),
    Plant(("temperature-applied",), lambda d: d.v * (softmax(d.z / 1.5) - d.y) / d.n / 1.5),
    Plant(("softcap-missing",), lambda d: d.right, CAPPED),
    Plant(("softcap-applied",), lambda d: d.v * (capped(d, 10.0)[0] - d.y) * capped(d, 10.0)[1] / d.n),
    Plant(("softcap-derivative-missing",), lambda d: d.v * (capped(d, 8.0)[0] - d.y) / d.n, CAPPED),
    Plant(("softcap-after-temperature",), cap_last, {**CAPPED, **TEMPERED}),
    Plant(("zloss-missing",), lambda d: d.right, LOSS_Z),
    Plant(("zloss-factor",), lambda d: d.right + d.v * 0.03 * d.lse * d.a / d.n, LOSS_Z),
    Plant(("zloss-weighted",), lambda d: z_weighted(d, d.w, d.n), LOSS_Z, WEIGHTS, needs=uneven_weights),
    Plant(
        ("zloss-weighted",), lambda d: z_weighted(d, d.w, (d.v * d.w).sum()), LOSS_Z, WEIGHTS,
        name="a weighted mean of the z-loss", needs=uneven_weights,
    ),
    Plant(
        ("zloss-weighted",), lambda d: z_weighted(d, np.ones_like(d.w), (d.v * d.w).sum()), LOSS_Z, WEIGHTS,
        name="z-loss over the sum of weights", needs=uneven_weights,
    ),
    Plant(("softcap-misapplied",), lambda d: capped_otherwise(d, 8.0, own=True), CAPPED),
    Plant(
        ("softcap-misapplied",), lambda d: capped_otherwise(d, 8.0, own=False), CAPPED,
        name="a wrong softcap without slope",
    ),
    Plant(
        ("smoothing-mass-wrong",), lambda d: local_smoothing(d, 0.1, whole=False), SMOOTH,
        name="smoothing of a shard",
    ),
    Plant(
        ("smoothing-mass-wrong",), lambda d: local_smoothing(d, 0.1, whole=True), SMOOTH,
        name="smoothing of a shard, summed",
    ),
    Plant(("zloss-applied",), lambda d: d.right + d.v * 0.02 * d.lse * d.a / d.n),
    Plant(("wrong-axis",), lambda d: d.v * (softmax(d.z, 0) - d.y) / d.n),
    Plant(("sigmoid-for-softmax",), lambda d: d.v * (1 / (1 + np.exp(-d.z)) - d.y) / d.n),
    Plant(("padded-lanes",), lambda d: padded(d, 4)),
    Plant(
        ("padded-lanes",), lambda d: capped_lanes(d, 3.0, 4), {"softcap": 3.0}, name="capped lanes",
        needs=lambda d: d.z.shape[1] < 64,
    ),
    Plant(("local-denominator",), lambda d: sharded(d, 2)),
    Plant(("denominator-reduced-twice",), lambda d: d.v * (d.a / 4 - d.y) / d.n),
    Plant(("no-max-subtraction",), overflowed, needs=overflows),
    Plant(("diagonal-jacobian",), lambda d: -d.v * d.y * (1 - d.a) / d.n),
    Plant(("missing-dot-term",), lambda d: -d.v * d.y / d.n),
    Plant(("dot-over-batch",), lambda d: d.v * (d.n * d.a - d.y) / d.n),
    Plant(("dot-without-probs",), lambda d: d.v * (d.a * (d.y / d.a).sum(axis=1, keepdims=True) - d.y) / d.n),
    Plant(("log-softmax-confused",), lambda d: d.v * vjp(d.a, -d.y) / d.n),
    Plant(("double-softmax",), lambda d: d.v * vjp(d.a, softmax(d.a) - d.y) / d.n),
    Plant(("jacobian-applied-twice",), lambda d: d.v * vjp(d.a, d.a - d.y) / d.n),
    Plant(("probs-gradient",), lambda d: -d.v * d.y / d.a / d.n),
    Plant(("probs-exported",), lambda d: d.a),
    Plant(("logits-exported",), lambda d: d.z),
    Plant(("stale-rows",), lambda d: ahead(d, 3), name="rows of an older buffer"),
    Plant(("stale-rows",), lambda d: unwritten(d, 3), name="rows of zeros"),
    Plant(("tail-columns",), lambda d: tail(d, 3)),
    Plant(("losses-in-gradient",), lambda d: scratched(d, 1.0), name="losses"),
    Plant(("losses-in-gradient",), lambda d: scratched(d, d.n), name="losses over their number"),
    Plant(("all-zero",), lambda d: np.zeros_like(d.right)),
    Plant(("small-entries-dropped",), lambda d: np.where(np.abs(d.right) < 3e-4, 0.0, d.right)),
    Plant(("transposed",), lambda d: d.right.T.reshape(d.z.shape)),
    Plant(("sum-for-mean", "smoothing-missing"), lambda d: d.right * d.n, SMOOTH),
    Plant(("upstream-ignored", "ignored-rows-not-zeroed"), lambda d: d.a - d.y, NONE, UP, needs=padding),
    Plant(("sum-for-mean", "onehot-not-subtracted"), lambda d: d.v * d.a, same="probs-exported"),
    Plant(("loss-scale-not-removed", "tail-columns"), lambda d: tail(d, 3) * 2.0**16),
    Plant(("temperature-missing", "smoothing-missing"), lambda d: d.right, {**TEMPERED, **SMOOTH}),
    Plant(("sum-for-mean", "label-shifted"), lambda d: shifted(d, 1) * d.n),
    Plant(
        ("mean-for-sum", "weights-missing"), lambda d: d.right, TOTAL, WEIGHTS, same="mean-for-sum",
    ),
)  # fmt: skip
