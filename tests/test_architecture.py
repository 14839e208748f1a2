"""The shape of the house: imports point down, numbers stay pure, start-up stays light."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

PACKAGE = Path(__file__).parent.parent / "gradcheck_cli"

LAYERS = [
    {"records"},
    {"errors", "visible"},
    {"workers"},
    {"settings", "outcome", "names"},
    {"choices", "reading"},
    {"tensors"},
    {"bundles", "inspection"},
    {"numeric"},
    {"exports"},
    {"census"},
    {"problem"},
    {"refusals"},
    {"coming"},
    {"grades"},
    {"findings"},
    {"grid"},
    {"blocks"},
    {"bounds"},
    {"comparisons", "glance", "limits", "singly"},
    {"self_checks", "losses", "watch_difference", "judging"},
    {"watch_export"},
    {"stencils"},
    {"walks", "audit"},
    {"engine", "curves"},
    {"layer"},
    {"matrix"},
    {"dense"},
    {"account", "verdict"},
    {"cautions", "intentions"},
    {"diagnosis", "failure", "pictures"},
    {"aftermath"},
    {"check", "vjp", "jacobian"},
    {"linear", "sweep", "rules"},
    {"mutate"},
    {"summary"},
    {"report"},
    {"batch"},
    {"api"},
    {"cli"},
    {"__main__"},
]
"""From the bottom up; a module imports only from layers below its own."""

HOOK = PACKAGE / "numeric" / "compiled" / "build.py"
"""What the build runs; nothing imports it."""

MODULES = sorted(set(PACKAGE.rglob("*.py")) - {HOOK})


def _layer(name: str) -> int:
    (found,) = [level for level, names in enumerate(LAYERS) if name in names]
    return found


def _imports(path: Path) -> set[str]:
    """Return the dotted names that a module imports."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def _room(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_down(path: Path) -> None:
    if _room(path) == "__init__":
        return
    own = _layer(_room(path))
    for name in _imports(path):
        parts = name.split(".")
        if parts[0] == "gradcheck_cli" and len(parts) > 1 and parts[1] != _room(path):
            assert _layer(parts[1]) < own, f"{path.name} imports {name}"


@pytest.mark.parametrize("path", [p for p in MODULES if _room(p) == "numeric"], ids=lambda path: path.name)
def test_numeric_imports_numpy_alone(path: Path) -> None:
    allowed = {
        "numpy",
        "gradcheck_cli",
        "__future__",
        "math",
        "enum",
        "dataclasses",
        "collections",
        "functools",
        "typing",
    }
    if path.parent.name == "compiled":  # finds its library
        allowed |= {"binascii", "ctypes", "os"}
    assert {name.split(".")[0] for name in _imports(path)} <= allowed


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_nothing_can_unpickle(path: Path) -> None:
    unsafe = {"pickle", "marshal", "shelve", "cloudpickle"}
    if path.name == "workers.py":  # reads what a process it forked itself wrote to a pipe, and no file
        unsafe -= {"marshal"}
    assert not unsafe & {n.split(".")[0] for n in _imports(path)}
    source = path.read_text(encoding="utf-8")
    assert "allow_pickle" not in source
    calls = {ast.unparse(node.func) for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)}
    assert not calls & {"eval", "exec", "compile", "__import__", "os.system", "np.load", "numpy.load"}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_only_tensors_opens_input_and_only_cli_prints(path: Path) -> None:
    calls = {
        ast.unparse(node.func)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
    }
    reads = {"open", "os.open", "np.load", "np.loadtxt", "np.fromfile", "np.memmap", "gzip.open", "Path.open"}
    # The quota of the processors, a file in memory, the journal.
    admitted = {"workers.py": {"open", "os.open"}, "batch/journal.py": {"os.open"}}
    admitted["numeric/compiled/__init__.py"] = {"open"}  # its own sources
    if _room(path) not in {"tensors", "cli"}:
        assert not calls & reads - admitted.get(str(path.relative_to(PACKAGE)), set())
        source = path.name == "cluster.py"  # reads its own source, to compare it with that of the workers
        assert not any(call.endswith((".read_text", "stdout.write")) for call in calls)
        assert source or not any(call.endswith(".read_bytes") for call in calls)
    assert "print" not in calls


@pytest.mark.parametrize(
    ("module", "heavy"),
    [
        ("gradcheck_cli", {"click", "numpy", "rich"}),
        ("gradcheck_cli.api", {"click", "numpy", "rich"}),
        ("gradcheck_cli.cli", {"numpy", "rich"}),
        ("gradcheck_cli.report.document", {"rich", "numpy"}),
    ],
)
def test_start_up_stays_light(module: str, heavy: set[str]) -> None:
    code = f"import sys, {module}; print(*sorted({heavy!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_a_check_imports_nothing_that_it_does_not_need(tmp_path: Path) -> None:
    """Each of these takes a millisecond or more, of a small check's 150."""
    np.save(tmp_path / "z.npy", np.eye(3))
    np.save(tmp_path / "y.npy", np.zeros(3, dtype=np.int64))
    heavy = {"pathlib", "urllib", "tempfile", "numpy.ma", "numpy.random", "numpy.lib.recfunctions"}
    heavy |= {"gradcheck_cli.diagnosis", "gradcheck_cli.batch", "gradcheck_cli.stencils"}
    code = (
        "import atexit, sys; before = set(sys.modules); from gradcheck_cli.__main__ import main;"
        f"atexit.register(lambda: print(*sorted({heavy!r} & set(sys.modules) - before), file=sys.stderr));"
        "sys.argv = ['softgrad', 'check', 'z.npy', 'y.npy']; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr.split()) == (0, [])
