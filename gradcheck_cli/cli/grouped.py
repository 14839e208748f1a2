"""An option that stands under a heading, and has a variable of the environment where it can be set once."""

from __future__ import annotations

from typing import Any

import click
from click.core import ParameterSource

OUTPUT = "Output"


class GroupedOption(click.Option):
    """An option that knows the heading it stands under, and whether it can be set once for all runs."""

    def __init__(
        self, *args: Any, group: str = OUTPUT, configurable: bool | None = None, **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self.group = group
        single = not (self.multiple or self.count)
        self.configurable = single if configurable is None else configurable
        if self.configurable:
            self.envvar = variable_of(self)

    def get_error_hint(self, ctx: click.Context | None) -> str:
        """Return what a mistake is told of: the flag, or the variable where the value came from there."""
        source = None if ctx is None else ctx.get_parameter_source(self.name or "")
        return variable_of(self) if source is ParameterSource.ENVIRONMENT else super().get_error_hint(ctx)


def variable_of(option: click.Option) -> str:
    """Return the variable of the environment that stands for an option: ``SOFTGRAD_IGNORE_INDEX``."""
    longest: str = max(option.opts, key=len)
    return "SOFTGRAD_" + longest.strip("-").replace("-", "_").upper()
