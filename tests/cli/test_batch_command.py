"""``softgrad batch`` and ``softgrad merge`` as a user runs them."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import time
from pathlib import Path

import pytest

from tests.batch.conftest import make_case
from tests.cli.conftest import Run


@pytest.fixture
def dumps(tmp_path: Path) -> Path:
    for number in range(5):
        make_case(tmp_path / "dumps", f"s{number}_", number, wrong=number == 2)
    return tmp_path / "dumps"


def test_exit_code_and_headline(softgrad: Run, dumps: Path) -> None:
    done = softgrad("batch", dumps)
    assert done.returncode == 1
    assert done.stdout.startswith("FAIL  1 of 5 cases is wrong\n")
    assert "dumps/s2 " in done.stdout
    assert done.stderr == ""
    for name in ("logits", "labels", "grad"):
        (dumps / f"s2_{name}.npy").unlink()
    done = softgrad("batch", dumps, "-q")
    assert (done.returncode, done.stdout) == (0, "PASS all 4 cases are right\n")
    assert softgrad("batch", dumps, "-qq").stdout == ""


def test_a_case_that_cannot_be_read_is_counted_and_the_exit_code_is_2(softgrad: Run, dumps: Path) -> None:
    (dumps / "s2_grad.npy").write_bytes(b"\x93NUMPY")
    done = softgrad("batch", dumps)
    assert done.returncode == 2
    assert "1 of 5 cases could not be checked" in done.stdout


def test_options_are_for_every_case(softgrad: Run, dumps: Path) -> None:
    done = softgrad("batch", dumps, "--reduction", "sum", "--format", "json")
    assert json.loads(done.stdout)["summary"]["fail"] == 4


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--resume"], "--resume needs --journal"),
        (["--shard", "3/2"], "the first number must be one of 1 .. 2"),
        (["--report", "pdf=x"], "write FORMAT=FILE"),
        (["--report", "csv=-"], "use --format csv"),
        (["--report", "csv=a", "--report", "junit=./a"], "two reports cannot go to the same file"),
        (["--report", "csv=none/a"], "cannot write the report: there is no folder"),
        (["--report", "csv=."], "cannot write the report"),
        (["--format", "json", "-q"], "contradict"),
        (["--timeout", "0"], "not in the range"),
        (["--jobs", "0"], "not in the range"),
    ],
)
def test_O06_what_cannot_be_meant_or_written_is_refused_before_any_work(
    softgrad: Run, dumps: Path, words: list[str], said: str
) -> None:
    done = softgrad("batch", dumps, *words)
    assert done.returncode == 2
    assert said in done.stderr
    assert done.stdout == ""
    assert sorted(each.name for each in dumps.parent.iterdir()) == ["dumps"]


def test_reports_are_written_beside_standard_output(softgrad: Run, dumps: Path) -> None:
    forms = ("json", "jsonl", "junit", "github", "markdown", "csv", "html")
    words = [word for form in forms for word in ("--report", f"{form}=out.{form}")]
    done = softgrad("batch", dumps, *words, "--format", "csv")
    assert done.returncode == 1
    for form in forms:
        assert "s2" in (dumps.parent / f"out.{form}").read_text()
    assert (dumps.parent / "out.csv").read_text().splitlines()[0] == done.stdout.splitlines()[0]
    assert "<svg" in (dumps.parent / "out.html").read_text()
    assert not list(dumps.parent.glob(".softgrad-*"))


def test_O08_a_report_keeps_permissions_and_links_and_goes_into_a_device(softgrad: Run, dumps: Path) -> None:
    target = dumps.parent / "real.csv"
    target.write_text("old")
    target.chmod(0o640)
    (dumps.parent / "link.csv").symlink_to(target)
    words = ["--report", "csv=link.csv", "--report", "junit=/dev/null", "--report", "html=new.html"]
    assert softgrad("batch", dumps, *words, umask=0o027).returncode == 1
    assert (dumps.parent / "link.csv").is_symlink()
    assert "s2" in target.read_text()
    assert stat.S_IMODE(target.stat().st_mode) == 0o640
    assert stat.S_IMODE((dumps.parent / "new.html").stat().st_mode) == 0o640
    assert stat.S_ISCHR(Path("/dev/null").stat().st_mode)


def test_a_full_device_is_no_verdict(softgrad: Run, dumps: Path) -> None:
    done = softgrad("batch", dumps, "--report", "csv=/dev/full")
    assert done.returncode == 2
    assert "/dev/full: cannot write the report: No space left" in done.stderr


def test_a_full_standard_output_is_no_verdict(softgrad: Run, dumps: Path) -> None:
    with Path("/dev/full").open("wb") as full:
        done = softgrad("batch", dumps, capture_output=False, stdout=full, stderr=subprocess.PIPE)
    assert done.returncode == 2
    assert "cannot write the report" in done.stderr


def test_O07_what_a_killed_run_left_is_taken_away_after_a_day(softgrad: Run, dumps: Path) -> None:
    old, new = dumps.parent / ".softgrad-old.tmp", dumps.parent / ".softgrad-new.tmp"
    old.touch()
    new.touch()
    os.utime(old, (time.time() - 2 * 86400,) * 2)
    softgrad("batch", dumps, "--report", "csv=a.csv")
    assert not old.exists()
    assert new.exists()


def test_a_single_check_writes_the_same_reports(softgrad: Run, dumps: Path) -> None:
    words = ["check", dumps / "s2_logits.npy", dumps / "s2_labels.npy", "--grad", dumps / "s2_grad.npy"]
    done = softgrad(*words, "-q", "--report", "junit=a.xml", "--report", "html=a.html")
    assert done.returncode == 1
    assert '<failure type="fail"' in (dumps.parent / "a.xml").read_text()
    assert "<svg" in (dumps.parent / "a.html").read_text()
    assert softgrad(*words, "-f", "github").stdout.startswith("::error title=softgrad%3A ")


def test_a_report_says_so_where_nothing_could_be_checked(softgrad: Run, dumps: Path) -> None:
    (dumps.parent / "a.xml").write_text("of last week")
    done = softgrad("check", dumps / "s2_logits.npy", "none.npy", "--report", "junit=a.xml")
    assert done.returncode == 2
    assert "none.npy: no such file" in (dumps.parent / "a.xml").read_text()


def test_shards_merge_to_the_report_of_the_whole(softgrad: Run, dumps: Path) -> None:
    whole = softgrad("batch", dumps, "--format", "jsonl").stdout
    for part in (1, 2, 3):
        done = softgrad("batch", dumps, "--shard", f"{part}/3", "--report", f"jsonl=r{part}", "-qq")
        assert done.returncode == (1 if part == 3 else 0)
    merged = softgrad("merge", "r3", "r1", "r2", "--format", "jsonl")
    assert merged.returncode == 1

    def plain(text: str) -> list[object]:
        found = [json.loads(line) for line in text.splitlines()]
        return [{key: value for key, value in each.items() if key != "seconds"} for each in found]

    assert plain(merged.stdout) == plain(whole)


def test_merge_refuses_what_is_not_whole(in_process: Run, dumps: Path) -> None:
    for part in (1, 2):
        in_process("batch", dumps, "--shard", f"{part}/2", "--report", f"jsonl=r{part}", "-qq")
    in_process("batch", dumps, "--report", "json=all", "-qq")
    top = dumps.parent
    whole = (top / "r1").read_text()
    (top / "cut").write_text("".join(whole.splitlines(keepends=True)[:-1]))
    (top / "torn").write_text(whole[:-300])
    (top / "fewer").write_text("".join(whole.splitlines(keepends=True)[1:]))
    (top / "other").write_text('{"schema": 1, "case": "a", "verdict": "pass"}\n')
    (top / "nan").write_text('{"schema": 1, "case": "a", "verdict": "pass", "seconds": NaN}\n')
    (top / "empty").write_text("")
    for words, said in (
        (["r1"], "the results of shard 2 of 2 are missing"),
        (["r1", "r2", "all"], "comes twice"),
        (["cut", "r2"], "the report was cut off"),
        (["torn", "r2"], "line 3: not a result"),
        (["fewer", "r2"], "has 2 cases, but its summary says 3"),
        (["other"], "case a: not a result of this version's kind"),
        (["nan"], "line 1: not a result"),
        (["empty"], "is empty"),
        (["none"], "no such file"),
    ):
        done = in_process("merge", *words)
        assert (done.returncode, done.stdout) == (2, ""), words
        assert said in done.stderr, words


def test_batches_that_are_no_shards_are_put_one_after_the_other(softgrad: Run, dumps: Path) -> None:
    make_case(dumps.parent / "more", "x_", 1)
    make_case(dumps.parent / "more", "y_", 2)
    softgrad("batch", dumps, "--report", "json=a", "-qq")
    softgrad("batch", "more", "--report", "jsonl=b", "-qq")
    done = softgrad("merge", "b", "a", "--format", "csv")
    cases = [line.split(",")[0] for line in done.stdout.splitlines()[1:]]
    assert [Path(case).name for case in cases] == ["x", "y", "s0", "s1", "s2", "s3", "s4"]


def test_the_reader_of_a_table_may_leave(softgrad: Run, dumps: Path) -> None:
    done = softgrad("batch", dumps, "--dry-run")
    assert done.returncode == 0
    assert done.stdout.endswith("5 cases\n")
    (dumps / "s0_labels.npy").unlink()
    done = softgrad("batch", dumps, "--dry-run")
    assert done.returncode == 2
    assert "refused: " in done.stdout
