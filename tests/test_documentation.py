"""The man pages, the help and the README name what the command line really has."""

from __future__ import annotations

import re
import shutil
import subprocess
import tomllib
from dataclasses import fields
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from gradcheck_cli.cli import COMMANDS as NAMES
from gradcheck_cli.cli import softgrad
from gradcheck_cli.cli.manual import TOPICS
from gradcheck_cli.inspection import Holding, Inspection
from gradcheck_cli.outcome import Check, Data, Diagnosis, Fact, Input, Picture, Worst
from gradcheck_cli.reading import Reading
from gradcheck_cli.settings import Settings, flag_of

ROOT = Path(__file__).parent.parent
MAN = ROOT / "man"
README = ROOT / "README.md"
COMMANDS: dict[str, click.Command] = {
    "": softgrad,
    **{name: command for name in NAMES if (command := softgrad.get_command(click.Context(softgrad), name))},
}
"""By the name that follows softgrad; the group itself has the empty name."""

EXITS = ("0", "1", "2", "3", "130", "141", "143")


def _context(command: click.Command) -> click.Context:
    return click.Context(command, **softgrad.context_settings)


def _options(command: click.Command) -> list[click.Option]:
    parameters = command.get_params(_context(command))
    return [each for each in parameters if isinstance(each, click.Option) and not each.hidden]


CASES = [
    pytest.param(name, option, id=f"softgrad {name} {option.opts[-1]}".replace("  ", " "))
    for name, command in COMMANDS.items()
    for option in _options(command)
]
every_option = pytest.mark.parametrize(("name", "option"), CASES)
every_command = pytest.mark.parametrize("name", COMMANDS)


def _page(name: str) -> Path:
    return MAN / (f"softgrad-{name}.1" if name else "softgrad.1")


def _source(path: Path) -> str:
    """Return a man page without comments, its hyphens as they are read."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return "\n".join(line for line in lines if not line.startswith('.\\"')).replace("\\-", "-")


def _section(source: str, title: str) -> str:
    """Return what stands under a heading of a man page."""
    _, _, rest = source.partition(f".Sh {title}\n")
    return rest.partition("\n.Sh ")[0]


def _entries(source: str) -> dict[str, str]:
    """Return by flag what the OPTIONS of a man page say about it: ``.It Fl f , Fl -format Ar format``."""
    found = {}
    for item in re.split(r"^\.It (?=Fl )", _section(source, "OPTIONS"), flags=re.MULTILINE)[1:]:
        head, _, body = item.partition("\n")
        for flag in re.findall(r"Fl (\S+)", head):
            found["-" + flag] = re.split(r"^\.Ss ", body, flags=re.MULTILINE)[0]
    return found


def _page_entries(name: str) -> dict[str, str]:
    """Return what the page of a command says by flag; the options of a case stand in the page of check."""
    own = _entries(_source(_page(name)))
    if name != "batch":
        return own
    cases = {flag_of(each.name) for record in (Settings, Reading) for each in fields(record)}
    cases.add("--no-header")
    return {flag: told for flag, told in _entries(_source(_page("check"))).items() if flag in cases} | own


def _default_told(text: str) -> str | None:
    """Return the word or number after ``Default:``, or after ``default`` in the cell of a table."""
    match = re.search(r"\bdefault:?\s+`?([^\s,;`|)\]]+)", text, re.IGNORECASE)
    return None if match is None else match.group(1).rstrip(".")


def _default(option: click.Option, command: click.Command) -> str | None:
    """Return the value that an option has if it is left out: click's own, or a number in the help."""
    if option.show_default:
        return str(option.get_default(_context(command)))
    told = _default_told(option.help or "")
    return told if told is not None and re.fullmatch(r"-?[\d.]+", told) else None


def _same(told: str | None, default: str) -> bool:
    """Tell whether a default is told: numbers by value, anything else word for word."""
    if told is None:
        return False
    try:
        return float(told) == float(default)
    except ValueError:
        return told == default


def _choices(option: click.Option) -> list[str]:
    return [str(each) for each in option.type.choices] if isinstance(option.type, click.Choice) else []


def _help(name: str) -> str:
    result = CliRunner().invoke(softgrad, [*name.split(), "--help"])
    assert result.exit_code == 0
    return result.output


@every_option
def test_help_names_each_option_with_its_default(name: str, option: click.Option) -> None:
    words = " ".join(_help(name).split())
    for flag in option.opts:
        assert re.search(rf"(?<![\w-]){flag}(?![\w-])", words)
    if option.show_default:
        assert f"[default: {_default(option, COMMANDS[name])}]" in words


@every_option
def test_help_tells_what_each_option_is_for(name: str, option: click.Option) -> None:
    assert option.help, f"softgrad {name}: {option.opts} has no help"


@every_option
def test_man_page_has_an_entry_for_each_flag(name: str, option: click.Option) -> None:
    entries = _page_entries(name)
    for flag in (*option.opts, *option.secondary_opts):
        assert entries.get(flag, "").strip(), f"{_page(name).name} says nothing about {flag}"


@every_option
def test_man_page_tells_each_default(name: str, option: click.Option) -> None:
    default = _default(option, COMMANDS[name])
    told = _default_told(_page_entries(name)[option.opts[-1]])
    if default is not None:
        assert _same(told, default), f"{option.opts[-1]}: default {default}, but the page tells {told}"
    elif _default_told(option.help or "") is not None:
        assert told is not None, f"{option.opts[-1]}: the help speaks of a default, the page does not"
    else:
        assert told in (None, "none"), f"{option.opts[-1]} has no default, but the page tells {told}"


@every_option
def test_man_page_names_each_choice_at_its_option(name: str, option: click.Option) -> None:
    entry = _page_entries(name)[option.opts[-1]]
    named = re.findall(r"^\.(?:It )?Cm (\S+)", entry, re.MULTILINE)
    assert sorted(_choices(option)) == sorted(named if _choices(option) else [])


@every_command
def test_man_page_documents_no_option_that_is_gone(name: str) -> None:
    known = {flag for option in _options(COMMANDS[name]) for flag in (*option.opts, *option.secondary_opts)}
    assert set(_entries(_source(_page(name)))) <= known


@every_command
def test_man_page_uses_no_flag_that_no_command_has(name: str) -> None:
    options = [option for command in COMMANDS.values() for option in _options(command)]
    known = {flag for option in options for flag in (*option.opts, *option.secondary_opts)}
    used = {"-" + flag for flag in re.findall(r"Fl (-[\w-]*\w)", _source(_page(name)))}
    used |= set(re.findall(r"(?<![\w-])--[\w-]*\w", _source(_page(name))))
    assert used <= known


def test_the_table_of_conventions_uses_flags_of_check_that_linear_has_too() -> None:
    used = {"-" + flag for flag in re.findall(r"Fl (-[\w-]*\w)", _source(MAN / "softgrad-conventions.7"))}
    for name in ("check", "linear"):
        known = {flag for option in _options(COMMANDS[name]) for flag in option.opts}
        assert used - {"--axis", "--log"} <= known


@every_command
def test_each_command_has_a_page_that_the_main_page_refers_to(name: str) -> None:
    assert _page(name).is_file()
    if name:
        main = _source(_page(""))
        assert f".It Cm {name}" in _section(main, "COMMANDS")
        assert f".Xr softgrad-{name} 1" in _section(main, "SEE ALSO")
        assert re.search(rf"^\.Nm softgrad {name}$", _section(_source(_page(name)), "SYNOPSIS"), re.MULTILINE)


def test_every_command_is_where_its_name_says() -> None:
    assert list(COMMANDS) == ["", *NAMES]
    assert all(NAMES[name] in _help("") for name in NAMES)


def test_there_is_no_page_without_a_command_or_a_topic() -> None:
    pages = [*(_page(name).name for name in COMMANDS), *(f"softgrad-{name}.7" for name in TOPICS)]
    assert sorted(each.name for each in MAN.iterdir()) == sorted(pages)


def test_every_page_is_installed_where_man_looks_for_its_section() -> None:
    told = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    shared = told["tool"]["hatch"]["build"]["targets"]["wheel"]["shared-data"]
    pages = [each.name for each in MAN.iterdir()]
    assert shared == {f"man/{each}": f"share/man/man{each[-1]}/{each}" for each in pages}


@every_command
@pytest.mark.parametrize("code", EXITS)
def test_man_page_tells_each_exit_status(name: str, code: str) -> None:
    assert re.search(rf"\b{code}\b", _section(_source(_page(name)), "EXIT STATUS"))


@every_command
def test_man_page_and_help_give_examples(name: str) -> None:
    assert f"softgrad {name}".strip() in _section(_source(_page(name)), "EXAMPLES")
    assert f"softgrad {name}".strip() in _help(name).partition("Examples:")[2]


@pytest.mark.parametrize(
    "record", [Input, Data, Check, Worst, Diagnosis, Fact], ids=lambda record: record.__name__
)
def test_man_page_names_each_key_of_the_json(
    record: type[Input | Data | Check | Worst | Diagnosis | Fact],
) -> None:
    section = _section(_source(_page("check")), "JSON")
    named = " ".join(re.findall(r"^\.(?:It )?Va (.*)", section, re.MULTILINE)).split()
    assert {each.name for each in fields(record)} - {"role"} <= set(named)  # the role is the key of an input


def test_man_page_names_each_key_of_a_picture() -> None:
    _, _, entry = _source(_page("batch")).partition(".It Va pictures\n")
    named = " ".join(re.findall(r"^\.Va (.*)", entry.partition("\n.El")[0], re.MULTILINE)).split()
    assert {each.name for each in fields(Picture)} <= set(named)


@pytest.mark.parametrize("record", [Inspection, Holding], ids=lambda record: record.__name__)
def test_man_page_names_each_key_of_what_inspect_writes(record: type[Inspection | Holding]) -> None:
    entry = _entries(_source(_page("inspect")))["--format"]
    named = " ".join(re.findall(r"^\.Va (.*)", entry, re.MULTILINE)).replace(",", " ").split()
    assert {each.name for each in fields(record)} <= set(named)


def _shown_with_output() -> list[tuple[str, str]]:
    """Return the commands of the check page that are shown with their one line of output."""
    section = _section(_source(_page("check")), "EXAMPLES")
    blocks = re.findall(r"^\$ softgrad (.*)\n((?:(?!\.Ed).*\n)+)", section, re.MULTILINE)
    return [(command, " ".join(output.split())) for command, output in blocks]


@pytest.mark.parametrize(("command", "output"), _shown_with_output())
def test_example_of_the_man_page_writes_what_it_shows(
    command: str, output: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT / "samples")
    assert CliRunner().invoke(softgrad, command.split()).output.strip() == output


def test_man_page_shows_output() -> None:
    assert _shown_with_output()


@pytest.mark.parametrize("page", [each.name for each in MAN.iterdir()])
def test_man_page_is_clean_under_mandoc(page: str) -> None:
    mandoc = shutil.which("mandoc")
    if mandoc is None:
        pytest.skip("mandoc is not installed")
    pages = [each.name for each in MAN.iterdir()]  # together and in their folder: they refer to each other
    linted = subprocess.run(
        [mandoc, "-T", "lint", *pages], cwd=MAN, capture_output=True, text=True, check=False
    )
    said = (linted.stdout + linted.stderr).splitlines()
    assert [line for line in said if f"{page}:" in line] == []


@every_option
def test_each_option_is_in_the_readme_or_the_man_page(name: str, option: click.Option) -> None:
    both = README.read_text(encoding="utf-8") + "\n".join(_page_entries(name))
    assert re.search(rf"(?<![\w-]){option.opts[-1]}(?![\w-])", both)


@every_option
def test_readme_table_tells_the_default_that_an_option_has(name: str, option: click.Option) -> None:
    default = _default(option, COMMANDS[name])
    for told in _readme_defaults(README.read_text(encoding="utf-8"), option.opts[-1]):
        assert default is None or _same(told, default), f"{option.opts[-1]}: default {default}, not {told}"


def _readme_defaults(readme: str, flag: str) -> list[str]:
    """Return the defaults in the rows of a table whose first cell is about this flag alone."""
    rows = [line for line in readme.splitlines() if line.startswith("|")]
    own = [row for row in rows if re.findall(r"--[\w-]+", row.split("|")[1]) == [flag]]
    return [told for told in map(_default_told, own) if told is not None]


def _promised() -> list[str]:
    """Return the tests that the README's promises name."""
    _, _, promises = README.read_text(encoding="utf-8").partition("## Promises\n")
    return re.findall(r"`(tests/[\w/.]+\.py::\w+)`", promises.partition("\n## ")[0])


def test_there_are_seven_promises_and_each_names_a_test() -> None:
    _, _, promises = README.read_text(encoding="utf-8").partition("## Promises\n")
    numbered = re.split(r"^\d\. ", promises.partition("\n## ")[0], flags=re.MULTILINE)[1:]
    assert len(numbered) == 7
    assert all("::test_" in each for each in numbered)


@pytest.mark.parametrize("named", _promised())
def test_a_promise_names_a_test_that_is_there(named: str) -> None:
    path, _, name = named.partition("::")
    assert re.search(rf"^def {name}\(", (ROOT / path).read_text(encoding="utf-8"), re.MULTILINE)


def test_a_wrong_default_is_found() -> None:
    assert _same("0", "0.0")
    assert not _same("1", "0.0")
    assert not _same("sum", "mean")
    assert not _same(None, "5")
    assert _default_told("Rows with this label.\nDefault: -100.") == "-100"
    assert _readme_defaults(
        "| `--top N` | worst entries (default `6`) |\n| `--topmost` | default 7 |", "--top"
    ) == ["6"]


def test_the_entries_of_a_man_page_are_told_apart() -> None:
    source = ".Sh OPTIONS\n.It Fl f , Fl -format Ar x\nOne.\n.It Fl q\nTwo.\n.Ss A\nThree.\n.Sh B\n.It Fl z\n"
    assert _entries(source) == {"-f": "One.\n", "--format": "One.\n", "-q": "Two.\n"}
