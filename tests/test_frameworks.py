"""The flags for other programs' losses: each row of the table, written down as a loss and differentiated.

The loss is evaluated with 60 digits and differentiated numerically, so a row says what a framework computes
and nothing of how softgrad does. `tests/benchmarks/conventions.py` holds the same rows to the frameworks.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mpmath import mp, mpf  # type: ignore[import-untyped,unused-ignore]

from gradcheck_cli import check
from gradcheck_cli.cli.manual import words

PAGE = Path(__file__).parent.parent / "man" / "softgrad-conventions.7"

N, K, D = 2, 5, 3
RNG = np.random.default_rng(3)
LOGITS = RNG.normal(scale=2.0, size=(N, K, D))
LABELS = np.array([[0, 4, 2], [1, 2, 3]])
TARGETS = np.moveaxis(RNG.dirichlet(np.ones(K), size=(N, D)), -1, 1)
MASK = np.array([[1.0, 0.0, 1.0], [1.0, 1.0, 0.0]])
ROWS = RNG.uniform(0.5, 2.0, size=(N, D))  # one number a row
SMOOTHING, IGNORED, SCALE, TEMPERATURE, CAP, SQUARES, TOKENS = 0.125, 2, 1024.0, 1.75, 3.0, 0.25, 11.0
WEIGHTS = np.array([0.5, 1.0, 2.0, 0.25, 1.5])

Array = np.ndarray[tuple[int, ...], np.dtype[Any]]
Loss = Callable[[Array], Any]


def rows(z: Array) -> Iterator[tuple[list[Any], int, tuple[int, int]]]:
    """Yield for each row its logits, its label and its place."""
    for n in range(N):
        for d in range(D):
            yield list(z[n, :, d]), int(LABELS[n, d]), (n, d)


def log_softmax(v: Sequence[Any]) -> list[Any]:
    total = mp.log(mp.fsum(mp.exp(each) for each in v))
    return [each - total for each in v]


def hard(v: Sequence[Any], label: int) -> Any:
    """Return the loss of a row with a class label."""
    return -log_softmax(v)[label]


def smoothed(v: Sequence[Any], label: int, over_others: bool) -> Any:
    """Return the loss of a row whose target is E spread over all classes, or over the others."""
    share = mpf(SMOOTHING) / (K - 1 if over_others else K)
    target = [share] * K
    target[label] = 1 - mpf(SMOOTHING) + (0 if over_others else share)
    return -mp.fsum(share * each for share, each in zip(target, log_softmax(v), strict=True))


def soft(v: Sequence[Any], place: tuple[int, int]) -> Any:
    """Return the loss of a row with a distribution."""
    target = TARGETS[place[0], :, place[1]]
    return -mp.fsum(mpf(share) * each for share, each in zip(target, log_softmax(v), strict=True))


def summed(row: Callable[..., Any], divisor: float = 1.0) -> Loss:
    """Return the sum of the losses of all rows over a divisor."""
    return lambda z: mp.fsum(row(*each) for each in rows(z)) / mpf(divisor)


def plain(v: Sequence[Any], label: int, _: Any) -> Any:
    return hard(v, label)


def counted(v: Sequence[Any], label: int, _: Any) -> Any:
    """Return the loss of a row, 0 where its label is ignored."""
    return mpf(0) if label == IGNORED else hard(v, label)


def spread(v: Sequence[Any], label: int, _: Any) -> Any:
    return smoothed(v, label, over_others=False)


def spread_over_others(v: Sequence[Any], label: int, _: Any) -> Any:
    return smoothed(v, label, over_others=True)


def distributed(v: Sequence[Any], _: int, place: tuple[int, int]) -> Any:
    return soft(v, place)


def weighted(v: Sequence[Any], label: int, _: Any) -> Any:
    return mpf(WEIGHTS[label]) * hard(v, label)


def with_squares(v: Sequence[Any], label: int, _: Any) -> Any:
    return hard(v, label) + mpf(SQUARES) * mp.log(mp.fsum(mp.exp(each) for each in v)) ** 2


def capped(v: Sequence[Any], label: int, _: Any) -> Any:
    return hard([mpf(CAP) * mp.tanh(each / mpf(CAP)) for each in v], label)


def cooled(v: Sequence[Any], label: int, _: Any) -> Any:
    return hard([each / mpf(TEMPERATURE) for each in v], label)


def times(g: Array, row: Callable[..., Any] = plain) -> Callable[..., Any]:
    """Return a row's loss times its own number."""
    return lambda v, label, place: mpf(g[place]) * row(v, label, place)


ALL = N * D
VALID = int((LABELS != IGNORED).sum())
MEAN, SUM, EACH = summed(plain, ALL), summed(plain), summed(times(ROWS))
IGNORING = summed(counted, VALID)
WEIGHTED = summed(weighted, float(WEIGHTS[LABELS].sum()))
SMOOTH, OTHERS = summed(spread, ALL), summed(spread_over_others, ALL)
SOFT = summed(distributed, ALL)
MASKED = MASK / MASK.sum()


def scaled(z: Array) -> Any:
    return mpf(SCALE) * MEAN(z)


TABLE: dict[tuple[str, str], tuple[Loss, dict[str, Any]]] = {
    ("PyTorch", "reduction='mean'"): (MEAN, {}),
    ("PyTorch", "reduction='sum'"): (SUM, {}),
    ("PyTorch", "reduction='none', backward(g)"): (EACH, {"g": ROWS}),
    ("PyTorch", "ignore_index=I"): (IGNORING, {}),
    ("PyTorch", "weight=w"): (WEIGHTED, {}),
    ("PyTorch", "label_smoothing=E"): (SMOOTH, {}),
    ("PyTorch", "target of probabilities q"): (SOFT, {"labels": TARGETS}),
    ("PyTorch", "kl_div of log_softmax, 'batchmean'"): (summed(distributed, N), {"labels": TARGETS}),
    ("PyTorch", "loss scaled by S"): (scaled, {}),
    ("PyTorch", "logits divided by T"): (summed(cooled, ALL), {}),
    ("JAX and Optax", "l.mean()"): (MEAN, {}),
    ("JAX and Optax", "l.sum()"): (SUM, {}),
    ("JAX and Optax", "(l * m).sum() / m.sum()"): (summed(times(MASK), MASK.sum()), {"g": MASKED}),
    ("JAX and Optax", "softmax_cross_entropy(z, q).mean()"): (SOFT, {"labels": TARGETS}),
    ("JAX and Optax", "smooth_labels(one_hot, E)"): (SMOOTH, {}),
    ("TensorFlow and Keras", "reduction='sum_over_batch_size'"): (MEAN, {}),
    ("TensorFlow and Keras", "reduction='sum'"): (SUM, {}),
    ("TensorFlow and Keras", "ignore_class=I"): (IGNORING, {}),
    ("TensorFlow and Keras", "sample_weight=s"): (summed(times(ROWS), ALL), {"g": ROWS / ALL}),
    ("TensorFlow and Keras", "'mean_with_sample_weight'"): (
        summed(times(ROWS), ROWS.sum()),
        {"g": ROWS / ROWS.sum()},
    ),
    ("TensorFlow and Keras", "label_smoothing=E"): (SMOOTH, {}),
    ("TensorFlow and Keras", "reduce_mean(l)"): (MEAN, {}),
    ("TensorFlow and Keras", "reduce_mean(l), labels=q"): (SOFT, {"labels": TARGETS}),
    ("ONNX", "reduction: mean"): (MEAN, {}),
    ("ONNX", "reduction: sum"): (SUM, {}),
    ("ONNX", "reduction: none"): (EACH, {"g": ROWS}),
    ("ONNX", "ignore_index: I"): (IGNORING, {}),
    ("ONNX", "weights w"): (WEIGHTED, {}),
    ("Caffe", "normalization: VALID"): (MEAN, {}),
    ("Caffe", "normalization: BATCH_SIZE"): (summed(plain, N), {}),
    ("Caffe", "normalization: FULL"): (MEAN, {}),
    ("Caffe", "normalization: NONE"): (SUM, {}),
    ("Caffe", "normalize: true"): (MEAN, {}),
    ("Caffe", "normalize: false"): (summed(plain, N), {}),
    ("Caffe", "ignore_label: I"): (IGNORING, {}),
    ("Caffe", "loss_weight: S"): (scaled, {}),
    ("MXNet", "normalization='null'"): (SUM, {}),
    ("MXNet", "'null', multi_output"): (summed(plain, D), {}),
    ("MXNet", "normalization='batch'"): (MEAN, {}),
    ("MXNet", "normalization='valid'"): (MEAN, {}),
    ("MXNet", "ignore_label=I"): (IGNORING, {}),
    ("MXNet", "grad_scale=S"): (scaled, {}),
    ("MXNet", "smooth_alpha=E"): (OTHERS, {}),
    ("MXNet", "SoftmaxCrossEntropyLoss"): (summed(plain, D), {}),
    ("Liger", "reduction='mean'"): (MEAN, {}),
    ("Liger", "reduction='sum'"): (SUM, {}),
    ("Liger", "ignore_index=I"): (IGNORING, {}),
    ("Liger", "weight=w"): (WEIGHTED, {}),
    ("Liger", "label_smoothing=E"): (SMOOTH, {}),
    ("Liger", "lse_square_scale=L"): (summed(with_squares, ALL), {}),
    ("Liger", "softcap=C"): (summed(capped, ALL), {}),
    ("Megatron", "(l * loss_mask).sum() / N"): (summed(times(MASK), TOKENS), {"g": MASK / TOKENS}),
    ("Megatron", "label_smoothing=E"): (OTHERS, {}),
    ("Transformers", "labels alone"): (MEAN, {}),
    ("Transformers", "num_items_in_batch=N"): (summed(plain, TOKENS), {}),
    ("PaddlePaddle", "reduction='mean'"): (MEAN, {}),
    ("PaddlePaddle", "reduction='sum'"): (SUM, {}),
    ("PaddlePaddle", "ignore_index=I"): (IGNORING, {}),
    ("PaddlePaddle", "weight=w"): (WEIGHTED, {}),
    ("PaddlePaddle", "label_smoothing=E"): (SMOOTH, {}),
    ("PaddlePaddle", "soft_label=True"): (SOFT, {"labels": TARGETS}),
}
"""By framework and its own words: the loss, and what stands for the letters of the flags."""

LETTERS = {
    "I": IGNORED, "E": SMOOTHING, "w": WEIGHTS, "S": SCALE, "T": TEMPERATURE, "C": CAP, "L": SQUARES,
    "N": TOKENS, "D": float(D),
}  # fmt: skip


def table() -> dict[tuple[str, str], list[str]]:
    """Return by framework and its words the flags that the page gives."""
    found: dict[tuple[str, str], list[str]] = {}
    framework = ""
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        if line.startswith(".Ss "):
            framework = line.removeprefix(".Ss ")
        elif line.startswith(".It ") and " Ta " in line and not line.startswith(".It Sy"):
            there, here = line.removeprefix(".It ").split(" Ta ")
            found[framework, there] = words(here).split()
    return found


def options(flags: Sequence[str], letters: dict[str, Any]) -> dict[str, Any]:
    """Return flags as the options of the Python API, values in place of letters."""
    pairs = zip(flags[::2], flags[1::2], strict=True)
    known = {"g": letters.get("g"), **LETTERS}
    return {flag.removeprefix("--").replace("-", "_"): known.get(value, value) for flag, value in pairs}


def gradient(loss: Loss) -> Array:
    """Return dE/dz by central differences, exact in float64: 60 digits and a step of 1e-20."""
    with mp.workdps(60):
        z = np.array([mpf(each) for each in LOGITS.ravel()], dtype=object).reshape(LOGITS.shape)
        step, found = mpf(10) ** -20, np.empty(LOGITS.shape)
        for index in np.ndindex(LOGITS.shape):
            right, left = z.copy(), z.copy()
            right[index] += step
            left[index] -= step
            found[index] = float((loss(right) - loss(left)) / (2 * step))
    return found


def test_the_page_and_the_losses_are_of_the_same_rows() -> None:
    assert table().keys() == TABLE.keys()


@pytest.mark.parametrize(("framework", "there"), TABLE)
def test_under_its_flags_a_frameworks_gradient_is_right(framework: str, there: str) -> None:
    loss, letters = TABLE[framework, there]
    given = options(table()[framework, there], letters)
    labels, exact = letters.get("labels", LABELS), gradient(loss)
    assert check(LOGITS, labels, grad=exact, axis=1, **given).passed
    if given not in ({"reduction": "mean"}, {"reduction": "full"}):  # one divisor where no row is ignored
        assert not check(LOGITS, labels, grad=exact, axis=1).passed


def test_every_framework_that_a_reader_may_come_from_is_there() -> None:
    source = PAGE.read_text(encoding="utf-8")
    assert re.findall(r"^\.Ss (.*)", source, re.MULTILINE) == [
        *dict.fromkeys(framework for framework, _ in TABLE),
        "The softmax alone",
    ]
