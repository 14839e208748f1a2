"""``softgrad batch``: many cases; what was typed becomes a plan, and the reports are written at the end."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from gradcheck_cli.cli.console import painted, pour
from gradcheck_cli.cli.destinations import Destination, destinations
from gradcheck_cli.cli.grouped import GroupedOption
from gradcheck_cli.cli.live import Live
from gradcheck_cli.cli.options import (
    GroupedCommand,
    reading_options,
    refuse_quiet_machine,
    reports_options,
    settings_options,
    show_settings_option,
)
from gradcheck_cli.errors import UsageError
from gradcheck_cli.settings import Settings

if TYPE_CHECKING:
    from gradcheck_cli.batch.case import Case, Found
    from gradcheck_cli.batch.discover import Told
    from gradcheck_cli.batch.journal import Journal
    from gradcheck_cli.batch.run import Executor, Plan
    from gradcheck_cli.batch.store import Store
    from gradcheck_cli.summary import Summary

BATCH = "The batch"

EPILOG = """\b
Examples:
  softgrad batch dumps/
      every logits and labels side by side, in all folders below
  softgrad batch dumps/ --dry-run
      which files would be checked together?
  softgrad batch cases.toml --jobs 8 --report junit=softgrad.xml
      a manifest, on eight processors, with a report for the CI server
  softgrad batch dumps/ --journal run.journal --resume
      go on where a killed run stopped

\b
Exit status: 0 every case passed, 1 an exported tensor is wrong,
2 a case could not be checked or decided, 3 a bug in softgrad."""


@click.command(cls=GroupedCommand, epilog=EPILOG)
@click.argument("paths", nargs=-1, required=True, metavar="PATH...", type=click.Path())
@click.option(
    "--dry-run",
    cls=GroupedOption,
    group=BATCH,
    is_flag=True,
    configurable=False,
    help="Show which files belong together, and check nothing.",
)
@click.option(
    "--allow-outside",
    cls=GroupedOption,
    group=BATCH,
    is_flag=True,
    help="Let a manifest name files outside its folder.",
)
@click.option(
    "--jobs",
    cls=GroupedOption,
    group=BATCH,
    type=click.IntRange(1, 4096),
    metavar="N",
    help="Processes to run cases in. Default: one for each processor available.",
)
@click.option(
    "--timeout",
    cls=GroupedOption,
    group=BATCH,
    metavar="S",
    type=click.FloatRange(0, min_open=True),
    help="Seconds that a case may take.",
)
@click.option(
    "--fail-fast", cls=GroupedOption, group=BATCH, is_flag=True, help="Stop at the first wrong case."
)
@click.option(
    "--shard",
    cls=GroupedOption,
    group=BATCH,
    metavar="I/N",
    help="Run every N-th case only, from the I-th on; softgrad merge puts the parts together.",
)
@click.option(
    "--scheduler",
    cls=GroupedOption,
    group=BATCH,
    metavar="ADDRESS",
    help="Run on the Dask cluster of this scheduler, tcp://host:port, which must see the same files.",
)
@click.option(
    "--journal",
    cls=GroupedOption,
    group=BATCH,
    metavar="FILE",
    type=click.Path(),
    help="Keep every result on disk at once, so that a killed run can go on.",
)
@click.option(
    "--resume",
    cls=GroupedOption,
    group=BATCH,
    is_flag=True,
    help="Take over from the journal what is done and has not changed.",
)
@settings_options(Settings)
@reading_options
@reports_options
@show_settings_option
@click.pass_context
def batch(ctx: click.Context, /, paths: tuple[str, ...], **typed: Any) -> int:
    """Check many cases, and report on them together.

    A PATH is a folder, which is searched with all folders below, a bundle, or a TOML manifest. Files belong
    together by their usual names: logits.npy, labels.npy and grad.npy in a folder, or step12_logits.npy
    with step12_labels.npy and step12_grad.npy. Options apply to every case, and win over a manifest.
    """
    from gradcheck_cli.batch.discover import discover  # noqa: PLC0415 - start-up

    if typed["resume"] and typed["journal"] is None:
        raise UsageError("--resume needs --journal FILE: the results of the run that was stopped")
    refuse_quiet_machine(typed)
    found = discover(paths, _told(ctx, typed))
    if typed["dry_run"]:
        found = replace(found, cases=tuple(found.cases[n] for n in _plan(found.cases, [], typed).numbers))
        pour(_paired(found), for_people=True)
        return 2 if any(case.refusal for case in found.cases) else 0
    written = destinations(typed["report"])
    return _run(_plan(found.cases, written, typed), written, typed)


def _told(ctx: click.Context, typed: dict[str, Any]) -> Told:
    """Return the options of cases that were said at all, apart by who said them."""
    from gradcheck_cli.batch.discover import Told  # noqa: PLC0415 - start-up
    from gradcheck_cli.batch.kinds import KINDS  # noqa: PLC0415

    said: dict[bool, dict[str, Any]] = {True: {}, False: {}}
    known = frozenset().union(*(kind.options for kind in KINDS.values()))
    for name in sorted(known & typed.keys()):
        source = ctx.get_parameter_source(name)
        if source is not ParameterSource.DEFAULT:
            said[source is ParameterSource.COMMANDLINE][name] = typed[name]
    return Told(said[True], said[False], typed["allow_outside"])


def _plan(cases: tuple[Case, ...], written: list[Destination], typed: dict[str, Any]) -> Plan:
    from gradcheck_cli.batch.result import How  # noqa: PLC0415 - start-up
    from gradcheck_cli.batch.run import Plan, shard_of, share_of_processors  # noqa: PLC0415
    from gradcheck_cli.workers import processors  # noqa: PLC0415

    jobs = min(typed["jobs"] or processors(), len(cases))
    return Plan(
        cases=cases,
        how=How(
            share_of_processors(jobs, processors()),
            pictures="html" in (typed["form"], *(each.form for each in written)),
            lines=bool(written or typed["journal"]) or (typed["form"] != "table" and not typed["quiet"]),
        ),
        jobs=jobs,
        timeout=typed["timeout"],
        fail_fast=typed["fail_fast"],
        shard=None if typed["shard"] is None else shard_of(typed["shard"]),
    )


def _run(plan: Plan, written: list[Destination], typed: dict[str, Any]) -> int:
    """Run the plan, and write what it came to."""
    from gradcheck_cli.batch.run import run  # noqa: PLC0415 - start-up
    from gradcheck_cli.batch.store import Store  # noqa: PLC0415

    with contextlib.closing(Store()) as store, contextlib.ExitStack() as opened:
        journal = _journal(typed, opened)
        with Live(quiet=bool(typed["quiet"])) as live:
            summary = run(plan, _executor(plan, live, typed["scheduler"]), store, live, journal)
        report(store, summary, written, typed)
    return summary.exit_code


def _executor(plan: Plan, live: Live, scheduler: str | None) -> Executor:
    if scheduler is None:
        from gradcheck_cli.batch.run import local  # noqa: PLC0415 - start-up

        return local(plan, live)
    from gradcheck_cli.batch.cluster import cluster  # noqa: PLC0415 - start-up

    return cluster(plan, scheduler, live)


def _journal(typed: dict[str, Any], opened: contextlib.ExitStack) -> Journal | None:
    if typed["journal"] is None:
        return None
    from gradcheck_cli.batch.journal import Journal  # noqa: PLC0415 - start-up

    return opened.enter_context(contextlib.closing(Journal(typed["journal"], resume=typed["resume"])))


def report(store: Store, summary: Summary, written: list[Destination], typed: dict[str, Any]) -> None:
    """Write the reports to their files and the one that was asked for to standard output."""
    from gradcheck_cli.report.forms import pieces  # noqa: PLC0415 - start-up

    for each in written:
        each.write(pieces(each.form, store.documents(), summary))
    if typed["quiet"] < 2:
        people = typed["form"] == "table" or bool(typed["quiet"])
        pour(_shown(store, summary, typed), for_people=people)


def _shown(store: Store, summary: Summary, typed: dict[str, Any]) -> Iterator[str]:
    """Yield what goes to standard output."""
    from gradcheck_cli.report.forms import pieces  # noqa: PLC0415 - start-up
    from gradcheck_cli.report.words import STATES, headline, verdict_of  # noqa: PLC0415

    if typed["quiet"]:
        yield f"{STATES[verdict_of(summary)]} {headline(summary)}\n"
    elif typed["form"] != "table":
        yield from pieces(typed["form"], store.documents(), summary)
    else:
        from gradcheck_cli.report.cases import LISTED, render  # noqa: PLC0415
        from gradcheck_cli.summary import KEPT  # noqa: PLC0415

        listed = KEPT if typed["verbose"] else LISTED
        yield painted(lambda width: render(summary, width=width, listed=listed), typed["color"])


def _paired(found: Found) -> Iterator[str]:
    """Yield what belongs together, a case after the other."""
    from gradcheck_cli.report.numbers import many  # noqa: PLC0415 - start-up
    from gradcheck_cli.visible import visible  # noqa: PLC0415

    for case in found.cases:
        yield f"{visible(case.name)} ({case.command})\n"
        yield "".join(f"  {role:<12} {visible(path)}\n" for role, path in case.files)
        options = ", ".join(f"{name} = {value}" for name, value in case.options)
        yield f"  {'options':<12} {visible(options)}\n" if options else ""
        yield f"  refused: {visible(case.refusal)}\n" if case.refusal else ""
    for path in found.unused:
        yield f"not used: {visible(path)}\n"
    refused = sum(case.refusal is not None for case in found.cases)
    yield f"{many(len(found.cases), 'case', 'cases')}" + (f", {refused} refused" if refused else "") + "\n"
