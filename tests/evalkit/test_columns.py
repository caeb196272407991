"""Columns say of rows what the rows say, and keep none of them."""

from __future__ import annotations

import gc
import math
import weakref
from collections import Counter
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from evalkit.columns import (
    CACHED,
    FAILED,
    MISJUDGED,
    PHASES,
    PRICED,
    Columns,
    answer_hash,
    distinct,
    hash64,
)
from evalkit.table import Spool
from evalkit.trial import Trial
from guardrails.call import ToolUse
from judges.judge import Answer, Score

ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "sample": st.sampled_from(["s1", "s2", "s3", "é", "\ud800"]),
            "passed": st.sampled_from([True, False, None, "reset", "timeout"]),
            "arm": st.sampled_from(["a", "b"]),
            "set": st.sampled_from(["", "x"]),
            "k": st.integers(0, 3),
            "weight": st.floats(0.01, 100),
            "tags": st.lists(st.sampled_from(["t", "u", "v"]), max_size=4).map(tuple),
            "record": st.fixed_dictionaries(
                {
                    "ttft_ms": st.none() | st.floats(0, 1e6),
                    "cost_usd": st.none() | st.decimals(0, 1, places=9).map(str),
                    "wasted_usd": st.just("0.1"),
                    "cached": st.booleans(),
                    "output_tokens": st.integers(0, 2**70),
                }
            ),
        }
    ),
    max_size=30,
)


def build(made: Callable[..., Trial], given: list[dict[str, Any]]) -> list[Trial]:
    return [made(**dict(one)) for one in given]


def by_group(rows: list[Trial]) -> list[Trial]:
    """Rows as columns have them: those of a group next to each other, in the order in which they came."""
    groups = list(dict.fromkeys((row.set, row.arm) for row in rows))
    return sorted(rows, key=lambda row: groups.index((row.set, row.arm)))


@given(given_rows=ROWS)
def test_every_row_is_there_once_and_says_the_same(
    made: Callable[..., Trial], given_rows: list[dict[str, Any]]
) -> None:
    rows = build(made, given_rows)
    columns = Columns.of(iter(rows))
    rows = by_group(rows)

    ids = columns.sample_ids(range(len(rows)))

    assert len(columns) == len(rows)
    for number, row in enumerate(rows):
        kept = {name: columns.rows[name][number] for name in columns.rows.spec}
        group = columns.groups[kept["arm"]]
        assert (group.set, group.arm) == (row.set, row.arm)
        assert ids[number] == row.sample
        assert kept["sample"] == hash64(row.set, row.sample)
        assert {1: True, 0: False, -1: None}[int(kept["passed"])] is row.passed
        assert columns.words.errors[kept["error"]] == (row.error.kind if row.error else "")
        assert bool(kept["flags"] & FAILED) == (row.error is not None)
        assert bool(kept["flags"] & MISJUDGED) == bool(row.judge_errors)
        assert bool(kept["flags"] & CACHED) == row.cached
        assert float(kept["weight"]) == row.weight
        expected = None if row.error or row.cached else row.number("ttft_ms")
        assert (None if np.isnan(kept["ttft"]) else kept["ttft"]) == expected
        tags = columns.tags["tag"][columns.tags["row"] == number]
        assert [columns.words.tags[tag] for tag in tags] == list(dict.fromkeys(row.tags))


@given(given_rows=ROWS)
def test_money_is_summed_exactly_and_by_arm(
    made: Callable[..., Trial], given_rows: list[dict[str, Any]]
) -> None:
    rows = build(made, given_rows)
    columns = Columns.of(rows)
    expected: Counter[tuple[str, str]] = Counter()
    for row in rows:
        assert row.record is not None
        if not row.cached:  # what is known of an unknown cost was paid all the same
            expected[row.set, row.arm] += Decimal(row.record["cost_usd"] or 0) + Decimal("0.1")  # type: ignore[assignment]

    assert {(g.set, g.arm): g.spent for g in columns.groups} == {
        (g.set, g.arm): expected[g.set, g.arm] for g in columns.groups
    }
    assert int(columns.flagged(PRICED).sum()) == sum(
        r.record["cost_usd"] is not None for r in rows if r.record
    )


@given(given_rows=ROWS, data=st.data())
def test_taking_rows_is_the_same_as_never_having_seen_the_others(
    made: Callable[..., Trial], given_rows: list[dict[str, Any]], data: st.DataObject
) -> None:
    rows = by_group(build(made, given_rows))
    kept = data.draw(st.lists(st.booleans(), min_size=len(rows), max_size=len(rows)))
    taken = Columns.of(rows).take(np.array(kept, dtype=bool))
    alone = Columns.of(row for row, keep in zip(rows, kept, strict=True) if keep)

    assert_same_rows(taken, alone)


def assert_same_rows(one: Columns, other: Columns) -> None:
    assert one.rows["sample"].tolist() == other.rows["sample"].tolist()
    assert [one.words.tags[t] for t in one.tags["tag"]] == [other.words.tags[t] for t in other.tags["tag"]]
    assert one.tags["row"].tolist() == other.tags["row"].tolist()
    assert one.scores["row"].tolist() == other.scores["row"].tolist()
    assert np.array_equal(one.scores["value"], other.scores["value"], equal_nan=True)


@given(given_rows=ROWS, bound=st.sampled_from([0, 300, math.inf]))
def test_a_group_is_the_same_as_its_rows_alone(
    made: Callable[..., Trial], given_rows: list[dict[str, Any]], bound: float
) -> None:
    rows = build(made, given_rows)
    columns = Columns.of(rows, Spool(bound))
    not_first = np.arange(len(rows)) > 0
    rest = columns.take(not_first)

    for number, group in enumerate(columns.groups):
        own = [row for row in rows if (row.set, row.arm) == (group.set, group.arm)]
        assert_same_rows(columns.group(number), Columns.of(own))
        assert_same_rows(rest.group(number), Columns.of(own[number == 0 :]))
        assert columns.group(number).sample_ids(range(len(own))) == [row.sample for row in own]


def same(one: Columns, other: Columns) -> bool:
    """Whether both say the same of the same rows."""
    tables = ("rows", "scores", "again", "tags", "findings", "not_scanned")
    return (one.groups, one.words, one.failures) == (other.groups, other.words, other.failures) and all(
        np.array_equal(getattr(one, table)[name], getattr(other, table)[name], equal_nan=True)
        for table in tables
        for name in getattr(one, table).spec
    )


@given(given_rows=ROWS, data=st.data())
def test_rows_say_the_same_from_memory_and_from_a_file(
    made: Callable[..., Trial], given_rows: list[dict[str, Any]], data: st.DataObject
) -> None:
    rows = by_group(build(made, given_rows))
    kept = np.array(data.draw(st.lists(st.booleans(), min_size=len(rows), max_size=len(rows))), dtype=bool)
    in_memory, in_file = (Columns.of(rows, Spool(bound)) for bound in (math.inf, 0))

    assert (in_memory.rows.spool._written, in_file.rows.spool._written) == (0, in_file.nbytes)
    assert same(in_memory, in_file)
    assert same(in_memory.take(kept), in_file.take(kept))
    assert in_file.take(kept).sample_ids(range(int(kept.sum()))) == [
        row.sample for row, keep in zip(rows, kept, strict=True) if keep
    ]


@given(given_rows=ROWS, data=st.data())
def test_taking_twice_is_taking_what_both_mark(
    made: Callable[..., Trial], given_rows: list[dict[str, Any]], data: st.DataObject
) -> None:
    columns = Columns.of(build(made, given_rows))
    masks = st.lists(st.booleans(), min_size=len(columns), max_size=len(columns))
    one, other = (np.array(data.draw(masks), dtype=bool) for _ in range(2))

    assert same(columns.take(one).take(other[one]), columns.take(one & other))
    assert columns.take(np.ones(len(columns), dtype=bool)) is columns


def test_a_row_keeps_its_new_number_when_its_scores_are_picked(made: Callable[..., Trial]) -> None:
    columns = Columns.of([made(1), made(2), made(3, None), made(4)]).take(np.array([False, True, True, True]))
    scores = columns.scores
    judged = scores["verdict"] >= 0

    assert scores["row"].tolist() == [0, 1, 2]
    assert scores.where(judged)["row"].tolist() == [0, 2]


def test_a_group_and_a_tag_are_picked(made: Callable[..., Trial]) -> None:
    columns = Columns.of([made(1, tags=("x",)), made(2), made(1, arm="b", tags=("x", "y"))])

    assert [len(columns.group(n)) for n in range(2)] == [2, 1]
    assert (len(columns.tagged("x")), len(columns.tagged("y")), len(columns.tagged("none"))) == (2, 1, 0)
    assert columns.tagged("x").sample_ids([1]) == ["1"]


def test_no_row_is_kept(made: Callable[..., Trial]) -> None:
    class Watched(Trial):
        """A row that can be watched."""

        __slots__ = ("__weakref__",)

    alive: list[weakref.ref[Watched]] = []

    def rows() -> Iterator[Trial]:
        for number in range(20):
            plain = made(number)
            row = Watched(**{name: getattr(plain, name) for name in Trial.__dataclass_fields__})
            alive.append(weakref.ref(row))
            yield row

    columns = Columns.of(rows())
    gc.collect()

    assert len(columns) == 20
    assert not [ref for ref in alive if ref() is not None]


def test_a_row_takes_no_more_bytes_than_promised(made: Callable[..., Trial]) -> None:
    columns = Columns.of(made(f"sample-{n:06d}", tags=("billing", "easy")) for n in range(1_000))

    assert columns.nbytes / 1_000 <= 200


def test_answers_are_one_vote_whatever_their_case_and_spacing() -> None:
    def vote(text: str, *calls: ToolUse) -> int:
        return answer_hash(Trial("r", "s", "e", "k", "now", answer=Answer(text, calls)))

    assert vote("The  Answer\n") == vote("the answer")
    assert vote("the answer") != vote("theanswer")
    assert vote("", ToolUse("1", "f", "{}")) == vote("", ToolUse("2", "f", "{}"))
    assert vote("", ToolUse("1", "f", "{}")) != vote("", ToolUse("1", "g", "{}"))
    assert vote("f", ToolUse("1", "", "")) != vote("", ToolUse("1", "f", ""))
    assert vote("") != 0
    assert answer_hash(Trial("r", "s", "e", "k", "now")) == 0


def test_the_parts_of_a_hash_do_not_run_together() -> None:
    assert hash64("ab", "c") != hash64("a", "bc")
    assert hash64("a") == hash64("a")


def test_a_failed_call_has_no_times_and_an_example_of_its_kind_is_kept(made: Callable[..., Trial]) -> None:
    columns = Columns.of([made(1, "reset"), made(2, record=None), made(3)])

    assert np.isnan([columns.rows[phase][:2] for phase in PHASES]).all()
    assert columns.failures["reset"].message == "it broke"
    assert not np.isnan(columns.rows["e2e"][2])


def test_scores_of_many_judges_are_kept_by_row(made: Callable[..., Trial]) -> None:
    scores = {
        "x": Score.verdict(False, ""),
        "y": Score(0.5, None, "", values=(0.4, 0.6)),
        "z": Score.unjudged("timeout", ""),
    }
    columns = Columns.of([made(1, scores=scores)])

    assert columns.words.scorers == ("x", "y", "z")
    assert columns.scores["verdict"].tolist() == [0, -1, -1]
    assert columns.scores["value"][:2].tolist() == [0.0, 0.5]
    assert {name: columns.again[name].tolist() for name in ("row", "scorer", "value")} == {
        "row": [0, 0],
        "scorer": [1, 1],
        "value": [0.4, 0.6],
    }
    assert columns.words.errors[columns.scores["error"][2]] == "timeout"


@given(st.lists(st.integers(0, 2**64 - 1) | st.integers(0, 3)))
def test_distinct_counts_the_different_values(values: list[int]) -> None:
    assert distinct(np.array(values, dtype=np.uint64)) == len(set(values))
