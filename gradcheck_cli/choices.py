"""The options of the commands beside `check`: their own, and those of `check` that they share."""

from __future__ import annotations

from gradcheck_cli.records import dataclass
from gradcheck_cli.settings import (
    LAYER,
    RUNNING,
    Limits,
    Settings,
    as_in_check,
    option,
)


@dataclass(frozen=True, kw_only=True)
class LayerSettings(Limits):
    """The options of `vjp`."""

    log: bool = option(default=False, words="The layer is a log-softmax.", group=LAYER)
    temperature: float = as_in_check("temperature", "Logits are divided by T.", group=LAYER)
    axis: int | None = as_in_check(
        "axis", "Axis that the softmax is taken along. Default: the last.", group=LAYER
    )
    masked_rows: str = option(
        "refuse",
        "Rows that are -inf throughout: refuse them, expect zeros there, or ignore what stands there.",
        group=LAYER,
        choices=("refuse", "zero", "ignore"),
    )
    compute_dtype: str | None = as_in_check("compute_dtype")
    logits_rounded: str | None = as_in_check("logits_rounded")
    rtol: float | None = as_in_check("rtol")
    atol: float | None = as_in_check("atol")
    method: str = as_in_check("method")
    step: str = as_in_check("step", "Their step, at most 0.125, in units of the temperature.")
    seed: int = as_in_check("seed")
    top: int = as_in_check("top")
    threads: int | None = as_in_check("threads")


@dataclass(frozen=True, kw_only=True)
class MatrixSettings(Limits):
    """The options of `jacobian`."""

    row: int = option(
        0,
        "Which row, counted in the order of the axes but the softmax's own.",
        group=LAYER,
        metavar="I",
        least=0,
    )
    temperature: float = as_in_check("temperature", "Logits are divided by T.", group=LAYER)
    axis: int | None = as_in_check(
        "axis", "Axis that the softmax is taken along. Default: the last.", group=LAYER
    )
    compute_dtype: str | None = as_in_check("compute_dtype")
    logits_rounded: str | None = as_in_check("logits_rounded")
    rtol: float | None = as_in_check("rtol")
    atol: float | None = as_in_check("atol")
    seed: int = as_in_check("seed", "Seed of the entries that are recomputed as a sample.")
    top: int = as_in_check("top")
    threads: int | None = as_in_check("threads")


_OF_LOSS = (
    "reduction", "normalizer", "ignore_index", "label_smoothing", "smoothing_over", "temperature", "softcap",
    "z_loss", "compute_dtype", "rtol", "atol", "seed", "top", "threads",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class LinearSettings(Limits):
    """The options of `linear`: the layer, and the loss as `check` has it."""

    weight_layout: str | None = option(
        None,
        "Whether the weight is (in, out) or (out, in). Default: what its shape says.",
        group=LAYER,
        choices=("io", "oi"),
    )
    reduction: str = as_in_check("reduction")
    normalizer: float | None = as_in_check("normalizer")
    ignore_index: int = as_in_check("ignore_index")
    label_smoothing: float = as_in_check("label_smoothing")
    smoothing_over: str = as_in_check("smoothing_over")
    temperature: float = as_in_check("temperature")
    softcap: float | None = as_in_check("softcap")
    z_loss: float = as_in_check("z_loss")
    compute_dtype: str | None = as_in_check("compute_dtype")
    rtol: float | None = as_in_check("rtol")
    atol: float | None = as_in_check("atol")
    seed: int = as_in_check("seed")
    top: int = as_in_check("top")
    threads: int | None = as_in_check("threads")

    def __post_init__(self) -> None:
        """Refuse what no problem could be checked under, as `check` does."""
        super().__post_init__()
        self.of_check(0)

    def of_check(self, axis: int) -> Settings:
        """Return the options of the loss as those of `check`, for logits with their classes on an axis."""
        return Settings(axis=axis, **{name: getattr(self, name) for name in _OF_LOSS})


@dataclass(frozen=True, kw_only=True)
class SweepSettings(Limits):
    """The options of `sweep`: the loss of a row, and which rows."""

    ignore_index: int = as_in_check("ignore_index")
    label_smoothing: float = as_in_check("label_smoothing")
    smoothing_over: str = as_in_check("smoothing_over")
    temperature: float = as_in_check("temperature")
    softcap: float | None = as_in_check("softcap")
    z_loss: float = as_in_check("z_loss")
    axis: int | None = as_in_check("axis")
    seed: int = as_in_check("seed", "Seed of the entries that are differenced.", group=RUNNING)

    def of_check(self) -> Settings:
        """Return the options of the loss as those of `check`."""
        given = self.in_force()
        return Settings(reduction="sum", **given)


OF_COMMAND: dict[str, type[Limits]] = {
    "check": Settings,
    "vjp": LayerSettings,
    "jacobian": MatrixSettings,
    "linear": LinearSettings,
    "sweep": SweepSettings,
}
"""The options of each command."""
