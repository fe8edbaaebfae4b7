"""A table of transcribed speech → its rows, each with its line in the file and what is wrong with it, if anything.

A line is a row, whatever its quotes say: a transcript has no line breaks, and a stray quote must not swallow other rows.
"""

import csv
import hashlib
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from course_lib.errors import CourseError
from course_lib.files import cache_folder, write_beside

MOST_SHOWN = 20
"""So many bad rows are printed; a file has all of them."""


class DataError(CourseError):
    """Rows or files of a data set that cannot be used; the message lists all of them."""


@dataclass(frozen=True)
class Row:
    """A line of a table: its number in the file, its fields by column, and why it cannot be used ("" if it can)."""

    number: int
    fields: dict[str, str]
    fault: str = ""


@dataclass(frozen=True)
class BadRow:
    """A row that cannot be used: line in the file, the sound that it names, the reason."""

    number: int
    name: str
    reason: str


def read_table(path: Path, delimiter: str, wanted: set[str]) -> list[Row]:
    """Read a table with a header; raises DataError where not even the header is as it must be."""
    lines = [(number, line) for number, line in enumerate(_lines(path), 1) if line.strip()]
    if not lines:
        raise DataError(f"{path}: empty. Its first line must have the columns {', '.join(sorted(wanted))}.")
    header, fault = _parse(lines[0][1], delimiter)
    names = [name.strip() for name in header]
    missing = wanted - set(names)
    if missing or fault:
        raise DataError(
            f"{path}: no column {', '.join(sorted(missing))}; the first line is {str(names)[:200]}.{_other_kind(names)}"
        )
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise DataError(f"{path}: the column {', '.join(twice)} comes twice. Rename or remove one.")
    if len(lines) == 1:
        raise DataError(f"{path}: has a first line and no rows. Add a line for each recording.")
    return [_row(number, line, names, delimiter) for number, line in lines[1:]]


def text_fault(text: str, what: str = "transcription") -> str:
    """Why a text cannot be used, "" if it can."""
    if not text.strip():
        return f"{what} is empty"
    if any("\ud800" <= letter <= "\udfff" for letter in text):
        return "not UTF-8; save the table as UTF-8"
    control = next((letter for letter in text if unicodedata.category(letter) == "Cc"), None)
    return f"{what} holds the control character U+{ord(control):04X}" if control else ""


def refuse_bad(bad: Sequence[BadRow], rows: int, table: Path, skip_bad: bool) -> None:
    """Raise DataError that lists bad rows; with `skip_bad` say how many are left out. A file has all of them."""
    if not bad:
        return
    head = f"{table}: {len(bad):,} of {rows:,} rows"
    if skip_bad:
        print(f"{head} left out, listed with their reasons in {_list_in_file(bad, table)}")
        return
    lines = [f"{head} cannot be used"]
    lines += [f"  row {row.number:<5} {row.name}   {row.reason}" for row in bad[:MOST_SHOWN]]
    if len(bad) > MOST_SHOWN:
        lines.append(f"  … and {len(bad) - MOST_SHOWN:,} more; all are in {_list_in_file(bad, table)}")
    raise DataError("\n".join([*lines, "Fix or remove these rows, or pass --skip-bad to leave them out."]))


def _lines(path: Path) -> list[str]:
    if path.is_dir():
        raise DataError(f"{path}: is a folder. Name the table in it.")
    if not path.exists():
        raise DataError(f"{path}: no such file; make synthetic speech with: python -m course_lib.synth")
    if not path.is_file():
        raise DataError(f"{path}: no file that can be read twice. Save the table as a file.")
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}). Check who may read it.") from error
    if content[:2] == b"PK":
        raise DataError(f"{path}: a spreadsheet or archive, not text. Save the sheet as CSV UTF-8.")
    if content[:2] in (b"\xff\xfe", b"\xfe\xff") or content[1:200:2].count(0) > 40:
        raise DataError(f'{path}: UTF-16, as Excel\'s "Unicode text". Save it as UTF-8 (in Excel: CSV UTF-8).')
    # Bytes that are not UTF-8 stay as what no text holds, so that their rows can be named.
    text = content.decode("utf-8", errors="surrogateescape").removeprefix("\ufeff")
    return re.split(r"\r\n|\n|\r", text)


def _parse(line: str, delimiter: str) -> tuple[list[str], str]:
    """The fields of a line, and what is wrong with its quotes."""
    if delimiter == "\t":
        return line.split("\t"), ""
    limit = csv.field_size_limit(max(len(line), 1))
    try:
        return next(csv.reader([line], delimiter=delimiter, strict=True)), ""
    except csv.Error:
        reason = 'a quote is not closed, or stands within a quoted text; write "" for a quote inside quotes'
        return line.split(delimiter), reason
    finally:
        csv.field_size_limit(limit)


def _row(number: int, line: str, names: list[str], delimiter: str) -> Row:
    values, fault = _parse(line, delimiter)
    if not fault and len(values) != len(names):
        advice = "; put quotes around a text with a comma" if delimiter == "," and len(values) > len(names) else ""
        fault = f"has {len(values)} of {len(names)} columns{advice}"
    values += [""] * (len(names) - len(values))
    return Row(number, dict(zip(names, values, strict=False)), fault)


def _other_kind(names: list[str]) -> str:
    """What the table probably is instead."""
    first = " ".join(names)
    if ";" in first:
        return " Semicolons part its columns; save it with commas."
    if "\t" in first:
        return " Tabs part its columns: of Common Voice, name the unpacked folder; else save the table with commas."
    return " Rename its columns, or add the missing ones."


def _list_in_file(bad: Sequence[BadRow], table: Path) -> Path:
    """Write all bad rows, a line each, into the cache folder: the folder of the table may be another's."""
    key = hashlib.sha256(str(table.absolute()).encode("utf-8", "surrogateescape")).hexdigest()[:8]
    path = cache_folder() / "bad_rows" / f"{table.stem[:60]}-{key}.tsv"
    text = "".join(f"{row.number}\t{row.name}\t{row.reason}\n" for row in bad)
    write_beside(path, lambda beside: beside.write_bytes(text.encode("utf-8", "surrogateescape")))
    return path
