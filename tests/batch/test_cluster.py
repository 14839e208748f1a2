"""A real Dask scheduler and two workers on this machine, one of which is killed in mid-run."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gradcheck_cli.batch import cluster as clusters
from gradcheck_cli.batch.case import Case
from gradcheck_cli.batch.cluster import cluster, fingerprint
from gradcheck_cli.batch.discover import Told, discover
from gradcheck_cli.batch.result import How, Result, result_of
from gradcheck_cli.batch.run import Plan, local, run
from gradcheck_cli.batch.store import Store
from gradcheck_cli.errors import SoftgradError
from gradcheck_cli.summary import Head, Summary
from tests.batch.conftest import make_case
from tests.batch.test_run import Silent, timeless
from tests.cli.conftest import Run

pytest.importorskip("distributed")
pytestmark = pytest.mark.filterwarnings("ignore")  # of the cluster's own libraries

DASK = Path(sys.executable).parent / "dask"


class Cluster:
    """A scheduler and workers, each a process of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        file = folder / "scheduler.json"
        self.processes = [self._start("scheduler", "--host", "127.0.0.1", "--port", "0",
                                      "--no-dashboard", "--scheduler-file", str(file))]  # fmt: skip
        self.address = json.loads(_waited(file))["address"]
        for _ in range(2):
            self.processes.append(self._start("worker", self.address, "--nthreads", "1", "--no-nanny",
                                              "--no-dashboard", "--host", "127.0.0.1"))  # fmt: skip

    def _start(self, *words: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [str(DASK), *words], cwd=self.folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )

    def end(self) -> None:
        """End every process."""
        for each in self.processes:
            each.kill()
            each.wait()


def _waited(file: Path) -> str:
    end = time.monotonic() + 30
    while time.monotonic() < end:
        with contextlib.suppress(OSError, ValueError):
            text = file.read_text()
            json.loads(text)
            return text
        time.sleep(0.05)
    raise TimeoutError


@pytest.fixture(scope="module")
def dask(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    if not DASK.exists():
        pytest.skip("no dask command")
    started = Cluster(tmp_path_factory.mktemp("dask"))
    try:
        _wait_for_workers(started.address)
        yield started
    finally:
        started.end()


def _wait_for_workers(address: str) -> None:
    from distributed import Client  # noqa: PLC0415 - an extra

    with Client(address, timeout=30, set_as_default=False) as client:
        client.wait_for_workers(2, timeout=60)


def told(plan: Plan, executor: Any, watch: Silent) -> tuple[Summary, list[dict[str, Any]]]:
    with contextlib.closing(Store()) as store:
        summary = run(plan, executor, store, watch, None)
        return summary, [timeless(each) for each in store.documents()]


def test_the_cluster_reports_what_this_machine_reports(plan: Plan, dask: Cluster) -> None:
    here, documents = told(plan, local(plan, Silent()), Silent())
    there, same = told(plan, cluster(plan, dask.address, Silent()), Silent())
    assert same == documents
    assert there.document() == here.document()


def test_one_large_case_is_spread_by_rows_and_comes_to_the_same(
    plan: Plan, dask: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_case(tmp_path / "large", "r_", 3, rows=200_000)
    make_case(tmp_path / "large", "w_", 4, rows=150_000, wrong=True)
    large = replace(plan, cases=discover([str(tmp_path / "large")], Told({}, {})).cases)
    monkeypatch.setattr("gradcheck_cli.batch.wide.LARGE", 1 << 20)
    monkeypatch.setattr(clusters._Run, "_submit", lambda *_: pytest.fail("not spread"))
    _, documents = told(large, local(large, Silent()), Silent())
    _, same = told(large, cluster(large, dask.address, Silent()), Silent())
    assert [each["verdict"] for each in same] == ["pass", "fail"]
    assert same == documents


def test_the_command_runs_on_the_cluster(softgrad: Run, dask: Cluster, cases: Path) -> None:
    done = softgrad(
        "batch", cases, "--scheduler", dask.address, "-q", env={**os.environ, "PYTHONWARNINGS": ""}
    )
    assert (done.returncode, done.stdout) == (1, "FAIL 1 of 9 cases is wrong, 1 could not be checked\n")


def test_another_softgrad_on_a_worker_is_refused(
    plan: Plan, dask: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = fingerprint()
    monkeypatch.setattr(clusters, "softgrad_version", lambda: "0.0.0")
    assert fingerprint() != real
    with pytest.raises(SoftgradError, match=r"has another softgrad .* install the same on all"):
        told(plan, cluster(plan, dask.address, Silent()), Silent())


def test_a_case_that_takes_too_long_is_ended_on_the_cluster_too(plan: Plan, dask: Cluster) -> None:
    patient = replace(plan, timeout=60.0)
    _, documents = told(plan, local(plan, Silent()), Silent())
    assert told(plan, cluster(patient, dask.address, Silent()), Silent())[1] == documents
    summary, _ = told(plan, cluster(replace(plan, timeout=1e-6), dask.address, Silent()), Silent())
    assert (summary.done, summary.causes["timeout"]) == (9, 9)


def test_only_the_case_that_hangs_is_lost_of_a_chunk(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    def slow(case: Case, number: int, how: How) -> Result:
        if number == 4:
            time.sleep(60)
        return result_of(case, number, how)

    monkeypatch.setattr("gradcheck_cli.batch.run.result_of", slow)
    chunk = [(number, case.record()) for number, case in enumerate(plan.cases)]
    heads = [head for head, _ in clusters.run_chunk(chunk, plan.how, 2.0)]
    assert sorted(head["number"] for head in heads) == list(range(9))
    assert [(head["number"], head["message"]) for head in heads if head["cause"] == "timeout"] == [
        (4, "not done after 2 s (--timeout)")
    ]


def test_a_large_case_that_takes_too_long_is_given_up(
    plan: Plan, dask: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_case(tmp_path / "large", "r_", 3, rows=200_000)
    large = replace(plan, cases=discover([str(tmp_path / "large")], Told({}, {})).cases, timeout=1e-6)
    monkeypatch.setattr("gradcheck_cli.batch.wide.LARGE", 1 << 20)
    summary, (document,) = told(large, cluster(large, dask.address, Silent()), Silent())
    assert (summary.causes["timeout"], document["error"]) == (1, "not done after 1e-06 s (--timeout)")


def test_no_scheduler_is_refused(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clusters, "_CONNECT", 0.3)
    with pytest.raises(SoftgradError, match="no Dask scheduler answers there"):
        told(plan, cluster(plan, "tcp://127.0.0.1:9", Silent()), Silent())


def test_a_worker_that_is_killed_in_mid_run_costs_nothing(plan: Plan, dask: Cluster, tmp_path: Path) -> None:
    """Last in this file: the cluster has one worker less after it."""
    for number in range(60):
        make_case(tmp_path / "many", f"{number:02}_", number, wrong=number % 10 == 0, rows=400)
    from gradcheck_cli.batch.discover import Told, discover  # noqa: PLC0415 - for this test alone

    many = replace(plan, cases=discover([str(tmp_path / "many")], Told({}, {})).cases)

    class Killer(Silent):
        def finished(self, head: Head) -> None:
            """Kill a worker after a few cases."""
            super().finished(head)
            if len(self.heads) == 8:
                dask.processes[1].send_signal(signal.SIGKILL)

    watch = Killer()
    summary, documents = told(many, cluster(many, dask.address, watch), watch)
    assert dask.processes[1].wait(10) == -signal.SIGKILL
    assert dict(summary.counts) == {"pass": 54, "fail": 6}
    assert documents == told(many, local(many, Silent()), Silent())[1]
    shutil.rmtree(tmp_path / "many")
