"""Do the frameworks mean what the table of conventions says? Their own gradients, under the table's flags.

Run where some of them are installed:  python tests/benchmarks/conventions.py [FRAMEWORK ...]

Not all of them can be loaded into one process; then name one.
Torch, JAX with Optax, TensorFlow, Keras, the reference implementation of ONNX (its loss; it has no gradient),
PaddlePaddle, and Liger (on a GPU, or with TRITON_INTERPRET=1). Prints a line for each row; exit code 1 when a
framework's gradient is not right under its flags.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from gradcheck_cli import check
from tests.test_frameworks import (
    CAP,
    IGNORED,
    LABELS,
    LOGITS,
    MASK,
    ROWS,
    SCALE,
    SMOOTHING,
    SQUARES,
    TABLE,
    TARGETS,
    TEMPERATURE,
    WEIGHTS,
    options,
    table,
)  # fmt: skip

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

Z = LOGITS.astype(np.float32)  # (N, K, d): the classes are axis 1
LAST = np.moveaxis(Z, 1, -1)  # (N, d, K)
Q = np.moveaxis(TARGETS, 1, -1).astype(np.float32)
W, G, M = WEIGHTS.astype(np.float32), ROWS.astype(np.float32), MASK.astype(np.float32)
Found = dict[str, Callable[[], Any]]


def torch_rows() -> Found:
    """Return what torch makes of each row: the gradient of Z."""
    torch = importlib.import_module("torch")
    functional = importlib.import_module("torch.nn.functional")
    y = torch.from_numpy(LABELS)

    def loss(**given: Any) -> Callable[[], Any]:
        def work() -> Any:
            z = torch.from_numpy(Z.copy()).requires_grad_()
            target = given.pop("target", y)
            upstream = given.pop("upstream", None)
            made = functional.cross_entropy(z / given.pop("T", 1.0), target, **given)
            made.backward(upstream)
            return z.grad.numpy()

        return work

    def divergence() -> Any:
        z = torch.from_numpy(Z.copy()).requires_grad_()
        target = torch.from_numpy(TARGETS.astype(np.float32))
        functional.kl_div(functional.log_softmax(z, 1), target, reduction="batchmean").backward()
        return z.grad.numpy()

    return {
        "reduction='mean'": loss(),
        "reduction='sum'": loss(reduction="sum"),
        "reduction='none', backward(g)": loss(reduction="none", upstream=torch.from_numpy(G)),
        "ignore_index=I": loss(ignore_index=IGNORED),
        "weight=w": loss(weight=torch.from_numpy(W)),
        "label_smoothing=E": loss(label_smoothing=SMOOTHING),
        "target of probabilities q": loss(target=torch.from_numpy(TARGETS.astype(np.float32))),
        "kl_div of log_softmax, 'batchmean'": divergence,
        "loss scaled by S": loss(upstream=torch.tensor(SCALE)),
        "logits divided by T": loss(T=TEMPERATURE),
    }


def jax_rows() -> Found:
    """Return what JAX makes of each row, with its classes in the last axis as they are brought back."""
    jax, optax = importlib.import_module("jax"), importlib.import_module("optax")
    one_hot = optax.smooth_labels(jax.nn.one_hot(LABELS, Z.shape[1]), SMOOTHING)
    mask = jax.numpy.asarray(M)

    def each(z: Any) -> Any:
        return optax.softmax_cross_entropy_with_integer_labels(z, LABELS)

    def of(loss: Callable[[Any], Any]) -> Callable[[], Any]:
        return lambda: np.moveaxis(np.asarray(jax.grad(loss)(jax.numpy.asarray(LAST))), -1, 1)

    return {
        "l.mean()": of(lambda z: each(z).mean()),
        "l.sum()": of(lambda z: each(z).sum()),
        "(l * m).sum() / m.sum()": of(lambda z: (each(z) * mask).sum() / mask.sum()),
        "softmax_cross_entropy(z, q).mean()": of(lambda z: optax.softmax_cross_entropy(z, Q).mean()),
        "smooth_labels(one_hot, E)": of(lambda z: optax.softmax_cross_entropy(z, one_hot).mean()),
    }


def tensorflow_rows() -> Found:
    """Return what TensorFlow and Keras on top of it make of each row."""
    tf, keras = importlib.import_module("tensorflow"), importlib.import_module("keras")
    sparse, dense = keras.losses.SparseCategoricalCrossentropy, keras.losses.CategoricalCrossentropy

    def of(loss: Callable[[Any], Any]) -> Callable[[], Any]:
        def work() -> Any:
            z = tf.Variable(LAST)
            with tf.GradientTape() as tape:
                made = loss(z)
            return np.moveaxis(tape.gradient(made, z).numpy(), -1, 1)

        return work

    def each(z: Any) -> Any:
        return tf.nn.sparse_softmax_cross_entropy_with_logits(labels=LABELS, logits=z)

    hot = np.eye(Z.shape[1], dtype=np.float32)[LABELS]
    kept = sparse(from_logits=True, reduction="mean_with_sample_weight")
    mean = sparse(from_logits=True)
    smooth, summed = dense(from_logits=True, label_smoothing=SMOOTHING), sparse(True, reduction="sum")
    ignoring = sparse(from_logits=True, ignore_class=IGNORED)
    given = tf.nn.softmax_cross_entropy_with_logits
    return {
        "reduction='sum_over_batch_size'": of(lambda z: mean(LABELS, z)),
        "reduction='sum'": of(lambda z: summed(LABELS, z)),
        "ignore_class=I": of(lambda z: ignoring(LABELS, z)),
        "sample_weight=s": of(lambda z: mean(LABELS, z, sample_weight=G)),
        "'mean_with_sample_weight'": of(lambda z: kept(LABELS, z, sample_weight=G)),
        "label_smoothing=E": of(lambda z: smooth(hot, z)),
        "reduce_mean(l)": of(lambda z: tf.reduce_mean(each(z))),
        "reduce_mean(l), labels=q": of(lambda z: tf.reduce_mean(given(labels=Q, logits=z))),
    }


def paddle_rows() -> Found:
    """Return what PaddlePaddle makes of each row."""
    paddle = importlib.import_module("paddle")
    loss = importlib.import_module("paddle.nn.functional").cross_entropy
    y, w = paddle.to_tensor(LABELS), paddle.to_tensor(W)

    def of(label: Any = y, **given: Any) -> Callable[[], Any]:
        def work() -> Any:
            z = paddle.to_tensor(LAST, stop_gradient=False)
            loss(z, label, **given).backward()
            return np.moveaxis(z.grad.numpy(), -1, 1)

        return work

    return {
        "reduction='mean'": of(),
        "reduction='sum'": of(reduction="sum"),
        "ignore_index=I": of(ignore_index=IGNORED),
        "weight=w": of(weight=w),
        "label_smoothing=E": of(label_smoothing=SMOOTHING),
        "soft_label=True": of(paddle.to_tensor(Q), soft_label=True),
    }


def liger_rows() -> Found:
    """Return what Liger's kernel makes of each row."""
    torch = importlib.import_module("torch")
    loss = importlib.import_module("liger_kernel.transformers.functional").liger_cross_entropy
    device = "cuda" if torch.cuda.is_available() else "cpu"

    def of(**given: Any) -> Callable[[], Any]:
        def work() -> Any:
            flat = np.ascontiguousarray(LAST).reshape(-1, LAST.shape[-1])
            z = torch.from_numpy(flat.copy()).to(device).requires_grad_()
            made = loss(z, torch.from_numpy(LABELS.ravel()).to(device), **given)
            made.backward()
            return np.moveaxis(z.grad.cpu().numpy().reshape(LAST.shape), -1, 1)

        return work

    return {
        "reduction='mean'": of(),
        "reduction='sum'": of(reduction="sum"),
        "ignore_index=I": of(ignore_index=IGNORED),
        "weight=w": of(weight=torch.from_numpy(W).to(device)),
        "label_smoothing=E": of(label_smoothing=SMOOTHING),
        "lse_square_scale=L": of(lse_square_scale=SQUARES),
        "softcap=C": of(softcap=CAP),
    }


def onnx_rows() -> Found:
    """Return the losses of ONNX's reference implementation; for "none" the loss of each row."""
    onnx = importlib.import_module("onnx")
    evaluator = importlib.import_module("onnx.reference").ReferenceEvaluator

    def of(weights: Any = None, **given: Any) -> Callable[[], Any]:
        def work() -> Any:
            names = ["z", "y"] + (["w"] if weights is not None else [])
            node = onnx.helper.make_node("SoftmaxCrossEntropyLoss", names, ["loss"], **given)
            kinds = [onnx.TensorProto.FLOAT, onnx.TensorProto.INT64, onnx.TensorProto.FLOAT]
            ins = [onnx.helper.make_tensor_value_info(n, k, None) for n, k in zip(names, kinds, strict=False)]
            out = onnx.helper.make_tensor_value_info("loss", onnx.TensorProto.FLOAT, None)
            graph = onnx.helper.make_graph([node], "g", ins, [out])
            made = evaluator(onnx.helper.make_model(graph))
            return made.run(None, dict(zip(names, (Z, LABELS, weights), strict=False)))[0]

        return work

    return {
        "reduction: mean": of(reduction="mean"),
        "reduction: sum": of(reduction="sum"),
        "reduction: none": of(reduction="none"),
        "ignore_index: I": of(reduction="mean", ignore_index=IGNORED),
        "weights w": of(W, reduction="mean"),
    }


MAKERS: dict[str, tuple[str, Callable[[], Found]]] = {
    "PyTorch": ("torch", torch_rows),
    "JAX and Optax": ("optax", jax_rows),
    "TensorFlow and Keras": ("tensorflow", tensorflow_rows),
    "ONNX": ("onnx", onnx_rows),
    "Liger": ("liger_kernel", liger_rows),
    "PaddlePaddle": ("paddle", paddle_rows),
}
"""By framework, the module that must be there, and what makes its rows."""


def judged(frameworks: Sequence[str]) -> Iterator[tuple[str, str, bool, str]]:
    """Yield framework, row, whether it is right under its flags, and the verdict."""
    flags = table()
    for framework in frameworks:
        module, make = MAKERS[framework]
        if importlib.util.find_spec(module) is None:
            print(f"{framework}: {module} is not installed")
            continue
        found = make()
        assert found.keys() == {there for name, there in TABLE if name == framework}
        for there, work in found.items():
            letters = TABLE[framework, there][1]
            given = options(flags[framework, there], letters)
            labels = letters.get("labels", LABELS)
            if isinstance(labels, np.ndarray) and labels.dtype.kind == "f":
                labels = labels.astype(np.float32)
            if isinstance(given.get("upstream"), np.ndarray):
                given["upstream"] = given["upstream"].astype(np.float32)
            role = "loss" if framework == "ONNX" else "grad"
            if role == "loss":
                given.pop("upstream", None)
            outcome = check(Z, labels, axis=1, **{role: work()}, **given)
            yield framework, there, outcome.passed, repr(outcome)


def main() -> int:
    """Print a line for each row, and return 1 if one is not right."""
    wrong = 0
    for framework, there, right, verdict in judged(sys.argv[1:] or list(MAKERS)):
        wrong += not right
        print(f"{framework:21} {there:38} {verdict if not right else 'right'}")
    print(f"{wrong} wrong" if wrong else "all right")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
