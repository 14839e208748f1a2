"""Put the gradients of PyTorch's autograd before softgrad: are those pass, wrong ones fail.

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
from gradcheck_cli.blocks import Room, work_out
from gradcheck_cli.check import check
from gradcheck_cli.comparisons import Exported
from gradcheck_cli.errors import SoftgradError
from gradcheck_cli.exports import Scalar
from gradcheck_cli.findings import Look
from gradcheck_cli.numeric.precision import BY_NAME, FLOAT32
from gradcheck_cli.outcome import Outcome, Verdict
from gradcheck_cli.problem import Problem, pose
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
    t = rng.gamma(float(rng.choice([0.1, 1.0])), size=shape) + 1e-12
    return t / t.sum(axis=1, keepdims=True) * (1.0 if rng.random() < 0.7 else rng.uniform(0.3, 1.5))


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


def planted(made: Export, plant: Plant) -> Export:
    """Return the export with the change in it."""
    gradient = made.tensors["grad"].clone()
    gradient[plant.index] = plant.after
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
    error: float
    allowed: float
    cause: str


def explain(c: Configuration, way: Way, made: Export, plant: Plant, folder: Path, *, model: str) -> Miss:
    """Return why a change passed: the row is looked at alone, entry by entry."""
    settings = Settings(**made.settings, **({} if model == "default" else {"compute_dtype": model}))
    with opened(made, folder) as (tensors, scalars):
        problem = pose(tensors, scalars, settings)
        expected, error, allowed, terms = _entry(problem, plant)
    change = abs(plant.after - plant.before)
    compute = BY_NAME[way.compute] if not way.native else FLOAT32
    cause = UNEXPLAINED
    if change <= RESOLUTION * compute.unit * terms:
        cause = f"below the {compute.name} resolution of Q a - q"
    elif BY_NAME[way.stored].half and model == "default":
        with_float32 = judge(made, folder, compute_dtype="float32")
        if grad_verdict(with_float32) is Verdict.FAIL:
            cause = "native half's allowance"
        elif change <= 4.0 * BY_NAME[way.stored].unit * terms:
            cause = "below the half resolution of Q a - q"
    return Miss(way.name, model, c.words, plant, expected, error, allowed, cause)


def _entry(problem: Problem, plant: Plant) -> tuple[float, float, float, float]:
    """Return an entry's truth, error and allowance, and the size of the terms that cancel in it."""
    outer = plant.index[:1] + plant.index[2:]
    shape = problem.logits.tensor.shape
    row = int(np.ravel_multi_index(outer, shape[:1] + shape[2:]))
    column = plant.index[1]
    (exported,) = [each for each in problem.exports if each.name == "grad"]
    with np.errstate(all="ignore"):
        block = work_out(problem, row, row + 1, Room.of(problem, 1))
        a, q, by = float(block.f.a[0, column]), block.q, block.by
        weight = float(np.broadcast_to(q.plane(), block.f.a.shape)[0, column])
        weight += float(q.peak[0]) if int(block.f.pivot[0]) == column else 0.0
        terms = abs(float(by.s[0])) * (float(q.mass[0]) * a + weight) + abs(float(by.zeta[0])) * a
        if block.f.slope is not None:
            terms *= float(block.f.slope[0, column])
        look = Look(row, exported.grid, problem.classes)
        finding = Exported(exported, problem.loss).look(block, look)
    (entry,) = [each for each in finding.worst if each.column == column]
    return entry.expected, entry.error, entry.allowed, terms


def grad_verdict(outcome: Outcome) -> Verdict:
    """Return the verdict on the gradient alone."""
    (found,) = [each for each in outcome.checks if each.name == "grad"]
    return found.verdict


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
    (gradient,) = [each for each in outcome.checks if each.name == "grad"]
    if outcome.verdict is not Verdict.PASS:
        _alarm(c, way, made, outcome, tally)
    if gradient.verdict is not Verdict.PASS:
        return
    tally.margins.append(gradient.max_margin)
    models = ["default"]
    if BY_NAME[way.stored].half and not way.native:
        models.append("float32")
    for plant in plants(c, way, made.tensors["grad"], seed):
        wrong = planted(made, plant)
        for model in models:
            settings = {} if model == "default" else {"compute_dtype": model}
            key = f"{model} {plant.place}"
            caught = grad_verdict(judge(wrong, folder, **settings)) is Verdict.FAIL
            tally.planted[key] = tally.planted.get(key, 0) + 1
            tally.caught[key] = tally.caught.get(key, 0) + caught
            if not caught:
                tally.misses.append(explain(c, way, wrong, plant, folder, model=model))


def _alarm(c: Configuration, way: Way, made: Export, outcome: Outcome, tally: Tally) -> None:
    """Enter each check that did not pass: lost by native half arithmetic, or a false alarm."""
    for each in outcome.checks:
        if each.verdict is Verdict.PASS:
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
        really = way.native and each.name == "grad" and _lost(c, made, each.worst)
        (tally.lost if really else tally.false_alarms).append(seen)


def _lost(c: Configuration, made: Export, worst: Any) -> bool:
    """Tell whether each entry shown is off by more than a sixth of its row's largest, by float64 autograd."""
    known = {name: made.tensors.get(name) for name in ("logits", "labels", "class-weights", "upstream")}
    given = {name: _to(each, "float64") for name, each in known.items()}
    z = given["logits"].detach().requires_grad_(requires_grad=True)
    total, _ = _losses(c, z, given)
    total.backward(_seed(c, total, given["upstream"]))
    truth, got = z.grad.numpy(), made.tensors["grad"].double().numpy()
    return all(
        abs(got[w.index] - truth[w.index]) > LOST * np.abs(truth[w.index[0], :, *w.index[2:]]).max()
        for w in worst
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
    """Return each false alarm and each miss in full, and how many misses each cause has."""
    lines = []
    for name, t in tallies.items():
        for each in t.false_alarms:
            worst = (each.get("worst") or [None])[0]
            lines.append(f"FALSE ALARM {name} {each['check']}: {each['configuration']}")
            lines.append(f"    {each.get('failing')} of {each.get('entries')} entries, worst {worst}")
        for miss in t.misses:
            change = abs(miss.plant.after - miss.plant.before)
            lines.append(f"miss {name} ({miss.model}), {miss.plant.place} entry: {miss.cause}")
            lines.append(f"    {miss.configuration}")
            lines.append(
                f"    entry {miss.plant.index}: {miss.plant.before:.6g} made {miss.plant.after:.6g}, "
                f"changed by {change:.3g}, error {miss.error:.3g}, allowed {miss.allowed:.3g}, "
                f"true {miss.expected:.6g}"
            )
    causes = Counter((m.way, m.model, m.plant.place, m.cause) for t in tallies.values() for m in t.misses)
    lines.extend(
        f"{count:>5} missed: {way} ({model}), {place} entry: {cause}"
        for (way, model, place, cause), count in sorted(causes.items())
    )
    return "\n".join(lines)


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
