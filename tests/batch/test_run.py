"""A batch in processes: what dies or hangs costs its own case, and a killed run goes on where it was."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gradcheck_cli.batch.case import Case
from gradcheck_cli.batch.discover import Told, discover
from gradcheck_cli.batch.journal import Journal
from gradcheck_cli.batch.kinds import examine
from gradcheck_cli.batch.pool import Pool, Reply
from gradcheck_cli.batch.result import How, result_of
from gradcheck_cli.batch.run import Plan, local, run, shard_of
from gradcheck_cli.batch.store import Store
from gradcheck_cli.errors import InputError, OutputError, UsageError
from gradcheck_cli.summary import Head, Summary
from tests.batch.conftest import gradient, make_case
from tests.cli.conftest import Run, command


class Silent:
    """Watches and keeps what it was told."""

    def __init__(self) -> None:
        self.heads: list[Head] = []
        self.retried: list[tuple[str, str]] = []

    def begin(self, summary: Summary) -> None:
        """Nothing to show."""

    def finished(self, head: Head) -> None:
        """Keep it."""
        self.heads.append(head)

    def again(self, case: Case, reason: str) -> None:
        """Keep it."""
        self.retried.append((case.name, reason))

    def tick(self) -> None:
        """Nothing to draw."""


def told(plan: Plan, journal: Journal | None = None) -> tuple[Summary, list[dict[str, Any]]]:
    """Run a plan here; return the summary and the documents without what differs from run to run."""
    watch = Silent()
    with contextlib.closing(Store()) as store:
        summary = run(plan, local(plan, watch), store, watch, journal)
        return summary, [timeless(each) for each in store.documents()]


def timeless(document: dict[str, Any]) -> dict[str, Any]:
    """Return a case without its time."""
    return {key: value for key, value in document.items() if key != "seconds"}


def test_every_case_is_judged_and_one_that_cannot_be_read_stops_nothing(plan: Plan) -> None:
    summary, documents = told(plan)
    assert dict(summary.counts) == {"pass": 7, "fail": 1, "error": 1}
    assert [each["case"] for each in documents] == [case.name for case in plan.cases]
    assert documents[3]["verdict"] == "fail"
    assert "grad: all 40 entries are outside" in documents[3]["message"]
    assert "cut off" in documents[8]["error"]
    assert summary.exit_code == 1
    assert summary.worst is not None
    assert summary.worst.number == 3


def test_a_small_case_is_audited_in_passing_and_a_large_one_whole(tmp_path: Path) -> None:
    for number in range(12):
        make_case(tmp_path / "small", f"{number}_", number)
    make_case(tmp_path / "large", "a_", 1, rows=4000)
    found = {}
    for size in ("small", "large"):
        cases = discover([str(tmp_path / size)], Told({}, {})).cases
        found[size] = [{c["name"]: c for c in d["checks"]} for d in told(Plan(cases, How()))[1]]
    assert {(each["forward"]["entries"], each["audit"]["entries"]) for each in found["small"]} == {(5, 2)}
    rows = {worst["index"][0] for each in found["small"] for worst in each["audit"]["worst"]}
    assert len(rows) > 3  # not the same row in all
    assert found["large"][0]["forward"]["entries"] == 40
    assert found["large"][0]["audit"]["entries"] == 24


def test_a_row_that_is_ignored_is_not_the_only_one_audited(tmp_path: Path) -> None:
    for number in range(6):
        make_case(tmp_path / "c", f"{number}_", number)
        labels = np.full(8, -100)
        labels[number] = 1
        np.save(tmp_path / "c" / f"{number}_labels.npy", labels)
        (tmp_path / "c" / f"{number}_grad.npy").unlink()
    summary, documents = told(Plan(discover([str(tmp_path / "c")], Told({}, {})).cases, How()))
    assert summary.counts["pass"] == 6
    assert all(each["checks"][2]["entries"] == 2 for each in documents)
    assert summary.document()["nothing_judged"] == 6


def test_the_number_of_processes_changes_nothing(plan: Plan) -> None:
    assert told(plan)[1] == told(replace(plan, jobs=1))[1]


def test_a_bundle_is_a_case_and_its_members_may_be_named(tmp_path: Path) -> None:
    make_case(tmp_path / "one", "", 1, wrong=True)
    arrays = {name: np.load(tmp_path / "one" / f"{name}.npy") for name in ("logits", "labels", "grad")}
    np.savez(
        tmp_path / "one" / "dump.npz", logits=arrays["logits"], y=arrays["labels"], dlogits=arrays["grad"]
    )
    np.savez(tmp_path / "one" / "odd.npz", **{name.upper() + "_": array for name, array in arrays.items()})
    (tmp_path / "one" / "m.toml").write_text(
        '[[case]]\nlogits = "odd.npz:LOGITS_"\nlabels = "odd.npz:LABELS_"\ngrad = "odd.npz:GRAD_"\n'
    )
    paths = [str(tmp_path / "one"), str(tmp_path / "one" / "m.toml")]
    _, documents = told(Plan(discover(paths, Told({}, {})).cases, How()))
    assert [each["verdict"] for each in documents] == ["fail", "fail", "error", "fail"]
    assert "has no logits by a usual name" in documents[2]["error"]
    assert documents[1]["checks"][-1] == documents[0]["checks"][-1]
    assert documents[1]["inputs"]["grad"]["member"] == "dlogits"


def test_a_case_may_be_a_layer_or_a_linear_map(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    z, t, x = (rng.normal(size=(6, 4)).astype(np.float32) for _ in range(3))
    a = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
    w, labels = rng.normal(size=(4, 3)).astype(np.float32), rng.integers(0, 3, 6)
    dw = x.T @ gradient(x @ w, labels)
    arrays = {
        "layer_logits": z, "layer_upstream": t, "layer_grad": (t - (t * a).sum(axis=1, keepdims=True)) * a,
        "dense_inputs": x, "dense_labels": labels, "dense_weight": w, "dense_dweight": dw,
        "off_inputs": x, "off_labels": labels, "off_weight": w, "off_dweight": dw * np.float32(6),
    }  # fmt: skip
    for name, array in arrays.items():
        np.save(tmp_path / f"{name}.npy", array)
    (tmp_path / "m.toml").write_text(
        '[defaults]\ncommand = "linear"\nreduction = "sum"\n[[case]]\ninputs = "off_inputs.npy"\n'
        'labels = "off_labels.npy"\nweight = "off_weight.npy"\ngrad-weight = "off_dweight.npy"\n'
    )
    found = discover([str(tmp_path), str(tmp_path / "m.toml")], Told({}, {})).cases
    assert [case.command for case in found] == ["linear", "vjp", "linear", "linear"]
    summary, documents = told(Plan(found, How()))
    assert [each["verdict"] for each in documents] == ["pass", "pass", "fail", "pass"]
    assert [each["command"] for each in documents] == [case.command for case in found]
    assert summary.unjudged == 0


def test_fail_fast_stops_and_says_what_was_not_run(plan: Plan) -> None:
    summary, _ = told(replace(plan, fail_fast=True, jobs=1))
    assert summary.counts["fail"] == 1
    assert summary.done < len(plan.cases)
    assert summary.document()["not_run"] == len(plan.cases) - summary.done


def test_nothing_that_was_not_run_passes() -> None:
    assert Summary(0).exit_code == 2
    summary = Summary(2)
    summary.add(Head("a", 0, "pass", "", judged=True))
    assert summary.exit_code == 2
    summary.add(Head("b", 1, "pass", "", judged=True))
    assert summary.exit_code == 0


@pytest.mark.parametrize(
    ("verdicts", "code"),
    [
        (["pass", "error"], 2),
        (["fail", "error"], 1),
        (["inconclusive"], 2),
        (["pass", "fail", "inconclusive"], 1),
    ],
)  # fmt: skip
def test_wrong_wins_over_what_could_not_be_checked(verdicts: list[str], code: int) -> None:
    summary = Summary(len(verdicts))
    for number, verdict in enumerate(verdicts):
        summary.add(Head(str(number), number, verdict, ""))
    assert summary.exit_code == code


# The pool, with work that does what files cannot be made to do.


def replies(pool: Pool, numbers: range, patience: float = 20.0) -> dict[int, Reply]:
    """Run a pool, which must not take longer than it may."""
    began = time.monotonic()
    found: dict[int, Reply] = {}
    for reply in pool.run(numbers):
        assert reply.number not in found
        found[reply.number] = reply
        assert time.monotonic() - began < patience
    return found


@pytest.mark.parametrize("jobs", [1, 3])
def test_O09_a_worker_that_is_killed_costs_its_case_and_that_is_tried_once_more(jobs: int) -> None:
    retried: list[int] = []

    def work(number: int) -> bytes:
        if number == 5:
            os.kill(os.getpid(), signal.SIGKILL)
        return str(number).encode()

    found = replies(Pool(work, jobs, say=lambda number, _: retried.append(number)), range(40))
    assert sorted(found) == list(range(40))
    assert all(found[n].told == str(n).encode() for n in range(40) if n != 5)
    assert found[5].cause == "crash"
    assert "died twice, of signal 9 (out of memory?)" in (found[5].lost or "")
    assert retried == [5]


def test_a_worker_that_dies_once_has_its_case_done_the_second_time(tmp_path: Path) -> None:
    mark = tmp_path / "was here"

    def work(number: int) -> bytes:
        if number == 2 and not mark.exists():
            mark.touch()
            os._exit(3)
        return b"done"

    found = replies(Pool(work, 2), range(6))
    assert all(each.told == b"done" for each in found.values())
    assert len(found) == 6


def test_O14_a_case_that_hangs_is_ended_by_the_clock_and_the_others_are_done() -> None:
    def work(number: int) -> bytes:
        if number == 1:
            time.sleep(60)
        return b"done"

    found = replies(Pool(work, 2, timeout=0.5), range(10), patience=10.0)
    assert found[1].cause == "timeout"
    assert "not done after 0.5 s (--timeout)" in (found[1].lost or "")
    assert [n for n in found if found[n].lost is None] == [n for n in found if n != 1]
    assert len(found) == 10


def test_long_replies_arrive_whole() -> None:
    found = replies(Pool(lambda number: bytes([number]) * 3_000_000, 2), range(6))
    assert all(found[n].told == bytes([n]) * 3_000_000 for n in range(6))


def test_breaking_off_ends_the_workers() -> None:
    pool = Pool(lambda _: str(os.getpid()).encode(), 2)
    running = pool.run(range(1000))
    process = int(next(running).told)
    running.close()
    with pytest.raises(ProcessLookupError):
        os.kill(process, 0)


def test_workers_end_when_their_parent_is_killed() -> None:
    code = (
        "import os, sys, time\nfrom gradcheck_cli.batch.pool import Pool\n"
        "def work(n):\n"
        "    time.sleep(0.05)\n    return str(os.getpid()).encode()\n"
        "for reply in Pool(work, 3).run(range(10_000)):\n"
        "    print(reply.told.decode(), flush=True)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        workers = {int(line) for line in itertools.islice(running.stdout, 30)}
        running.kill()
    assert len(workers) == 3
    end = time.monotonic() + 10
    while any(_alive(each) for each in workers):
        assert time.monotonic() < end, "workers outlive their parent"
        time.sleep(0.05)


def _alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().split(") ")[1][0] != "Z"
    except OSError:
        return False


def test_a_crash_reaches_the_report(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    def deadly(case: Case, number: int, how: Any) -> Any:
        if number == 4:
            os.kill(os.getpid(), signal.SIGKILL)
        return result_of(case, number, how)

    monkeypatch.setattr("gradcheck_cli.batch.run.result_of", deadly)
    watch = Silent()
    with contextlib.closing(Store()) as store:
        summary = run(plan, local(plan, watch), store, watch, None)
        found = list(store.documents())[4]
    assert found["verdict"] == "error"
    assert "died twice, of signal 9" in found["error"]
    assert [name for name, _ in watch.retried] == [plan.cases[4].name]
    assert summary.counts["pass"] == 6


def test_O10_a_case_that_needs_more_memory_than_there_is_costs_itself_alone(
    plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = examine

    def greedy(case: Case, threads: int, *, drawn: bool) -> Any:
        if case.name.endswith("c2"):
            raise MemoryError
        return real(case, threads, drawn=drawn)

    monkeypatch.setattr("gradcheck_cli.batch.result.examine", greedy)
    summary, documents = told(plan)
    assert documents[2]["error"] == "out of memory"
    assert (summary.causes["memory"], summary.counts["pass"]) == (1, 6)


def test_a_bug_in_softgrad_is_told_apart(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any, **__: Any) -> Any:
        raise ZeroDivisionError("planted")

    monkeypatch.setattr("gradcheck_cli.batch.result.examine", broken)
    summary, documents = told(plan)
    assert "a bug in softgrad: ZeroDivisionError: planted" in documents[0]["error"]
    assert summary.exit_code == 3


# Shards.


def test_shards_have_every_case_once(plan: Plan) -> None:
    numbers = [number for part in (1, 2, 3, 4) for number in replace(plan, shard=(part, 4)).numbers]
    assert sorted(numbers) == list(range(len(plan.cases)))


@pytest.mark.parametrize("text", ["", "1", "0/2", "3/2", "1/0", "a/b", "-1/2", "1/2/3", "1/²"])
def test_a_shard_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--shard"):
        shard_of(text)


# The journal.


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    return tmp_path / "run.journal"


@contextlib.contextmanager
def opened(path: Path, *, resume: bool = True) -> Iterator[Journal]:
    with contextlib.closing(Journal(str(path), resume=resume)) as found:
        yield found


def test_a_journal_has_everything_and_a_second_run_runs_nothing(plan: Plan, journal: Path) -> None:
    with opened(journal, resume=False) as first:
        summary, documents = told(plan, first)
    size = journal.stat().st_size
    with opened(journal) as second:
        again, same = told(plan, second)
    assert journal.stat().st_size == size
    assert same == documents
    assert again.document() == summary.document()


def test_O11_any_prefix_of_a_journal_resumes_to_the_same_report(plan: Plan, journal: Path) -> None:
    """A run can be killed at any byte."""
    with opened(journal, resume=False) as first:
        summary, documents = told(plan, first)
    whole = journal.read_bytes()
    for size in (0, 5, 22, 40, len(whole) // 3, len(whole) // 2, len(whole) - 1):
        journal.write_bytes(whole[:size])
        with opened(journal) as rest:
            again, same = told(plan, rest)
        assert same == documents
        assert again.document() == summary.document()
        assert all(json.loads(line) for line in journal.read_bytes().splitlines())


def test_a_case_that_changed_is_run_again(plan: Plan, journal: Path, cases: Path) -> None:
    with opened(journal, resume=False) as first:
        told(plan, first)
    make_case(cases / "a", "c3_", 33)  # mended
    with opened(journal) as rest:
        summary, documents = told(plan, rest)
    assert summary.counts["fail"] == 0
    assert documents[3]["verdict"] == "pass"


def test_other_options_make_another_case(plan: Plan, journal: Path) -> None:
    with opened(journal, resume=False) as first:
        told(plan, first)
    summed = replace(plan, cases=tuple(replace(c, options=(("reduction", "sum"),)) for c in plan.cases))
    with opened(journal) as rest:
        summary, _ = told(summed, rest)
    assert summary.counts["fail"] == 7


def test_what_a_worker_died_of_is_tried_again(plan: Plan, journal: Path) -> None:
    hurried = replace(plan, timeout=1e-6)
    with opened(journal, resume=False) as first:
        summary, _ = told(hurried, first)
    assert summary.causes["timeout"] == len(plan.cases)
    with opened(journal) as rest:
        summary, _ = told(plan, rest)
    assert summary.counts["pass"] == 7


def test_O12_a_journal_is_not_overwritten_shared_or_taken_for_one(plan: Plan, journal: Path) -> None:
    with opened(journal, resume=False) as first:
        told(plan, first)
        with pytest.raises(OutputError, match="another run is writing"):
            Journal(str(journal), resume=True)
    with pytest.raises(UsageError, match="--resume goes on with it"):
        Journal(str(journal), resume=False)
    letter = journal.with_name("letter.txt")
    letter.write_text("Dear reader,\nyours\n")
    with opened(letter) as wrong, pytest.raises(InputError, match="line 1: this is not a line"):
        wrong.results(plan.cases, plan.numbers, plan.how)
    assert letter.read_text() == "Dear reader,\nyours\n"
    with pytest.raises(OutputError, match="cannot be written"):
        Journal(str(journal.parent), resume=False)


def test_a_worker_that_outlives_its_run_does_not_keep_the_journal(plan: Plan, journal: Path) -> None:
    def work(_: int) -> bytes:
        time.sleep(60)
        return b""

    with opened(journal, resume=False) as first:
        pool = Pool(lambda number: work(number) if number else str(os.getpid()).encode(), 1)
        running = pool.run(range(2))
        worker = int(next(running).told)
        first.add(plan.cases[0], plan.how, result_of(plan.cases[0], 0, plan.how))
    assert _alive(worker)
    with opened(journal) as second:  # as if the first run had been killed
        assert list(second.results(plan.cases, plan.numbers, plan.how)) == [0]
    running.close()


def test_a_run_that_is_killed_goes_on_and_reports_the_same(softgrad: Run, tmp_path: Path) -> None:
    """The real thing: kill -9 of the command and all it has forked, again and again, until it is done."""
    for number in range(24):
        make_case(tmp_path / "many", f"{number}_", number, wrong=number % 7 == 0, rows=200)
    undisturbed = softgrad("batch", "many", "--format", "jsonl", "--jobs", "2")
    assert undisturbed.returncode == 1
    words = [command(), "batch", "many", "--jobs", "2", "--journal", "j", "--resume", "--report", "jsonl=out"]
    killed = 0
    for delay in itertools.chain([0.05, 0.2, 0.3, 0.35, 0.4], itertools.repeat(20.0, 3)):
        with subprocess.Popen(
            words, cwd=tmp_path, start_new_session=True, stdout=subprocess.DEVNULL
        ) as running:
            try:
                code = running.wait(delay)
            except subprocess.TimeoutExpired:
                os.killpg(running.pid, signal.SIGKILL)
                killed += 1
                continue
        break
    assert killed
    assert code == 1
    lines = (tmp_path / "out").read_text().splitlines()
    assert [timeless(json.loads(each)) for each in lines] == [
        timeless(json.loads(each)) for each in undisturbed.stdout.splitlines()
    ]
