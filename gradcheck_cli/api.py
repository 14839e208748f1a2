"""The same checks from Python: arrays or paths in, the outcome of the command out.

``from gradcheck_cli import check, assert_gradient`` gets what is here, imported when it is first asked for.
"""

from __future__ import annotations

import contextlib
import difflib
import os
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any, Protocol

from gradcheck_cli.errors import InputError, SoftgradError, UsageError
from gradcheck_cli.outcome import Outcome, Verdict
from gradcheck_cli.settings import Settings

if TYPE_CHECKING:
    from gradcheck_cli.exports import Scalar
    from gradcheck_cli.tensors import Tensor

__all__ = ["Given", "InputError", "Result", "SoftgradError", "UsageError", "assert_gradient", "check"]

WIDTH = 100  # cells of a line in the text of an assertion
_JUDGED = ("grad", "probs", "log-probs", "loss", "grad-probs")
_OF_BUNDLE = ("logits", "labels", *_JUDGED, "upstream", "class-weights")
_NUMBERS = ("upstream", "loss")


class HasArray(Protocol):
    """What NumPy can make an array of."""

    def __array__(self, *args: Any, **options: Any) -> Any:
        """Return an array of NumPy."""


class HasDLPack(Protocol):
    """What hands its memory over through DLPack."""

    def __dlpack__(self, *args: Any, **options: Any) -> Any:
        """Return a capsule."""


Given = str | os.PathLike[str] | HasArray | HasDLPack | Sequence[Any] | float
"""An array, a path (``FILE`` or ``FILE:MEMBER``), or where it makes sense a number."""


class Result(Outcome):
    """The outcome of a check: ``passed``, ``verdict``, ``checks``, ``diagnosis``, ``warnings`` and more.

    It shows itself as the verdict line, in a notebook as the report.
    """

    @property
    def passed(self) -> bool:
        """Whether every check passed."""
        return self.verdict is Verdict.PASS

    def to_dict(self) -> dict[str, Any]:
        """Return the document that ``--format json`` writes, as plain values."""
        from gradcheck_cli.report.document import document  # noqa: PLC0415 - lazy, as everything here

        return document(self)

    def __repr__(self) -> str:
        """Return the verdict line."""
        from gradcheck_cli.report.line import line  # noqa: PLC0415

        return line(self)

    def __str__(self) -> str:
        """Return the report that the command prints."""
        from gradcheck_cli.report.table import render  # noqa: PLC0415

        return render(replace(self, pictures=()), width=WIDTH, top=self.settings["top"]).plain

    def _repr_html_(self) -> str:
        """Return the report for a notebook, with pictures of where the errors are and how large."""
        from gradcheck_cli.report.dossier import cell  # noqa: PLC0415

        return "".join(cell(self))


def check(  # noqa: PLR0913 - one parameter for each tensor
    logits: Given,
    labels: Given | None = None,
    *,
    grad: Given | None = None,
    probs: Given | None = None,
    log_probs: Given | None = None,
    loss: Given | None = None,
    grad_probs: Given | None = None,
    upstream: Given | None = None,
    class_weights: Given | None = None,
    **options: Any,
) -> Result:
    """Check softmax + cross-entropy, and what was computed with it, as ``softgrad check`` does.

    Parameters
    ----------
    logits, labels
        Arrays or paths; a path to a bundle is enough alone.
    grad, probs, log_probs, loss, grad_probs
        What is to be judged. `loss` may be a number.
    upstream, class_weights
        dE/d(loss), a number or one for each row; one weight for each class.
    **options
        The options of the command by name: ``reduction="sum"``, ``label_smoothing=0.1``, ``ignore_index=0``.
        ``threads`` is 1 here, because more are forked processes, which not every program that imports this
        can bear. Files and variables of configuration are not read.

    Raises
    ------
    SoftgradError
        If nothing can be checked: the command's exit status 2.
    TypeError
        If there is no option of a name.

    Examples
    --------
    >>> import numpy as np
    >>> from gradcheck_cli import check
    >>> z, y = np.array([[0.5, 2.5, -1.0]]), np.array([1])
    >>> a = np.exp(z) / np.exp(z).sum()
    >>> check(z, y, grad=a - np.eye(3)[y]).passed
    True
    >>> check(z, y, grad=a)
    FAIL logits: grad: 1 of 3 entries (33.3%) is outside what float64 arithmetic can explain; ...
    >>> check(z, y, grad=2.0 * (a - np.eye(3)[y]), upstream=2.0).checks[-1].name
    'grad'

    """
    given = {
        "logits": logits,
        "labels": labels,
        "grad": grad,
        "probs": probs,
        "log-probs": log_probs,
        "loss": loss,
        "grad-probs": grad_probs,
        "upstream": upstream,
        "class-weights": class_weights,
    }
    settings = _settings(options)
    return _checked({role: value for role, value in given.items() if value is not None}, settings, drawn=True)


def assert_gradient(
    logits: Given, labels: Given | None = None, grad: Given | None = None, **rest: Any
) -> None:
    """Raise AssertionError, with the report of the command as its text, unless every check passes.

    Takes what :func:`check` takes, and needs something to judge.

    Examples
    --------
    >>> import numpy as np
    >>> from gradcheck_cli import assert_gradient
    >>> z, y = np.array([[0.5, 2.5, -1.0]]), np.array([1])
    >>> a = np.exp(z) / np.exp(z).sum()
    >>> assert_gradient(z, y, a - np.eye(3)[y])
    >>> assert_gradient(z, y, np.eye(3)[y] - a)
    Traceback (most recent call last):
    AssertionError: FAIL  grad: all 3 entries are outside what float64 arithmetic can explain; ...

    """
    found = check(logits, labels, grad=grad, **rest)
    if not any(each.exported for each in found.checks):
        raise UsageError("assert_gradient: there is nothing to judge; hand over grad, or probs, loss, ...")
    if not found.passed:
        raise AssertionError(str(found))


def _settings(options: Mapping[str, Any]) -> Settings:
    known = [each.name for each in fields(Settings)]
    for name in options:
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            meant = f". Did you mean {near[0]!r}?" if near else ""
            raise TypeError(f"there is no option {name!r}{meant}")
    return Settings(**{"threads": 1, **options})


def _checked(given: dict[str, Any], settings: Settings, *, drawn: bool) -> Result:
    """Open what was given and check it; NumPy is imported from here on."""
    from gradcheck_cli.bundles import open_bundle, open_inputs  # noqa: PLC0415 - lazy
    from gradcheck_cli.check import check as examine  # noqa: PLC0415
    from gradcheck_cli.names import USUAL  # noqa: PLC0415
    from gradcheck_cli.reading import CONTENT  # noqa: PLC0415
    from gradcheck_cli.tensors.arrays import tensor_of  # noqa: PLC0415

    scalars = _scalars(given, settings)
    paths = {role: os.fspath(each) for role, each in given.items() if isinstance(each, (str, os.PathLike))}
    with contextlib.ExitStack() as opened:
        tensors: dict[str, Tensor] = {}
        if "labels" not in given:
            if "logits" not in paths:
                raise UsageError("labels are missing: only a path to a bundle is enough alone")
            roles = [role for role in _OF_BUNDLE if role == "logits" or role not in {*given, *scalars}]
            tensors = open_bundle(paths.pop("logits"), roles, CONTENT, opened)
        tensors |= open_inputs(paths, CONTENT, opened)
        for role, each in given.items():
            if role not in {*tensors, *scalars}:
                tensors[role] = opened.enter_context(tensor_of(each, role))
        _refuse_idle(settings, (*tensors, *scalars))
        ordered = {role: tensors[role] for role in USUAL if role in tensors}
        return Result(**vars(examine(ordered, scalars, settings, drawn=drawn)))


def _scalars(given: dict[str, Any], settings: Settings) -> dict[str, Scalar]:
    """Return the inputs that are numbers, as if typed; a loss that is a float32 stays with the arrays."""
    import numpy as np  # noqa: PLC0415 - lazy

    from gradcheck_cli.exports import Scalar  # noqa: PLC0415

    scalars = {}
    for role in _NUMBERS:
        value = given.get(role)
        if not isinstance(value, (int, float)) or isinstance(value, np.generic):
            continue
        if role == "loss" and float(np.float32(value)) == value:
            given[role] = np.float32(value)  # what .item() of a float32 gives
        else:
            scalars[role] = Scalar.parse(repr(value), settings.compute_dtype)
    return scalars


def _refuse_idle(settings: Settings, roles: Sequence[str]) -> None:
    """Refuse options on how to judge where nothing is there to be judged."""
    for name in ("rtol", "atol", "compute_dtype"):
        if getattr(settings, name) is not None and not any(role in _JUDGED for role in roles):
            raise UsageError(f"{name} has no effect without something to judge (grad ...)")
