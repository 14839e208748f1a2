"""Click options made from the fields of Settings: an option is defined there, once."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import Field, fields
from typing import Any

import click

from gradcheck_cli.cli.grouped import OUTPUT, GroupedOption
from gradcheck_cli.errors import UsageError
from gradcheck_cli.reading import Reading
from gradcheck_cli.settings import Limits, Words, flag_of, words_of

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]

_TYPES: dict[str, Any] = {"int": int, "float": float, "str": str, "bool": bool, "tuple[str, ...]": str}


SHOW_SETTINGS = "show_settings"

_LIBRARIES = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")
"""Variables of the libraries behind NumPy, which start their threads as soon as it is imported."""


class GroupedCommand(click.Command):
    """A command whose help lists its options under their headings, and that can show what is set."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse what was typed; where only the settings are asked for, no file is needed."""
        asked = [each for each in self.params if each.name == SHOW_SETTINGS]
        typed = args[: args.index("--")] if "--" in args else args
        if not asked or asked[0].opts[0] not in typed:
            return self._parsed(ctx, args)
        needed = [each for each in self.params if isinstance(each, click.Argument) and each.required]
        for each in needed:
            each.required = False
        try:
            return super().parse_args(ctx, args)
        finally:
            for each in needed:
                each.required = True

    def _parsed(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse what was typed; say how something that is missing is written, and what else was meant."""
        try:
            return super().parse_args(ctx, args)
        except click.MissingParameter as error:
            told = f"{error.format_message().rstrip('.')}, as in: {self._example}"
            raise click.UsageError(told, ctx) from error
        except click.BadOptionUsage as error:
            option = next((each for each in self.params if error.option_name in each.opts), None)
            form = option.make_metavar(ctx) if option is not None else ""
            raise click.UsageError(f"{error.message.rstrip('.')}: {error.option_name} {form}", ctx) from error
        except click.BadParameter as error:
            if error.param is None or error.param.name != "reduction":
                raise
            told = "softgrad help conventions has the names of other programs"
            raise click.UsageError(f"{error.format_message()} {told}", ctx) from error
        except click.UsageError as error:
            judged = any("--grad" in each.opts for each in self.params)
            if judged and "unexpected extra argument" in error.message:
                told = f"{error.message}; what is to be judged is named by a flag, as in --grad FILE"
                raise click.UsageError(told, ctx) from error
            raise

    @property
    def _example(self) -> str:
        """Return the first example of the help."""
        lines = [line.strip() for line in (self.epilog or "").splitlines()]
        return next(line for line in lines if line.startswith("softgrad "))

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command, or show its settings.

        The work is spread over processes. A matrix product that is spread over threads in each of them is
        several times slower, and threads that wait for one take a core away, so the libraries are asked for
        one thread, unless the user set them.
        """
        for each in _LIBRARIES:
            os.environ.setdefault(each, "1")
        if not ctx.params.pop(SHOW_SETTINGS, False):
            return super().invoke(ctx)
        from gradcheck_cli.cli.configuration import shown  # noqa: PLC0415 - it needs this module
        from gradcheck_cli.cli.console import pour  # noqa: PLC0415

        pour(shown(ctx, ctx.obj), for_people=True)
        return 0

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
    return click.option(
        flag, cls=GroupedOption, group=group, metavar=metavar, help=words, multiple=True, type=click.Path()
    )


FORMATS = ("table", "json", "jsonl", "junit", "github", "markdown", "csv", "html")


def output_options(
    *forms: str, verbose: str = "Every setting, worst entries of passing checks too."
) -> Decorator:
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
            "-v", "--verbose", cls=GroupedOption, is_flag=True, help=verbose,
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


show_settings_option = click.option(
    "--show-settings", SHOW_SETTINGS, cls=GroupedOption, is_flag=True, configurable=False,
    help="Show every option that can be set in a file, its value and who set it, and do nothing else.",
)  # fmt: skip

report_option = click.option(
    "--report", cls=GroupedOption, multiple=True, metavar="FORMAT=FILE",
    help="Write a report to a file as well: json, jsonl, junit, github, markdown, csv or html. Repeatable.",
)  # fmt: skip


def reports_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options on what is written where to a command that reports on cases."""
    shown = output_options(*FORMATS, verbose="List up to 1,000 cases that did not pass, in place of 20.")
    return shown(report_option(function))


def refuse_quiet_machine(typed: dict[str, Any]) -> None:
    """Refuse to be quiet in a format for programs."""
    if typed["quiet"] and typed["form"] != "table":
        raise UsageError(f"-q and --format {typed['form']} contradict each other: give only one of them")
