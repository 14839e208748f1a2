"""``softgrad merge``: the results of several runs, written as one report."""

from __future__ import annotations

import contextlib
from typing import Any

import click

from gradcheck_cli.cli.batch import report
from gradcheck_cli.cli.destinations import destinations
from gradcheck_cli.cli.options import GroupedCommand, refuse_quiet_machine, reports_options

EPILOG = """\b
Examples:
  softgrad merge shard-*.jsonl
      the shards of one batch, as if it had run in one place
  softgrad merge a.json b.json --report html=softgrad.html
      two batches in one page

\b
Exit status: 0 every case passed, 1 an exported tensor is wrong,
2 a case could not be checked or decided, 3 a bug in softgrad."""


@click.command(cls=GroupedCommand, epilog=EPILOG)
@click.argument("results", nargs=-1, required=True, metavar="RESULTS...", type=click.Path())
@reports_options
def merge(results: tuple[str, ...], **typed: Any) -> int:
    """Put the JSON or JSON-lines reports of several batches together.

    A missing shard, a report that was cut off, and a case that comes twice are refused. The exit status is
    that of the whole.
    """
    from gradcheck_cli.batch.merge import merge as put_together  # noqa: PLC0415 - start-up
    from gradcheck_cli.batch.store import Store  # noqa: PLC0415

    refuse_quiet_machine(typed)
    written = destinations(typed["report"])
    with contextlib.closing(Store()) as store:
        summary = put_together(results, store)
        report(store, summary, written, typed)
    return summary.exit_code
