"""docs/errors.md against the code: every class, kind, status, field and word, and none that is not there."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from itertools import takewhile
from pathlib import Path
from typing import get_args

import pytest

from guardrails import errors
from guardrails.dialects import failures
from guardrails.dialects.failures import http_failure, http_status
from guardrails.endpoints.opening import Timeouts
from guardrails.errors import GuardrailsError
from guardrails.flow.queue import Why
from guardrails.flow.route import DEFAULT_REASONS, REASONS
from guardrails.flow.spec import StoreSpec
from guardrails.record import CallRecord

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "errors.md").read_text(encoding="utf-8")
FLOW = (ROOT / "docs" / "flow.md").read_text(encoding="utf-8")
ON_THE_WIRE = failures._TRANSIENT_STATUS | failures._REFUSED_STATUS


def rows(page: str, header: str) -> list[list[str]]:
    """The cells of the table under that header row."""
    _, _, rest = page.partition(f"| {header} |")
    assert rest, header
    table = takewhile(lambda line: line.startswith("|"), rest.splitlines()[2:])
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in table]


def words(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def classes(above: type[GuardrailsError] = GuardrailsError) -> Iterator[type[GuardrailsError]]:
    for each in above.__subclasses__():
        if each.__module__ == errors.__name__:
            yield each
            yield from classes(each)


def sources() -> Iterator[str]:
    for file in sorted((ROOT / "guardrails").rglob("*.py")):
        if "testing" not in file.parts:
            yield file.read_text(encoding="utf-8")


def kinds_raised() -> set[str]:
    """The kinds that the code gives to its errors."""
    makers = {cls.__name__ for cls in classes()} | {"cls", "broken"}
    found: set[str] = set()
    for text in sources():
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") in makers:
                given = (each.value for each in node.keywords if each.arg == "kind")
                found |= {str(each.value) for each in given if isinstance(each, ast.Constant)}
    tables = (ON_THE_WIRE, failures._TRANSIENT_WORDS, failures._REFUSED_WORDS, failures._VAGUE_WORDS)
    found |= {kind for table in tables for kind in table.values()}
    found.add(failures._judge(failures.Said(), 204)[0])  # a status of neither table
    return found | {f"timeout_{name}" for name in Timeouts.__dataclass_fields__} | set(get_args(Why))


KINDS = rows(PAGE, "kind | class | HTTP | cause, and what to do")


def test_every_class_is_there_with_its_kind_and_status() -> None:
    listed = rows(PAGE, "class | default kind | HTTP | what to do")
    assert [words(row[0])[0] for row in listed] == [cls.__name__ for cls in classes()]
    for cls, row in zip(classes(), listed, strict=True):
        assert words(row[1]) == [cls.default_kind]
        assert int(row[2]) == http_status(cls("m"))


def test_every_kind_that_is_raised_is_there_and_no_other() -> None:
    listed = [words(row[0])[0] for row in KINDS]
    assert len(set(listed)) == len(listed)
    defaults = {cls.default_kind for cls in classes()}
    assert set(listed) == kinds_raised() - defaults


@pytest.mark.parametrize("row", KINDS, ids=lambda row: str(row[0]))
def test_each_kind_has_its_class_and_status(row: list[str]) -> None:
    kind, cls, status = words(row[0])[0], getattr(errors, words(row[1])[0]), int(row[2])
    if kind in ON_THE_WIRE.values():
        assert ON_THE_WIRE[status] == kind
        error: GuardrailsError = http_failure(status, {}, b"")
        assert (type(error), error.kind) == (cls, kind)
    else:
        error = cls("m", kind=kind)
    assert http_status(error) == status


def test_what_holds_when_the_store_is_gone() -> None:
    listed = [row[0] for row in rows(PAGE, "`when_gone` | calls | for")]
    field = StoreSpec.model_fields["when_gone"]
    assert [words(cell)[0] for cell in listed] == list(get_args(field.annotation))
    assert [words(cell)[0] for cell in listed if "default" in cell] == [field.default]


def test_every_field_of_a_record_is_there() -> None:
    listed = [word for row in rows(PAGE, "field | what it says") for word in words(row[0])]
    assert sorted(listed) == sorted(CallRecord.names())


def test_every_word_of_flow_is_there() -> None:
    written = re.compile(r"""(?:"flow",\s*|_note\()f?"(\w+)""")
    found = {word for text in sources() for word in written.findall(text)}
    listed = {word for row in rows(PAGE, "word in `flow` | what happened") for word in words(row[0])}
    assert listed == found


def test_every_reason_to_leave_a_route_is_there() -> None:
    listed = rows(FLOW, "word in `on` | a call comes here when another route")
    assert [words(row[0])[0] for row in listed] == list(REASONS)
    assert {words(row[0])[0] for row in listed if "default" in row[0]} == DEFAULT_REASONS
