"""Exports hold what the rows hold, act in no spreadsheet, and are written in flat memory."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from evalkit.stores.export import Format, flat, guarded, write
from evalkit.trial import Failure, Trial
from evalkit.whole import opened
from guardrails.errors import ConfigError
from judges.judge import Answer, Score

RECORD = {
    "ttft_ms": 12.5,
    "input_tokens": 7,
    "cost_usd": "0.25",
    "wasted_usd": "0",
    "cached": False,
    "model": "m",
}


def row(n: int = 0, **fields: Any) -> Trial:
    plain: dict[str, Any] = {
        "answer": Answer("yes", record=RECORD),
        "record": RECORD,
        "scores": {"exact": Score.verdict(True, "the same")},
        "tags": ("a", "b"),
        "place": n,
    }
    named = {"run": "r", "sample": f"s{n}", "endpoint": "e", "key": f"k{n}", "started_at": "2026"}
    return Trial(**(named | plain | fields))


def exported(format_: Format, *rows: Trial) -> bytes:
    target = io.BytesIO()
    assert write(lambda: rows, format_, target) == len(rows)
    return target.getvalue()


def table(*rows: Trial) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(exported("csv", *rows).decode(), newline="")))


def parquet(*rows: Trial) -> list[dict[str, Any]]:
    reading = pytest.importorskip("pyarrow.parquet", reason="the extra `parquet` is not installed")
    plain: list[dict[str, Any]] = reading.read_table(io.BytesIO(exported("parquet", *rows))).to_pylist()
    return plain


@given(st.text(st.characters(codec=None)), st.text(st.characters(codec=None)))
@example("\ud800\0", "=")
def test_jsonl_holds_all_of_a_row(text: str, name: str) -> None:
    given_row = row(answer=Answer(text, record=RECORD), scores={name: Score.verdict(False, text)})
    (line,) = exported("jsonl", given_row).splitlines()
    assert Trial.read(json.loads(line)) == given_row


def test_what_judging_cost_has_columns_where_a_judge_says_it() -> None:
    asked = Score(1.0, True, "", cost_usd=0.25, tokens=120)
    first, second = parquet(row(0, scores={"llm": asked, "exact": Score.verdict(True, "")}), row(1))
    assert (first["scores.llm.cost_usd"], first["scores.llm.tokens"]) == (0.25, 120)
    assert (second["scores.llm.cost_usd"], second["scores.llm.tokens"]) == (None, None)
    assert "scores.exact.cost_usd" not in first
    assert table(row(0, scores={"llm": asked}))[0]["scores.llm.cost_usd"] == "0.25"


def test_the_flat_forms_say_the_same() -> None:
    rows = [
        row(0),
        row(1, answer=None, record=None, scores={}, error=Failure("timeout", "too slow", "wait")),
        row(2, scores={"llm": Score.unjudged("quota", "no money"), "exact": Score(0.5, None, "half")}),
    ]
    first, second, third = parquet(*rows)
    assert first["scores.exact.value"] == 1.0
    assert first["scores.exact.passed"] is True
    assert (first["ttft_ms"], first["input_tokens"], first["cost_usd"]) == (12.5, 7, 0.25)
    assert (first["passed"], first["done"], first["tags"]) == (True, True, '["a","b"]')
    assert (second["error.kind"], second["answer.text"], second["ttft_ms"]) == ("timeout", None, None)
    assert (second["passed"], second["scores.exact.passed"]) == (False, None)
    assert (third["scores.llm.error"], third["scores.exact.value"], third["passed"]) == ("quota", 0.5, None)
    cells = table(*rows)
    assert list(cells[0]) == list(first)
    for plain, read in zip(cells, (first, second, third), strict=True):
        said = {name: "" if value is None else guarded(value) for name, value in read.items()}
        assert plain == {name: str(value) for name, value in said.items()}


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "＝1"])
def test_no_cell_acts_as_a_formula(text: str) -> None:
    hostile = row(
        sample=text,
        answer=Answer(text),
        scores={text: Score.verdict(False, text)},
        tags=(text,),
        record=RECORD | {"model": text},
    )
    cells = table(replace(hostile, error=Failure(text, text, text)))[0]
    for cell in (*cells, *cells.values()):
        assert not cell.startswith(("=", "+", "-", "@", "\t", "\r", "\n", "＝"))
    assert cells["answer.text"] == f"'{text}"


def test_negative_numbers_stay_numbers() -> None:
    assert table(row(record=RECORD | {"ttft_ms": -1.5}))[0]["ttft_ms"] == "-1.5"


def test_text_that_no_file_can_hold_is_a_question_mark() -> None:
    assert table(row(sample="a\ud800b"))[0]["sample"] == "a?b"
    assert parquet(row(sample="a\ud800b\0"))[0]["sample"] == "a?b\0"


@pytest.mark.parametrize("tokens", [2**63, -(2**63) - 1, 10**30])
def test_a_number_that_no_column_holds_is_not_known(tokens: int) -> None:
    """As a hostile server may count; JSONL and CSV hold it."""
    paid = Score(1.0, True, "fine", cost_usd=0.1, tokens=tokens)
    large = row(record={**RECORD, "input_tokens": tokens}, scores={"j": paid})
    (cells,) = parquet(large)
    assert (cells["input_tokens"], cells["scores.j.tokens"], cells["scores.j.value"]) == (None, None, 1.0)
    assert table(large)[0]["input_tokens"].lstrip("'") == str(tokens)
    (most,) = parquet(row(record={**RECORD, "input_tokens": 2**63 - 1}))
    assert most["input_tokens"] == 2**63 - 1


@pytest.mark.parametrize("format_", ["jsonl", "csv", "parquet"])
def test_an_empty_run_is_an_empty_table(format_: Format) -> None:
    if format_ == "parquet":
        assert parquet() == []
    else:
        assert len(exported(format_).splitlines()) == (1 if format_ == "csv" else 0)


@pytest.mark.parametrize("format_", ["jsonl", "csv", "parquet"])
def test_rows_are_not_gathered(format_: Format) -> None:
    """No more rows are alive than a Parquet group has."""
    if format_ == "parquet":
        pytest.importorskip("pyarrow", reason="the extra `parquet` is not installed")
    alive: set[int] = set()
    most = 0

    class Watched(Answer):
        def __del__(self) -> None:
            alive.discard(id(self))

    def rows() -> Iterator[Trial]:
        nonlocal most
        for n in range(2_000):
            answer = Watched("yes")
            alive.add(id(answer))
            most = max(most, len(alive))
            yield row(n, answer=answer)

    assert write(rows, format_, io.BytesIO()) == 2_000
    assert most <= 1_100


def test_columns_have_names_of_their_own() -> None:
    names = [field.name for field in flat(["a", "b"])]
    assert len(names) == len(set(names))


def test_a_file_appears_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "rows.csv"
    with pytest.raises(TypeError), opened(path) as file:
        file.writelines([b"half", "no bytes"])  # type: ignore[list-item] # which is the point
    assert list((tmp_path / "deep").iterdir()) == []
    with opened(path) as file:
        file.write(b"whole")
    assert path.read_bytes() == b"whole"


def test_a_file_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot be written") as caught, opened(tmp_path / "file" / "rows"):
        pass
    assert "--out" in caught.value.hint


def test_parquet_names_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ConfigError, match="Parquet") as caught:
        write(lambda: [row()], "parquet", io.BytesIO())
    assert "evalkit-guardrails[parquet]" in caught.value.hint
