"""Click options made from the fields of Settings: an option is defined there, once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import Field, fields
from typing import Any

import click

from gradcheck_cli.reading import Reading
from gradcheck_cli.settings import Limits, Words, flag_of, words_of

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]

_TYPES: dict[str, Any] = {"int": int, "float": float, "str": str, "bool": bool, "tuple[str, ...]": str}


OUTPUT = "Output"


class GroupedOption(click.Option):
    """An option that knows the heading it stands under."""

    def __init__(self, *args: Any, group: str = OUTPUT, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.group = group


class GroupedCommand(click.Command):
    """A command whose help lists its options under their headings."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write one section for each heading, in the order of the options."""
        sections: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None and isinstance(parameter, click.Option):
                sections.setdefault(getattr(parameter, "group", OUTPUT), []).append(record)
        sections[OUTPUT] = sections.pop(OUTPUT)  # last: what the others are about comes first
        for heading, records in sections.items():
            with formatter.section(heading):
                formatter.write_dl(records)


def settings_options(settings: type[Limits]) -> Decorator:
    """Return what adds every option of a record of settings to a command, in the order of the fields."""

    def add(function: Callable[..., Any]) -> Callable[..., Any]:
        for each in reversed(fields(settings)):  # type: ignore[arg-type]  # the records are dataclasses
            function = _option(each)(function)
        return function

    return add


def reading_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add every option of Reading to a command, in the order of the fields."""
    for each in reversed(fields(Reading)):
        function = _option(each)(function)
    return function


def _option(each: Field[Any]) -> Decorator:
    words: Words = words_of(each)
    flag, typed = flag_of(each.name), str(each.type).split(" | ")[0]
    if str(each.type) == "bool":
        return click.option(flag, cls=GroupedOption, group=words.group, is_flag=True, help=words.help)
    if typed == "bool":  # three states: yes, no, and neither was said
        flag = f"{flag}/--no-{flag[2:]}"
    kind = click.Choice(words.choices) if words.choices else _TYPES[typed]
    return click.option(
        flag,
        each.name,
        cls=GroupedOption,
        group=words.group,
        type=kind,
        default=each.default,
        show_default=each.default not in (None, ()),
        multiple=typed.startswith("tuple"),
        metavar=words.metavar,
        help=words.help,
    )


def file_option(flag: str, words: str, *, group: str, metavar: str = "FILE") -> Decorator:
    """Add an option that names a tensor (or a number, where the metavar says so).

    Click keeps the last of an option that is given twice; the command sees all, and refuses them.
    """
    return click.option(flag, cls=GroupedOption, group=group, metavar=metavar, help=words, multiple=True)


def output_options(*forms: str) -> Decorator:
    """Return what adds the options on how the outcome is shown, in one of these forms."""
    added = (
        click.option(
            "-f", "--format", "form", cls=GroupedOption, type=click.Choice(forms),
            default=forms[0], show_default=True, help="What is written to standard output.",
        ),
        click.option(
            "-q", "--quiet", cls=GroupedOption, count=True, help="Verdict line only; -qq: exit code only."
        ),
        click.option(
            "-v", "--verbose", cls=GroupedOption, is_flag=True,
            help="Every setting, worst entries of passing checks too.",
        ),
        click.option(
            "--color", cls=GroupedOption, type=click.Choice(("auto", "always", "never")), default="auto",
            show_default=True, help="When to colour the report; auto heeds NO_COLOR.",
        ),
    )  # fmt: skip

    def add(function: Callable[..., Any]) -> Callable[..., Any]:
        for each in reversed(added):
            function = each(function)
        return function

    return add
