"""Every option of a check, once: its default, its limits, and the words that explain it.

The command line, the help text and the tests of the man pages are made from these fields; nothing
about an option is written a second time.
"""

from __future__ import annotations

from dataclasses import Field, field, fields, replace
from typing import Any

from gradcheck_cli.errors import UsageError
from gradcheck_cli.records import dataclass

REDUCTIONS = ("mean", "sum", "none", "batch", "full")
RULES = ("allclose", "assert_close", "gradcheck")
"""Other people's rules that mutate can show beside softgrad's own."""

COMPUTE_DTYPES = ("float64", "float32", "bfloat16", "float16")
ROUNDED_DTYPES = ("float32", "bfloat16", "float16", "float8_e4m3fn", "float8_e5m2")


@dataclass(frozen=True)
class Words:
    """How one option is offered to a user."""

    help: str
    group: str
    metavar: str | None = None
    choices: tuple[str, ...] = ()
    least: float | None = None  # the value must be at least this
    below: float | None = None  # the value must be less than this


def option(default: Any, words: str, *, group: str, **limits: Any) -> Any:
    """Return a dataclass field that carries the words of its option."""
    return field(default=default, metadata={"words": Words(words, group, **limits)})


LOSS = "Loss convention (the defaults are PyTorch's)"
LAYER = "The layer"
JUDGING = "How it is judged"
RUNNING = "How it runs"


METHODS = ("central", "forward", "complex", "richardson", "directional")
AUTO = "auto"
_LARGEST_STEP = 0.125
_SMALLEST_STEP = 1e-60


def step_of(typed: str) -> float | None:
    """Return the step that was typed, None for the method's own.

    Raises
    ------
    UsageError
        If it is no step.
    """
    if typed == AUTO:
        return None
    try:
        step = float(typed)
    except ValueError:
        raise UsageError(f"--step {typed}: a number, or {AUTO}") from None
    if not _SMALLEST_STEP <= step <= _LARGEST_STEP:
        raise UsageError(f"--step {typed}: must be from {_SMALLEST_STEP:g} to {_LARGEST_STEP:g}")
    return step


class Limits:
    """What every record of options does: it refuses what no problem could be checked under."""

    def __post_init__(self) -> None:
        """Refuse values outside their limits, and one tolerance without the other."""
        for each in fields(self):  # type: ignore[arg-type]  # the records are dataclasses
            check_limits(each, getattr(self, each.name))
        if (getattr(self, "rtol", None) is None) != (getattr(self, "atol", None) is None):
            raise UsageError("--rtol and --atol go together: give both or neither")
        step_of(getattr(self, "step", AUTO))

    def in_force(self) -> dict[str, Any]:
        """Return every option with its value, by the name JSON knows it under."""
        return {each.name: getattr(self, each.name) for each in fields(self)}  # type: ignore[arg-type]


@dataclass(frozen=True, kw_only=True)
class Settings(Limits):
    """The options in force, checked against their limits; all of them have a default."""

    reduction: str = option(
        "mean",
        "Divisor of the loss: rows that count (mean), 1 (sum, none), the batch axis (batch), "
        "all rows (full).",
        group=LOSS,
        choices=REDUCTIONS,
    )
    normalizer: float | None = option(
        None, "Explicit divisor, instead of --reduction.", group=LOSS, metavar="X", least=1e-100, below=1e100
    )
    ignore_index: int = option(
        -100, "Rows with this label have loss and gradient 0; class labels only.", group=LOSS, metavar="I"
    )
    label_smoothing: float = option(
        0.0, "Share of the target spread over the classes.", group=LOSS, metavar="E", least=0.0, below=1.0
    )
    smoothing_over: str = option(
        "classes",
        "Spread it as E/K over all classes, or E/(K-1) over the others.",
        group=LOSS,
        choices=("classes", "others"),
    )
    temperature: float = option(
        1.0, "Logits are divided by T, after the softcap.", group=LOSS, metavar="T", least=1e-30, below=1e30
    )
    softcap: float | None = option(
        None, "Logits become C tanh(z/C).", group=LOSS, metavar="C", least=1e-30, below=1e30
    )
    z_loss: float = option(
        0.0,
        "Adds L logsumexp^2, after softcap and temperature, to the loss of a row.",
        group=LOSS,
        metavar="L",
        least=0.0,
    )
    axis: int | None = option(
        None,
        "Class axis of the logits. Default: the axis the labels' shape leaves over.",
        group=LOSS,
        metavar="I",
    )
    compute_dtype: str | None = option(
        None,
        "Precision the exporter computed in; 16-bit ones admit float32 as well. Default: inferred from "
        "the exported values.",
        group=JUDGING,
        choices=COMPUTE_DTYPES,
    )
    logits_rounded: str | None = option(
        None,
        "The exporter worked on more exact logits, which were rounded to this precision on export: allow for "
        "what that hides.",
        group=JUDGING,
        choices=ROUNDED_DTYPES,
    )
    rtol: float | None = option(
        None,
        "With --atol: allow A + R |expected| instead of the proven bound.",
        group=JUDGING,
        metavar="R",
        least=0.0,
    )
    atol: float | None = option(None, "See --rtol; both or neither.", group=JUDGING, metavar="A", least=0.0)
    method: str = option(
        "central",
        "Finite differences that the gradient is verified by; all but the default are for study.",
        group=JUDGING,
        choices=METHODS,
    )
    step: str = option(
        AUTO,
        "Their step, at most 0.125, in units of the temperature (of the softcap where that is smaller).",
        group=JUDGING,
        metavar="H|auto",
    )
    order: int = option(
        1,
        "2: check the second derivatives as well, the Hessian times random directions.",
        group=JUDGING,
        metavar="1|2",
        least=1,
        below=3,
    )
    seed: int = option(
        0,
        "Seed of the rows and entries that are recomputed as a sample.",
        group=JUDGING,
        metavar="N",
        least=0,
    )
    top: int = option(5, "Worst entries to show.", group=RUNNING, metavar="N", least=0)
    threads: int | None = option(
        None, "Processors to work on. Default: those available.", group=RUNNING, metavar="N", least=1
    )

    def __post_init__(self) -> None:
        """Refuse what no problem could be checked under."""
        super().__post_init__()
        if self.normalizer is not None and self.reduction != type(self).reduction:
            raise UsageError("--normalizer replaces --reduction: give only one of them")

    @property
    def as_usual(self) -> bool:
        """Whether the gradient is verified by the method and step that are the default."""
        return self.method == type(self).method and self.step == AUTO


def words_of(each: Field[Any]) -> Words:
    """Return the words of one option."""
    words: Words = each.metadata["words"]
    return words


def flag_of(name: str) -> str:
    """Return the flag of an option: ``ignore_index`` to ``--ignore-index``."""
    return "--" + name.replace("_", "-")


def check_limits(each: Field[Any], value: Any) -> None:
    """Refuse a value outside the limits that its option states."""
    words = words_of(each)
    if value is None:
        return
    flag = flag_of(each.name)
    if words.choices and value not in words.choices:
        raise UsageError(f"{flag} {value}: choose one of {', '.join(words.choices)}")
    if isinstance(value, float) and not abs(value) < float("inf"):
        raise UsageError(f"{flag} {value}: a finite number is needed")
    if words.least is not None and not value >= words.least:
        raise UsageError(f"{flag} {value}: must be at least {words.least:g}")
    if words.below is not None and not value < words.below:
        raise UsageError(f"{flag} {value}: must be less than {words.below:g}")


def as_in_check(name: str, words: str | None = None, *, group: str | None = None) -> Any:
    """Return an option of `check` for another command, with other words where they do not fit there."""
    known = next(each for each in fields(Settings) if each.name == name)
    told = words_of(known)
    again = replace(told, help=words or told.help, group=group or told.group)
    return field(default=known.default, metadata={"words": again})
