"""How files are read: the options that every command with input files has."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields
from typing import Any

from gradcheck_cli.errors import UsageError
from gradcheck_cli.records import dataclass
from gradcheck_cli.settings import check_limits, option

FILES = "How files are read"
FORMATS = ("npy", "npz", "safetensors", "text")
DTYPES = (
    "float64", "float32", "float16", "bfloat16",
    "float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz",
    "int64", "int32", "int16", "int8", "uint64", "uint32", "uint16", "uint8",
)  # fmt: skip
"""What --dtype can make of stored bits."""

_LIMIT = 16 << 30
_HARMLESS = 1 << 30  # bytes that may come out of anything: a tensor of zeros packs 1000 to 1
_RATIO = 200


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What the user says about files that their content does not."""

    dtype: tuple[str, ...] = option(
        (),
        "Take the stored bits of an input as another type: logits=bfloat16 for bits saved as uint16, "
        "grad=float8_e4m3fn for V1; NAME is logits, labels, grad, ... Repeatable.",
        group=FILES,
        metavar="NAME=DTYPE",
    )
    input_format: str | None = option(
        None,
        "Read every input as this. Default: told from the content of each.",
        group=FILES,
        choices=FORMATS,
    )
    header: bool | None = option(
        None,
        "The first line of text is names, or numbers. Default: told from the line.",
        group=FILES,
    )
    max_bytes: int | None = option(
        None,
        "Most bytes to unpack for one input, or to take from standard input or another machine. "
        "Default: 16 GiB, and what is packed may grow 200 times once it is past 1 GiB.",
        group=FILES,
        metavar="N",
        least=1,
    )

    def __post_init__(self) -> None:
        """Refuse what cannot be meant."""
        for each in fields(self):
            check_limits(each, getattr(self, each.name))
        names = [text.partition("=")[0] for text in self.dtype]
        for text, name in zip(self.dtype, names, strict=True):
            dtype = text.partition("=")[2]
            if not name or dtype not in DTYPES:
                raise UsageError(
                    f"--dtype {text}: write NAME=DTYPE, as in logits=bfloat16, "
                    f"with one of {', '.join(DTYPES)}"
                )
            if names.count(name) > 1:
                raise UsageError(f"--dtype {name}=...: given {names.count(name)} times")

    def dtype_of(self, *names: str | None) -> str | None:
        """Return the type asked for an input under the first of its names that has one."""
        asked = dict(text.split("=", 1) for text in self.dtype)
        return next((asked[name] for name in names if name in asked), None)

    def refuse_idle(self, known: Iterable[str | None], *, text: bool) -> None:
        """Refuse a --dtype for something that is no input, and --header where no input is a text."""
        if self.header is not None and not text:
            raise UsageError(
                f"--{'header' if self.header else 'no-header'} has no effect: no input is a text"
            )
        names = sorted({name for name in known if name is not None})
        for asked in self.dtype:
            if asked.partition("=")[0] not in names:
                raise UsageError(f"--dtype {asked}: no input has that name (there are {', '.join(names)})")

    def limit(self, packed: int | None = None) -> int:
        """Return how many bytes may come out of so many packed ones, or of a stream."""
        if self.max_bytes is not None:
            return self.max_bytes
        return _LIMIT if packed is None else min(_LIMIT, max(_HARMLESS, _RATIO * packed))

    def in_force(self) -> dict[str, Any]:
        """Return every option with its value, by the name JSON knows it under."""
        return {each.name: getattr(self, each.name) for each in fields(self)}


CONTENT = Reading()
"""Everything told from the content."""
