"""Make the sample files of this folder; run it again and the same bytes come out.

The story: 512 tokens over 16 classes, the last 32 of them ignored padding. `grad.npy` is what a
float32 kernel writes, `grad_bf16.npy` the same rounded once to bfloat16, and `wrong_grad.npy` comes from a
kernel with a real bug: it stores p/N in bfloat16 and then subtracts 1/N from the label's entry in place, so
the label entry is rounded twice. Every error is below 1e-5, and numpy.allclose(atol=1e-5) is content.
`small.npz` is a bundle: what the small text files hold, in one file.
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
    small = np.array([[2.0, 1.0, 0.1], [0.5, 2.5, -1.0], [1.0, 1.0, 1.0]])
    classes = np.array([0, 1, 2])
    np.savetxt(HERE / "small_logits.csv", small, delimiter=",", fmt="%.1f")
    np.savetxt(HERE / "small_labels.csv", classes, fmt="%d")
    np.savetxt(HERE / "small_grad.csv", gradient(small, classes), delimiter=",", fmt="%.17g")
    np.savez_compressed(HERE / "small.npz", logits=small, labels=classes, grad=gradient(small, classes))
    np.savetxt(HERE / "small_sum_grad.csv", 3 * gradient(small, classes), delimiter=",", fmt="%.17g")


if __name__ == "__main__":
    main()
