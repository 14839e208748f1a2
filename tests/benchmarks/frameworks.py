"""Put gradients that PyTorch's autograd made before softgrad: right ones must pass, wrong ones fail.

Run where torch is installed:  python tests/benchmarks/frameworks.py [--configurations 200] [--seed 0]

Random configurations of the cross-entropy (sizes, scales, conventions) are put through autograd in each
dtype, saved as an exporter would save them, and checked in process. A *way* is how the gradient was made:

    float64, float32             computed and stored in that dtype
    bfloat16, float16            natively: the loss of a half-precision tensor
    float32→bfloat16, →float16   computed in float32, rounded once

Every export is right, so each one that does not pass is a false alarm, with one exception that is counted
apart: native half arithmetic that really lost more than a sixth of a row's largest gradient (measured
against autograd in float64, not against softgrad's bounds) ought to be refused.

Then one entry is changed, by the share in `PLANTED`, and the file must fail. A change that passes is put
down to what hides it: the compute model's own resolution, native half's allowance, or nothing known.

Exit code 1 when a right export did not pass, or a planted change passed for no known reason.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from gradcheck_cli.check import check
from gradcheck_cli.errors import SoftgradError
from gradcheck_cli.exports import Scalar
from gradcheck_cli.numeric.precision import BY_NAME, FLOAT32, Precision
from gradcheck_cli.outcome import Check, Outcome, Verdict
from gradcheck_cli.settings import Settings
from gradcheck_cli.tensors import Tensor, open_tensor

torch: Any = importlib.import_module("torch")
functional: Any = importlib.import_module("torch.nn.functional")

Array = npt.NDArray[Any]

PLANTED = {"float64": 1e-9, "float32": 0.002, "float16": 0.01, "bfloat16": 0.06}
"""Share by which one entry is changed, by the dtype it is stored in."""
LOST = 1.0 / 6.0
"""Share of a row's largest gradient beyond which native half arithmetic has lost it."""
RESOLUTION = 8.0
"""Units of (Q a + q) below which a change drowns in the subtraction of a right float32 kernel."""
WORST_LOOKED_AT = 200
PLACES = ("largest", "random")
EXTRAS = ("loss", "log-probs", "probs")
UNEXPLAINED = "no known reason"


# ---- configurations ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Way:
    """How an exporter makes its gradient: the dtype it computes in, and the one it stores."""

    name: str
    compute: str
    stored: str

    @property
    def native(self) -> bool:
        """Whether all arithmetic is in a 16-bit format."""
        return self.compute in ("float16", "bfloat16")


WAYS = (
    Way("float64", "float64", "float64"),
    Way("float32", "float32", "float32"),
    Way("bfloat16", "bfloat16", "bfloat16"),
    Way("float32→bfloat16", "float32", "bfloat16"),
    Way("float16", "float16", "float16"),
    Way("float32→float16", "float32", "float16"),
)


@dataclass(frozen=True, eq=False)
class Configuration:
    """One loss: numbers in float64, before they are rounded to the dtype of a way."""

    number: int
    logits: Array  # (N, K) or (N, K, H, W)
    targets: Array  # (N,) or (N, H, W) int64, or the logits' shape
    upstream: Any  # a number, or one for each row
    weights: Array | None
    reduction: str
    ignore_index: int
    smoothing: float
    temperature: float
    softcap: float | None
    z_loss: float
    extras: tuple[str, ...]  # exported besides the gradient
    words: str

    @property
    def soft(self) -> bool:
        """Whether the targets are distributions."""
        return self.targets.dtype.kind == "f"


def configuration(seed: int, number: int) -> Configuration:
    """Return the random configuration of this number."""
    rng = np.random.default_rng([seed, number])
    shape = _shape(rng)
    outer, classes = (shape[0], *shape[2:]), shape[1]
    scale = float(np.exp(rng.uniform(np.log(0.1), np.log(30.0))))
    offset = float(rng.choice([0.0, 0.0, 0.0, 1e3, -1e3]))
    logits = rng.normal(0.0, scale, shape)
    labels = rng.integers(0, classes, outer)
    confident = float(rng.choice([0.0, 0.0, 0.3, 1.0]))
    _make_confident(rng, logits, labels, confident)
    logits += offset
    soft = rng.random() < 0.2
    ignore_index = int(rng.choice([-100, 255, 0, classes - 1]))
    ignored = 0.0 if soft else float(rng.choice([0.0, 0.3]))
    targets = _distributions(rng, shape) if soft else _ignoring(rng, labels, ignore_index, ignored, classes)
    composed = rng.random() < 0.3
    reduction = str(rng.choice(["mean", "sum", "none"]))
    kind = str(rng.choice(["one", "scale", "rows"]))
    upstream = {"one": 1.0, "scale": 2.0 ** int(rng.integers(-6, 13)), "rows": rng.normal(size=outer)}[kind]
    smoothing = float(rng.choice([0.0, 0.0, 0.1, rng.uniform(0.0, 0.9)]))
    weights = rng.uniform(0.1, 4.0, classes) if rng.random() < 0.25 else None
    temperature = float(rng.uniform(0.5, 4.0)) if composed and rng.random() < 0.5 else 1.0
    softcap = float(rng.uniform(2.0, 50.0)) if composed and rng.random() < 0.5 else None
    z_loss = float(10.0 ** rng.uniform(-5, -1)) if composed and rng.random() < 0.5 else 0.0
    extras = tuple(name for name in EXTRAS if rng.random() < 0.25)
    words = (
        f"#{number} shape {shape}, scale {scale:.3g}, offset {offset:g}, confident {confident:g}, "
        f"{'soft' if soft else f'labels ({ignored:g} ignored as {ignore_index})'}, {reduction}, "
        f"upstream {upstream if kind != 'rows' else 'per row'}, smoothing {smoothing:.3g}, "
        f"{'weights' if weights is not None else 'no weights'}, T {temperature:.3g}, "
        f"softcap {softcap or 0:.3g}, z-loss {z_loss:.2g}"
    )
    return Configuration(
        number, logits, targets, upstream, weights, reduction, ignore_index, smoothing, temperature, softcap,
        z_loss, extras, words,
    )  # fmt: skip


def _shape(rng: np.random.Generator) -> tuple[int, ...]:
    """Return (N, K), occasionally (N, K, H, W), with up to 200 rows and 2000 classes."""

    def spread(low: int, high: int) -> int:
        return int(np.exp(rng.uniform(np.log(low), np.log(high + 1))))

    if rng.random() < 0.15:
        return spread(1, 8), spread(2, 200), spread(1, 5), spread(1, 5)
    return spread(1, 200), spread(2, 2000)


def _make_confident(rng: np.random.Generator, logits: Array, labels: Array, share: float) -> None:
    """Raise one class of a share of the rows above all others: mostly the label, sometimes another."""
    rows = np.moveaxis(logits, 1, -1)
    for place in np.argwhere(rng.random(labels.shape) < share):
        at = tuple(place)
        winner = labels[at] if rng.random() < 0.8 else rng.integers(0, logits.shape[1])
        rows[(*at, winner)] = rows[at].max() + rng.uniform(2.0, 40.0)


def _distributions(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """Return target distributions over axis 1: most sum to 1, some do not."""
    t: Array = rng.gamma(float(rng.choice([0.1, 1.0])), size=shape) + 1e-12
    t /= t.sum(axis=1, keepdims=True)
    t *= 1.0 if rng.random() < 0.7 else rng.uniform(0.3, 1.5)
    return t


def _ignoring(rng: np.random.Generator, labels: Array, index: int, share: float, classes: int) -> Array:
    """Return the labels with a share of the rows ignored, but not all of them."""
    labels = np.where(labels == index, (index + 1) % classes, labels)
    first = labels.flat[0]
    labels[rng.random(labels.shape) < share] = index
    labels.flat[0] = first
    return labels


# ---- the exporter -----------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Export:
    """What one way made of a configuration: tensors by the role they play in a check."""

    tensors: dict[str, Any]  # torch tensors, or a float: upstream
    settings: dict[str, Any]


def export(c: Configuration, way: Way) -> Export:
    """Return the gradient that autograd computes, what it was computed from, and the extras."""
    exact = _rounded_inputs(c, way)
    given = {name: _to(each, way.compute) for name, each in exact.items()}
    z = given["logits"].detach().requires_grad_(requires_grad=True)
    row_or_total, loss = _losses(c, z, given)
    row_or_total.backward(_seed(c, row_or_total, given["upstream"]))
    made = {"grad": z.grad}
    with torch.no_grad():
        v = _link(c, z)
        made["log-probs"] = torch.log_softmax(v, dim=1)
        made["probs"] = torch.softmax(v, dim=1)
    made["loss"] = loss.detach()
    kept = {
        name: _to(each, way.stored)
        for name, each in made.items()
        if name == "grad" or (name in c.extras and bool(torch.isfinite(_to(each, way.stored)).all()))
    }
    options = {
        "reduction": c.reduction,
        **({} if c.soft else {"ignore_index": c.ignore_index}),
        "label_smoothing": c.smoothing,
        "temperature": c.temperature,
        "softcap": c.softcap,
        "z_loss": c.z_loss,
        "axis": 1,
        "threads": 1,
    }
    return Export({**{k: v for k, v in exact.items() if v is not None}, **kept}, options)


def _rounded_inputs(c: Configuration, way: Way) -> dict[str, Any]:
    """Return what the exporter is given: logits rounded to the stored dtype, the rest to the computed."""
    compute = getattr(torch, way.compute)
    return {
        "logits": torch.tensor(c.logits).to(getattr(torch, way.stored)),
        "labels": torch.tensor(c.targets).to(compute) if c.soft else torch.tensor(c.targets),
        "class-weights": None if c.weights is None else torch.tensor(c.weights).to(compute),
        "upstream": c.upstream if isinstance(c.upstream, float) else torch.tensor(c.upstream).to(compute),
    }


def _to(x: Any, dtype: str) -> Any:
    """Return a floating tensor in this dtype; labels, numbers and None as they are."""
    if not isinstance(x, torch.Tensor) or not x.is_floating_point():
        return x
    return x.to(getattr(torch, dtype))


def _link(c: Configuration, z: Any) -> Any:
    """Return what softmax is taken of."""
    if c.softcap is not None:
        z = c.softcap * torch.tanh(z / c.softcap)
    return z if c.temperature == 1.0 else z / c.temperature


def _losses(c: Configuration, z: Any, given: Mapping[str, Any]) -> tuple[Any, Any]:
    """Return what is differentiated (rows or a sum, upstream per row multiplied in) and the stated loss."""
    v, labels, weights = _link(c, z), given["labels"], given["class-weights"]
    ignoring = {} if c.soft else {"ignore_index": c.ignore_index}

    def entropy(reduction: str) -> Any:
        return functional.cross_entropy(
            v, labels, weight=weights, reduction=reduction, label_smoothing=c.smoothing, **ignoring
        )

    counted = torch.ones(z.shape[:1] + z.shape[2:], dtype=z.dtype)
    if not c.soft:
        counted = (labels != c.ignore_index).to(z.dtype)
    squares = c.z_loss * torch.logsumexp(v, dim=1) ** 2 * counted if c.z_loss else None
    rows_counted = float(counted.double().sum())
    divisor, z_divisor = (_divisor(c, weights), rows_counted) if c.reduction == "mean" else (1.0, 1.0)
    plain = entropy(c.reduction)
    if squares is not None:
        plain = plain + (squares if c.reduction == "none" else squares.sum() / z_divisor)
    if isinstance(given["upstream"], float) or c.reduction == "none":
        return plain, plain
    weighted = (given["upstream"] * entropy("none")).sum() / divisor
    if squares is not None:
        weighted = weighted + (given["upstream"] * squares).sum() / z_divisor
    return weighted, plain


def _divisor(c: Configuration, weights: Any) -> float:
    """Return what the mean divides by."""
    if c.soft:
        return float(c.targets.size // c.targets.shape[1])
    valid = c.targets != c.ignore_index
    if weights is None:
        return float(valid.sum())
    return float(weights.double().numpy()[c.targets[valid]].sum())


def _seed(c: Configuration, out: Any, upstream: Any) -> Any:
    """Return the gradient that backward starts from."""
    if isinstance(upstream, float):
        return torch.full_like(out, upstream)
    return upstream if c.reduction == "none" else torch.ones_like(out)


# ---- softgrad ---------------------------------------------------------------------------------------------


def to_numpy(tensor: Any) -> Array:
    """Return the array an exporter would save: bfloat16 arrives as two opaque bytes."""
    bits: Array
    if tensor.dtype is torch.bfloat16:
        bits = tensor.contiguous().view(torch.int16).numpy()
        return bits.view("V2")
    bits = tensor.numpy()
    return bits


@contextlib.contextmanager
def opened(made: Export, folder: Path) -> Iterator[tuple[dict[str, Tensor], dict[str, Scalar]]]:
    """Save the tensors to files and open those: tensors and numbers by role."""
    scalars = {k: Scalar.parse(repr(v), None) for k, v in made.tensors.items() if isinstance(v, float)}
    with contextlib.ExitStack() as stack:
        tensors = {}
        for role, tensor in made.tensors.items():
            if role in scalars:
                continue
            path = folder / f"{role}.npy"
            np.save(path, to_numpy(tensor))
            tensors[role] = stack.enter_context(open_tensor(str(path), role=role))
        yield tensors, scalars


def judge(made: Export, folder: Path, **settings: Any) -> Outcome:
    """Return what softgrad says about the export."""
    with opened(made, folder) as (tensors, scalars):
        return check(tensors, scalars, Settings(**made.settings, **settings))


# ---- a planted change -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Plant:
    """One entry of a right gradient, changed."""

    place: str  # largest, random
    index: tuple[int, ...]
    before: float
    after: float


def plants(c: Configuration, way: Way, gradient: Any, seed: int) -> list[Plant]:
    """Return a change of one row's largest entry and one of a random entry, both normal numbers."""
    rng = np.random.default_rng([seed, c.number, 1])
    values = gradient.double().numpy()
    normal = np.abs(values) >= BY_NAME[way.stored].smallest_normal * 2.0
    if not normal.any():
        return []
    found = []
    somewhere = np.argwhere(normal)
    row = somewhere[rng.integers(len(somewhere))]
    line = np.abs(values[row[0], :, *row[2:]])
    chosen = {
        "largest": (row[0], int(line.argmax()), *row[2:]),
        "random": tuple(somewhere[rng.integers(len(somewhere))]),
    }
    for place, at in chosen.items():
        index = tuple(int(i) for i in at)
        before = float(values[index])
        share = PLANTED[way.stored] * (1.0 if rng.random() < 0.5 else -1.0)
        after = float(torch.tensor(before * (1.0 + share), dtype=torch.float64).to(gradient.dtype))
        found.append(Plant(place, index, before, after))
    return found


def replaced(made: Export, plant: Plant, value: float) -> Export:
    """Return the export with another value in the plant's place, and without the extras."""
    gradient = made.tensors["grad"].clone()
    gradient[plant.index] = value
    kept = {role: each for role, each in made.tensors.items() if role not in EXTRAS}
    return Export({**kept, "grad": gradient}, made.settings)


@dataclass(frozen=True)
class Miss:
    """A change that passed, with what softgrad allowed and what hides the change."""

    way: str
    model: str
    configuration: str
    plant: Plant
    expected: float
    allowed: float
    cause: str


def explain(c: Configuration, way: Way, made: Export, plant: Plant, folder: Path, *, model: str) -> Miss:
    """Return why a change passed: what is allowed there, and which source of error is as large."""
    chosen = {} if model == "default" else {"compute_dtype": model}
    worst = grad_check(judge(replaced(made, plant, np.inf), folder, **chosen)).worst[0]
    assert worst.index == plant.index
    change = abs(plant.after - plant.before)
    cause = _hidden_by(c, made, plant, change, FLOAT32 if way.native else BY_NAME[way.compute])
    by_half = cause is UNEXPLAINED and BY_NAME[way.stored].half and model == "default"
    if by_half and grad_check(judge(made, folder, compute_dtype="float32")).verdict is Verdict.FAIL:
        cause = "native half's allowance"
    return Miss(way.name, model, c.words, plant, worst.expected, worst.allowed, cause)


def _hidden_by(c: Configuration, made: Export, plant: Plant, change: float, compute: Precision) -> str:
    """Return what in right arithmetic of this precision may be as large as the change.

    Each source is the size of the terms that cancel in the entry times so many units: a confident row's
    label entry is p - 1, and every error of p counts in full.
    """
    u, classes, seen = compute.unit, c.logits.shape[1], anatomy(c, made, plant.index)
    capped, linked = c.softcap is not None, c.softcap is not None or c.temperature != 1.0
    sources = {
        "resolution of Q a - q": RESOLUTION * u * seen.terms,
        "exponentials flushed to zero": 4.0
        * compute.smallest_normal
        * (1.0 + seen.scale * (1.0 + classes * seen.a)),
        "slope of the softcap as 1 - tanh²": 12.0 * u * seen.unbent if capped else 0.0,
        "rounding of the capped or tempered logits": 16.0 * u * seen.reach * seen.terms if linked else 0.0,
        "exp and log of a saturated p": 32.0 * u * seen.terms,
        "sum of K terms in any order": (classes + 32.0) * u * seen.terms,
        "rounding of logsumexp": 4.0 * u * (1.0 + seen.reach) * seen.terms,
    }
    hidden = (f"{compute.name} {name}" for name, size in sources.items() if change <= size)
    return next(hidden, UNEXPLAINED)


@dataclass(frozen=True)
class Anatomy:
    """What an entry s (Q a - q) + zeta a is made of, worked out in float64 without softgrad."""

    a: float
    scale: float  # |s| Q + |zeta|
    terms: float  # |s| (Q a + q) + |zeta| a, times the slope: what cancels
    unbent: float  # the same without the slope of a softcap
    reach: float  # largest |v| of the row


def anatomy(c: Configuration, made: Export, index: tuple[int, ...]) -> Anatomy:
    """Return what the gradient's entry is made of."""
    outer, column, classes = (index[0], *index[2:]), index[1], c.logits.shape[1]
    z = made.tensors["logits"].double().numpy()[index[0], :, *index[2:]]
    weights = np.ones(classes) if c.weights is None else made.tensors["class-weights"].double().numpy()
    t = made.tensors["labels"].double().numpy()[index[0], :, *index[2:]] if c.soft else np.zeros(classes)
    if not c.soft:
        t[c.targets[outer]] = 1.0
    q = weights * ((1.0 - c.smoothing) * t + c.smoothing / classes)
    v = (z if c.softcap is None else c.softcap * np.tanh(z / c.softcap)) / c.temperature
    lse = v.max() + np.log(np.exp(v - v.max()).sum())
    a = float(np.exp(v - lse)[column])
    slope = 1.0 if c.softcap is None else float(1.0 / np.cosh(z[column] / c.softcap) ** 2)
    upstream = c.upstream if isinstance(c.upstream, float) else float(c.upstream[outer])
    mean = c.reduction == "mean"
    counted = c.targets.size // (classes if c.soft else 1) if c.soft else (c.targets != c.ignore_index).sum()
    s = abs(upstream) / (_divisor(c, made.tensors.get("class-weights")) if mean else 1.0) / c.temperature
    zeta = 2.0 * c.z_loss * abs(lse) * abs(upstream) / (counted if mean else 1.0) / c.temperature
    terms = s * (q.sum() * a + q[column]) + zeta * a
    return Anatomy(a, s * q.sum() + zeta, terms * slope, terms, float(np.abs(v).max()))


def grad_check(outcome: Outcome) -> Check:
    """Return the check of the gradient alone."""
    (found,) = [each for each in outcome.checks if each.name == "grad"]
    return found


# ---- the tally --------------------------------------------------------------------------------------------


@dataclass
class Tally:
    """What was seen on one way."""

    exports: int = 0
    false_alarms: list[dict[str, Any]] = field(default_factory=list)
    lost: list[dict[str, Any]] = field(default_factory=list)
    margins: list[float] = field(default_factory=list)
    planted: dict[str, int] = field(default_factory=dict)
    caught: dict[str, int] = field(default_factory=dict)
    misses: list[Miss] = field(default_factory=list)


def examine(c: Configuration, way: Way, tally: Tally, folder: Path, seed: int) -> None:
    """Check one configuration on one way: as it is, then with one entry changed."""
    made = export(c, way)
    if not bool(torch.isfinite(made.tensors["grad"]).all()):
        return  # overflow in half precision: nothing right was exported
    tally.exports += 1
    try:
        outcome = judge(made, folder, top=WORST_LOOKED_AT)
    except SoftgradError as refused:
        tally.false_alarms.append({"configuration": c.words, "check": "refused", "message": str(refused)})
        return
    gradient = grad_check(outcome)
    if outcome.verdict is not Verdict.PASS:
        _alarm(c, way, made, outcome, tally)
    if gradient.verdict is not Verdict.PASS:
        return
    tally.margins.append(gradient.max_margin)
    models = ["default"]
    if BY_NAME[way.stored].half and not way.native:
        models.append("float32")
    for plant in plants(c, way, made.tensors["grad"], seed):
        wrong = replaced(made, plant, plant.after)
        for model in models:
            settings = {} if model == "default" else {"compute_dtype": model}
            key = f"{model} {plant.place}"
            caught = grad_check(judge(wrong, folder, **settings)).verdict is Verdict.FAIL
            tally.planted[key] = tally.planted.get(key, 0) + 1
            tally.caught[key] = tally.caught.get(key, 0) + caught
            if not caught:
                tally.misses.append(explain(c, way, wrong, plant, folder, model=model))


def _alarm(c: Configuration, way: Way, made: Export, outcome: Outcome, tally: Tally) -> None:
    """Enter each check that did not pass: lost by native half arithmetic, or a false alarm."""
    for each in outcome.checks:
        unjudged = each.exported and not each.failing  # softgrad's own check failed, and stands here itself
        if each.verdict is Verdict.PASS or unjudged:
            continue
        seen = {
            "configuration": c.words,
            "check": each.name,
            "verdict": each.verdict,
            "failing": each.failing,
            "entries": each.entries,
            "margin": each.max_margin,
            "worst": [asdict(entry) for entry in each.worst[:3]],
        }
        really = way.native and _lost(c, made, each)
        (tally.lost if really else tally.false_alarms).append(seen)


def _lost(c: Configuration, made: Export, found: Check) -> bool:
    """Tell whether each failing entry is off by over a sixth of its row's largest, by float64 autograd."""
    known = {name: made.tensors.get(name) for name in ("logits", "labels", "class-weights", "upstream")}
    given = {name: _to(each, "float64") for name, each in known.items()}
    z = given["logits"].detach().requires_grad_(requires_grad=True)
    total, _ = _losses(c, z, given)
    total.backward(_seed(c, total, given["upstream"]))
    with torch.no_grad():
        truths = {"grad": z.grad, "probs": torch.softmax(_link(c, z), dim=1)}
    if found.name not in truths:
        return False
    truth, got = truths[found.name].numpy(), made.tensors[found.name].double().numpy()
    return all(
        abs(got[w.index] - truth[w.index]) > LOST * np.abs(truth[w.index[0], :, *w.index[2:]]).max()
        for w in found.worst
        if w.margin > 1.0
    )


def table(tallies: Mapping[str, Tally]) -> str:
    """Return the table: one line for each way."""
    lines = [
        f"{'way':<18}{'exports':>8}{'false':>7}{'lost':>6}{'margin':>9}{'max':>7}"
        f"{'planted':>9}{'largest':>10}{'random':>10}{'f32 largest':>13}{'f32 random':>12}"
    ]
    for way in WAYS:
        t = tallies[way.name]
        middle, most = (float(np.median(t.margins)), max(t.margins)) if t.margins else (0.0, 0.0)
        keys = [f"{model} {place}" for model in ("default", "float32") for place in PLACES]
        cells = [f"{t.caught[key]}/{t.planted[key]}" if key in t.planted else "-" for key in keys]
        lines.append(
            f"{way.name:<18}{t.exports:>8}{len(t.false_alarms):>7}{len(t.lost):>6}{middle:>9.3f}{most:>7.3f}"
            f"{PLANTED[way.stored]:>9.1g}{cells[0]:>10}{cells[1]:>10}{cells[2]:>13}{cells[3]:>12}"
        )
    return "\n".join(lines)


def details(tallies: Mapping[str, Tally]) -> str:
    """Return each false alarm and each miss, one line or two, and how many misses each cause has."""
    lines = []
    for name, t in tallies.items():
        for kind, seen in (("lost", t.lost), ("FALSE ALARM", t.false_alarms)):
            for each in seen:
                lines.append(f"{kind} {name} {each['check']}: {each['configuration']}")
                worst = (each.get("worst") or [None])[0]
                lines.append(f"    {each.get('failing')} of {each.get('entries')} entries, worst {worst}")
        lines.extend(map(_line, t.misses))
    causes = Counter((m.way, m.model, m.plant.place, m.cause) for t in tallies.values() for m in t.misses)
    lines.extend(
        f"{count:>5} missed: {way} ({model}), {place} entry: {cause}"
        for (way, model, place, cause), count in sorted(causes.items())
    )
    return "\n".join(lines)


def _line(miss: Miss) -> str:
    change = abs(miss.plant.after - miss.plant.before)
    return (
        f"miss {miss.way} ({miss.model}), {miss.plant.place} entry {miss.plant.index}: {miss.cause}: "
        f"true {miss.expected:.6g}, {miss.plant.before:.6g} changed by {change:.3g}, "
        f"allowed {miss.allowed:.3g} ({change / miss.allowed:.2f}): {miss.configuration}"
    )


def run(numbers: range, seed: int, ways: tuple[Way, ...]) -> dict[str, Tally]:
    """Return what the configurations of these numbers show on each way."""
    tallies = {way.name: Tally() for way in WAYS}
    with tempfile.TemporaryDirectory(prefix="softgrad-frameworks-") as folder:
        for number in numbers:
            c = configuration(seed, number)
            for way in ways:
                examine(c, way, tallies[way.name], Path(folder), seed)
            if sys.stderr.isatty():
                print(f"\r{number - numbers.start + 1}/{len(numbers)}", end="", file=sys.stderr)
    return tallies


def main() -> int:
    """Print the table and return the exit code."""
    parser = argparse.ArgumentParser(description="softgrad against PyTorch autograd in every dtype.")
    parser.add_argument("--configurations", type=int, default=200, help="how many (default: 200)")
    parser.add_argument("--first", type=int, default=0, help="number of the first one (default: 0)")
    parser.add_argument("--seed", type=int, default=0, help="of the random configurations (default: 0)")
    parser.add_argument("--way", action="append", choices=[way.name for way in WAYS], help="only this way")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything that was seen")
    options = parser.parse_args()
    torch.set_num_threads(1)
    ways = tuple(way for way in WAYS if options.way is None or way.name in options.way)
    numbers = range(options.first, options.first + options.configurations)
    tallies = run(numbers, options.seed, ways)
    if options.json is not None:
        seen = {name: asdict(tally) for name, tally in tallies.items()}
        options.json.write_text(json.dumps(seen, indent=1), encoding="utf-8")
    alarms = sum(len(t.false_alarms) for t in tallies.values())
    unexplained = sum(m.cause == UNEXPLAINED for t in tallies.values() for m in t.misses)
    print(details(tallies))
    print(table(tallies))
    print(f"torch {torch.__version__}: {alarms} false alarms, {unexplained} misses for no known reason")
    return 1 if alarms or unexplained else 0


if __name__ == "__main__":
    sys.exit(main())
