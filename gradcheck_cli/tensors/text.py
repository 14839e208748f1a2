"""Delimited text, parsed once and checked on the way into a spool of doubles or integers."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator
from typing import IO, Any, NoReturn

import numpy as np

from gradcheck_cli.errors import InputError
from gradcheck_cli.reading import Reading
from gradcheck_cli.tensors.cells import CELL_LIMIT, refuse_fault, underflows
from gradcheck_cli.tensors.decimals import EXACT, Decimals, Scan
from gradcheck_cli.tensors.dtypes import name_for
from gradcheck_cli.tensors.heading import Heading, heading_of
from gradcheck_cli.tensors.lines import Lines
from gradcheck_cli.tensors.source import Source
from gradcheck_cli.tensors.spool import new_spool, write_at
from gradcheck_cli.tensors.tensor import Tensor
from gradcheck_cli.visible import visible

Block = tuple[int, bytes]  # the number of its first line, and whole lines
Array = np.ndarray[Any, np.dtype[Any]]

LIST_ROLES = ("labels", "upstream", "class-weights", "loss")  # one line of K values is K values, not a row

_INTEGER_BYTES = b"0123456789+- \t\n"
_TINY = re.compile(rb"[eE]-0*(?:[3-9]\d\d|[1-9]\d{3})")


class _NotIntegersError(Exception):
    """The text holds something else than integer literals."""


class Text:
    """A text of numbers, packed by gzip or not."""

    format = "text"
    members: tuple[str, ...] = ()
    others: tuple[str, ...] = ()

    def __init__(self, source: Source) -> None:
        self.source = source

    def tensor(self, member: str | None, role: str, reading: Reading) -> Tensor:
        """Return the tensor, copied once into a spool; ``member`` is None."""
        if reading.dtype_of(role) is not None:
            asked = f"--dtype {name_for(self.source, role)}={reading.dtype_of(role)}"
            self.source.refuse(f"{asked}: a text has no bits to take as another type")
        part = self.source.part(member)
        try:
            return open_text(part, role, reading)
        except BaseException:
            part.close()
            raise


def open_text(source: Source, role: str, reading: Reading) -> Tensor:
    """Return the tensor of a text file: int64 where all labels are integers, else float64."""
    if role == "labels":
        try:
            return _Parse(source, role, reading, np.dtype(np.int64)).tensor()
        except _NotIntegersError:
            pass
    return _Parse(source, role, reading, np.dtype(np.float64)).tensor()


class _Parse:
    """One pass over a text."""

    def __init__(self, source: Source, role: str, reading: Reading, dtype: np.dtype[Any]) -> None:
        self._source = source
        self._role = role
        self._dtype = dtype
        self._scan = Scan()
        self._rows = 0
        self._underflow: str | None = None
        self._header = reading.header
        self._lines = Lines(source, reading.limit(source.size))

    def tensor(self) -> Tensor:
        """Read all lines and return them as a tensor."""
        blocks = self._data_blocks()
        opening = next(blocks, None)
        if opening is None:
            self._source.refuse("holds no data: nothing to verify")
        first, block = opening
        heading = heading_of(self._source.path, _head_lines(block), self._role, self._header)
        if heading.header:
            first, block = first + 1, block[block.index(b"\n") + 1 :]
        self._grid = heading.grid
        self._integers = _INTEGER_BYTES + (self._grid.separator or "").encode()
        spool = new_spool(self._source.name)
        try:
            self._fill(spool, itertools.chain([(first, block)], blocks))
        except BaseException:
            spool.close()
            raise
        return self._finished(spool, heading)

    def _data_blocks(self) -> Iterator[Block]:
        """Yield blocks of lines; the first has two at least if there are two, blank lines at the end go."""
        blank = 0  # lines without anything that end the text, or else stand inside the data
        pending: Block | None = None
        for first, block in self._lines.blocks():
            lines = block
            if block.endswith(b"\n\n") or block == b"\n":
                lines = block.rstrip(b"\n") + b"\n"
            if lines == b"\n":
                blank += len(block)
                continue
            if blank:
                self._refuse_blank(first - blank)
            blank = len(block) - len(lines)
            if pending is not None:
                yield pending[0], pending[1] + lines
                pending = None
            elif first == 1 and lines.count(b"\n") == 1:
                pending = (first, lines)
            else:
                yield first, lines
        if pending is not None:
            yield pending

    def _refuse_blank(self, line: int) -> NoReturn:
        raise InputError(
            f"{visible(self._source.path)}, line {line}: "
            "blank line inside the data; remove it, or give the row its numbers"
        )

    def _fill(self, spool: IO[bytes], blocks: Iterable[Block]) -> None:
        offset = 0
        for first, block in blocks:
            numbers = self._numbers(first, block)
            offset = write_at(self._source.name, spool, numbers, offset)
            self._rows += len(numbers)
        self._source.check_unchanged()

    def _numbers(self, first: int, block: bytes) -> Array:
        """Return the numbers of whole lines, or name what is wrong with them."""
        grid = self._grid
        plain = self._without_decoration(block)
        if plain is None or plain.isspace() or self._has_long_cell(plain):
            self._refuse(first, block)
        lines = plain.split(b"\n")
        lines.pop()  # what follows the last line feed
        try:
            # In ASCII without controls numpy takes what the grammar in cells.py takes, and no more: no
            # hexadecimal, no underscores, no comments (test_numpy_and_the_grammar_agree).
            numbers = np.loadtxt(
                lines, self._dtype, comments=None, delimiter=grid.separator, ndmin=2, encoding="latin1"
            )
        except ValueError:
            self._refuse(first, block)
        if numbers.shape != (len(lines), grid.columns):  # numpy passes over blank lines
            self._refuse(first, block)
        if self._dtype.kind == "f":
            self._check_values(first, block, plain, numbers)
        return numbers

    def _without_decoration(self, block: bytes) -> bytes | None:
        """Return the lines without quotes and trailing separators, or None if anything odd is left."""
        if self._dtype.kind == "i" and block.translate(None, self._integers):
            return None  # numpy would take 1.5 for an integer
        if not block.isascii():  # numpy would drop blanks of other alphabets
            return None
        separator = (self._grid.separator or " ").encode()
        if b'"' in block:
            end = re.escape(separator)
            block = re.sub(rb'(?<![^ \t\n%b])"([^"\n%b]*)"(?![^ \t\n%b])' % (end, end, end), rb"\1", block)
            if b'"' in block:
                return None
        if self._grid.trailing:
            count = block.count(b"\n")
            if block.count(separator + b"\n") != count:
                return None
            block = block.replace(separator + b"\n", b"\n")
        return block

    def _has_long_cell(self, block: bytes) -> bool:
        """Whether a cell may be longer than the limit: then some aligned half of it has no separator."""
        half = CELL_LIMIT // 2
        separator = (self._grid.separator or " ").encode()
        find = block.find
        for start in range(0, len(block) - half, half):
            if find(separator, start, start + half) < 0 and find(b"\n", start, start + half) < 0:
                return True
        return False

    def _refuse(self, first: int, block: bytes) -> NoReturn:
        if self._dtype.kind == "i":
            raise _NotIntegersError
        lines = block.decode("utf-8", "surrogateescape").split("\n")[:-1]
        refuse_fault(self._source.path, lines, first, self._grid)

    def _check_values(self, first: int, block: bytes, plain: bytes, numbers: Array) -> None:
        finite = np.count_nonzero(np.isfinite(numbers))
        if finite != numbers.size:
            words = plain.lower()
            if numbers.size - finite != words.count(b"nan") + words.count(b"inf"):  # a literal overflowed
                self._refuse(first, block)
        if self._underflow is None and _may_underflow(plain, numbers):
            self._note_underflow(first, plain, numbers)
        if self._role == "labels" and self._grid.columns == 1:
            self._check_labels(first, numbers[:, 0])
        self._scan.update(plain, numbers)

    def _note_underflow(self, first: int, plain: bytes, numbers: Array) -> None:
        lines = plain.split(b"\n")
        for row in np.flatnonzero((numbers == 0).any(axis=1)):
            for cell in self._grid.cells(lines[row].decode()):
                if underflows(cell):
                    self._underflow = (
                        f"{visible(cell, 40)} in line {first + int(row)} is too small and read as 0"
                    )
                    return

    def _check_labels(self, first: int, labels: Array) -> None:
        """Refuse a label that is not whole, while its line is known."""
        with np.errstate(invalid="ignore"):
            good = (np.trunc(labels) == labels) & (np.abs(labels) < 2.0**53)
        if not good.all():
            row = int(np.argmin(good))
            value = float(labels[row])
            large = np.isfinite(value) and np.trunc(value) == value
            reason = "too large to be a class" if large else "not a whole number"
            raise InputError(f"{visible(self._source.path)}, line {first + row}: label {value!r} is {reason}")

    def _finished(self, spool: IO[bytes], heading: Heading) -> Tensor:
        rows, columns = self._rows, self._grid.columns
        notes = list(heading.notes)
        if not self._lines.terminated:
            notes.append("no newline at end of file: check that it is complete")
        if self._underflow is not None:
            notes.append(self._underflow)
        if self._role == "labels" and self._dtype.kind == "f" and columns == 1:
            notes.append("labels are written as decimals, read as whole numbers")
        shape: tuple[int, ...] = (rows,) if columns == 1 else (rows, columns)
        if rows == 1 and columns > 1 and self._role in LIST_ROLES:
            shape = (columns,)
        return Tensor(
            role=self._role,
            path=self._source.path,
            dtype="text",
            shape=shape,
            source=self._source,
            stored=self._dtype,
            spool=spool,
            notes=tuple(notes),
            decimals=self._scan.result() if self._dtype.kind == "f" else Decimals(EXACT, None),
        )


def _may_underflow(block: bytes, numbers: Array) -> bool:
    """Whether a zero may stand for a number that is none: a quick test that is seldom wrong."""
    if np.count_nonzero(numbers) == numbers.size:
        return False
    if b"0" * 300 in block:
        return True
    return (b"e-" in block or b"E-" in block) and _TINY.search(block) is not None


def _head_lines(block: bytes) -> list[str]:
    """Return the first one or two lines of a block."""
    end = block.index(b"\n")
    after = block.find(b"\n", end + 1)
    lines = [block[:end]] if after < 0 else [block[:end], block[end + 1 : after]]
    return [line.decode("utf-8", "surrogateescape") for line in lines]
