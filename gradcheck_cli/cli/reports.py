"""Report files beside standard output, for a command that makes one outcome."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any

from gradcheck_cli.errors import SoftgradError
from gradcheck_cli.reading import Reading
from gradcheck_cli.settings import Settings

if TYPE_CHECKING:
    from gradcheck_cli.batch.case import Case
    from gradcheck_cli.cli.destinations import Destination
    from gradcheck_cli.outcome import Outcome

ENTIRE = ("csv", "json", "jsonl")
"""Formats that programs read, with all there is."""


class Reports:
    """The files of ``--report``: found writable first, written last, also where nothing could be checked.

    A report of an earlier run that stays because this one failed would be taken for this one's.
    """

    def __init__(
        self, texts: Sequence[str], command: str, files: Mapping[str, str], options: Mapping[str, Any]
    ) -> None:
        self._written = _opened(texts)
        self._command, self._files, self._options = command, files, options

    def __enter__(self) -> Reports:
        """Return itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Report an error that stopped the command as one of the case."""
        if not self._written or not isinstance(error, SoftgradError):
            return
        import json  # noqa: PLC0415 - start-up

        from gradcheck_cli.batch.result import failed  # noqa: PLC0415
        from gradcheck_cli.report.single import alone  # noqa: PLC0415

        found = json.loads(failed(self._case, 0, str(error), cause="input", seconds=0.0).line)
        for each in self._written:
            each.write(alone(each.form, found))

    @property
    def pictured(self) -> bool:
        """Whether one of the reports has pictures."""
        return any(each.form == "html" for each in self._written)

    def ask_for(self, forms: Container[str]) -> bool:
        """Tell whether one of the reports has one of these formats."""
        return any(each.form in forms for each in self._written)

    def write(self, outcome: Outcome, brief: Outcome | None = None) -> None:
        """Write every report of an outcome; those that are for people tell the brief one, if there is one."""
        if not self._written:
            return
        from gradcheck_cli.report.single import single  # noqa: PLC0415 - start-up

        for each in self._written:
            told = outcome if brief is None or each.form in ENTIRE else brief
            each.write(single(each.form, told))

    @property
    def _case(self) -> Case:
        from gradcheck_cli.batch.case import Case  # noqa: PLC0415 - start-up

        known = Settings().in_force() | Reading().in_force()
        options = {name: value for name, value in self._options.items() if name in known}
        name = next(iter(self._files.values()))  # the first that was typed: logits, or the inputs of a layer
        return Case(name, self._command, tuple(self._files.items()), tuple(options.items()))


def _opened(texts: Sequence[str]) -> list[Destination]:
    """Return what ``--report`` names, found writable."""
    if not texts:
        return []
    from gradcheck_cli.cli.destinations import destinations  # noqa: PLC0415 - start-up

    return destinations(texts)
