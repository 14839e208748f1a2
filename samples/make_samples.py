"""Make the sample files of this folder; run it again and the same bytes come out.

The story: 512 tokens over 16 classes, the last 32 of them ignored padding. `grad.npy` is what a
float32 kernel writes, `grad_bf16.npy` the same rounded once to bfloat16, and `wrong_grad.npy` comes from a
kernel with a real bug: it stores p/N in bfloat16 and then subtracts 1/N from the label's entry in place, so
the label entry is rounded twice. Every error is below 1e-5, and numpy.allclose(atol=1e-5) is content.
`small.npz` is a bundle: what the small text files hold, in one file.

The small files are three rows of three classes, to be followed by hand: `small_top_diff.csv` is the gradient
of the loss at the probabilities, -y/a, `small_sum_grad.csv` what a softmax layer makes of it, a - y.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

HERE = Path(__file__).parent
IGNORED = -100
Array = np.ndarray[Any, Any]


def softmax(logits: Array) -> Array:
    """Return the softmax of each row, in the arithmetic of the logits' own dtype."""
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    probs: Array = shifted / shifted.sum(axis=1, keepdims=True)
    return probs


def gradient(logits: Array, labels: Array) -> Array:
    """Return (softmax - onehot) / rows that count, zero in ignored rows."""
    counted = labels != IGNORED
    grad = softmax(logits)
    grad[np.flatnonzero(counted), labels[counted]] -= 1
    grad[~counted] = 0
    grad /= logits.dtype.type(counted.sum())
    return grad


def read_modify_write(logits: Array, labels: Array) -> Array:
    """Return the gradient of a kernel that reads p/N back from a bfloat16 buffer to subtract 1/N."""
    counted = labels != IGNORED
    size = np.float32(counted.sum())
    stored = (softmax(logits) / size).astype(ml_dtypes.bfloat16).astype(np.float32)
    stored[np.flatnonzero(counted), labels[counted]] -= 1 / size
    stored[~counted] = 0
    return stored.astype(ml_dtypes.bfloat16)


def attention(rng: np.random.Generator) -> None:
    """Write the scores of two causal attention heads, an upstream gradient, and two bottom gradients.

    The wrong one comes from a kernel that works in tiles of 8 keys and takes the inner product <t, a> of
    the first tile alone, which is right in the first 8 rows.
    """
    scores = (1.5 * rng.standard_normal((1, 2, 16, 16))).astype(np.float32)
    scores[..., np.triu(np.ones((16, 16), dtype=bool), 1)] = -np.inf
    upstream = rng.standard_normal(scores.shape).astype(np.float32)
    shifted = np.exp(scores - scores.max(axis=-1, keepdims=True))
    probs = shifted / shifted.sum(axis=-1, keepdims=True)
    product = upstream * probs
    np.save(HERE / "attention_scores.npy", scores)
    np.save(HERE / "attention_upstream.npy", upstream)
    right, wrong = product.sum(axis=-1, keepdims=True), product[..., :8].sum(axis=-1, keepdims=True)
    np.save(HERE / "attention_grad.npy", (upstream - right) * probs)
    np.save(HERE / "wrong_attention_grad.npy", (upstream - wrong) * probs)


def projection(rng: np.random.Generator) -> None:
    """Write a linear layer, a batch of 96 inputs, and two gradients of its weight in float32.

    The wrong one comes from gradient accumulation over four micro-batches of 24, two of which have ignored
    rows: the means of the micro-batches are averaged, although they count different numbers of rows.
    """
    inputs = rng.standard_normal((96, 24)).astype(np.float32)
    weight = (rng.standard_normal((24, 10)) / 5).astype(np.float32)
    bias = (rng.standard_normal(10) / 10).astype(np.float32)
    labels = rng.integers(0, 10, 96)
    labels[30:36] = labels[90:] = IGNORED
    logits = inputs @ weight + bias
    for name, array in {"inputs": inputs, "labels": labels, "weight": weight, "bias": bias}.items():
        np.save(HERE / f"linear_{name}.npy", array)
    np.save(HERE / "linear_grad_weight.npy", inputs.T @ gradient(logits, labels))
    parts = [slice(start, start + 24) for start in range(0, 96, 24)]
    means = [inputs[part].T @ gradient(logits[part], labels[part]) for part in parts]
    np.save(HERE / "wrong_linear_grad_weight.npy", sum(means[1:], means[0]) / np.float32(4))


def main() -> None:
    """Write every sample."""
    rng = np.random.default_rng(2024)
    logits = (2 * rng.standard_normal((512, 16))).astype(np.float32)
    labels = rng.integers(0, 16, 512)
    labels[-32:] = IGNORED
    sure = np.arange(0, 480, 3)
    logits[sure, labels[sure]] += 12  # a trained model is sure of many tokens
    grad = gradient(logits, labels)
    np.save(HERE / "logits.npy", logits)
    np.save(HERE / "labels.npy", labels)
    np.save(HERE / "grad.npy", grad)
    np.save(HERE / "grad_bf16.npy", grad.astype(ml_dtypes.bfloat16))
    np.save(HERE / "wrong_grad.npy", read_modify_write(logits, labels))
    attention(np.random.default_rng(2025))
    projection(np.random.default_rng(2026))
    small = np.array([[2.0, 1.0, 0.1], [0.5, 2.5, -1.0], [1.0, 1.0, 1.0]])
    classes = np.array([0, 1, 2])
    np.savetxt(HERE / "small_logits.csv", small, delimiter=",", fmt="%.1f")
    np.savetxt(HERE / "small_labels.csv", classes, fmt="%d")
    np.savetxt(HERE / "small_grad.csv", gradient(small, classes), delimiter=",", fmt="%.17g")
    np.savez_compressed(HERE / "small.npz", logits=small, labels=classes, grad=gradient(small, classes))
    at_probabilities = -np.eye(3)[classes] / softmax(small)
    np.savetxt(HERE / "small_top_diff.csv", at_probabilities, delimiter=",", fmt="%.17g")
    np.savetxt(HERE / "small_sum_grad.csv", 3 * gradient(small, classes), delimiter=",", fmt="%.17g")


if __name__ == "__main__":
    main()
