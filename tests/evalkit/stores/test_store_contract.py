"""What both stores promise, each tested against a real database."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from random import Random
from time import monotonic
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from evalkit.stores import Run, Store, as_found, open_store, run_id
from evalkit.trial import Failure, Trial
from guardrails.call import Message, OpaquePart, Text, ToolResult, ToolUse
from guardrails.errors import ConfigError
from judges.judge import Answer, Score

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
fresh = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
"""The store is shared by all examples of a test: each makes a run of its own."""


def made(store: Store, name: str = "facts", **fields: Any) -> Run:
    at = fields.pop("started_at", NOON)
    return store.create(Run(run_id(name, at), name, fields.pop("digest", "d"), "running", at, **fields))


def row(run: str, n: int = 0, **fields: Any) -> Trial:
    """A row that is done, unless the fields say otherwise."""
    record = {"ttft_ms": 12.5, "cost_usd": 0.25, "wasted_usd": 0.0, "cached": False}
    answer = Answer("yes", record=record)
    plain: dict[str, Any] = {
        "key": f"key-{n}",
        "ask": f"ask-{n}",
        "place": n,
        "sample": f"s{n}",
        "endpoint": "e",
        "started_at": (NOON + timedelta(seconds=n)).isoformat(),
        "answer": answer,
        "record": record,
        "scores": {"exact": Score.verdict(True, "the same")},
    }
    return Trial(run=run, **(plain | fields))


def failed(run: str, n: int = 0, **fields: Any) -> Trial:
    nothing: dict[str, Any] = {"answer": None, "record": None, "scores": {}}
    return row(run, n, error=Failure("timeout", "too slow", "wait"), **(nothing | fields))


# --- runs --------------------------------------------------------------------------------------------------


def test_a_run_comes_back_as_it_was_given(store: Store) -> None:
    info = {"versions": {"evalkit": "0.1"}, "seeds": [1, 2], "odd": "a\0b\ud800␀", "none": None}
    run = made(store, "a name\0", digest="d\0␀", planned=7, tags=("b", "a\0"), info=info)
    found = store.find(run.id)
    assert found == replace(run, tags=("a\0", "b"))
    assert found.info == info


def test_ids_say_when_and_what_and_never_collide(store: Store) -> None:
    ids = [made(store, "support desk/é").id for _ in range(3)]
    assert ids == [f"20261121-120000-support-desk{suffix}" for suffix in ("", "-2", "-3")]


def test_times_are_kept_as_moments(store: Store) -> None:
    from zoneinfo import ZoneInfo

    at = datetime(2026, 11, 21, 9, 30, 0, 123456, tzinfo=ZoneInfo("Asia/Kolkata"))
    assert store.find(made(store, started_at=at).id).started_at == at


def test_update_writes_down_how_a_run_ended(store: Store) -> None:
    run = made(store)
    ended = replace(run, status="complete", ended_at=NOON + timedelta(minutes=3), planned=12, info={"a": 1})
    store.update(ended)
    assert store.find(run.id) == ended
    with pytest.raises(ConfigError, match="no run nowhere"):
        store.update(replace(run, id="nowhere"))


def test_runs_are_listed_newest_first(store: Store) -> None:
    at = [NOON + timedelta(hours=hour) for hour in (2, 0, 1)]
    runs = [made(store, f"r{n}", started_at=when, digest=f"d{n % 2}") for n, when in enumerate(at)]
    store.tag(runs[1].id, add=["kept"])
    assert [run.id for run in store.runs()] == [runs[0].id, runs[2].id, runs[1].id]
    assert [run.id for run in store.runs(limit=1)] == [runs[0].id]
    assert [run.id for run in store.runs(digest="d0")] == [runs[0].id, runs[2].id]
    assert [run.id for run in store.runs(tag="kept")] == [runs[1].id]
    assert store.runs(tag="nothing") == []


def test_a_run_is_found_by_id_beginning_tag_or_as_the_latest(store: Store) -> None:
    old = made(store, "facts")
    new = made(store, "facts-more", started_at=NOON + timedelta(days=1))
    store.tag(old.id, add=["baseline", "both"])
    store.tag(new.id, add=["both"])
    assert store.find(old.id).id == old.id
    assert store.find("20261121").id == old.id
    assert store.find("baseline").id == old.id
    assert store.find("latest").id == new.id


@pytest.mark.parametrize("name", ["2026", "both"])
def test_a_name_of_several_runs_asks_which(store: Store, name: str) -> None:
    ids = [made(store, tags=("both",)).id for _ in range(2)]
    with pytest.raises(ConfigError, match="several") as caught:
        store.find(name)
    assert all(each in caught.value.hint for each in ids)


@pytest.mark.parametrize("name", ["", "nothing", "%", "_", "latest", "2026112*", "a\0", "\ud800"])
def test_a_name_of_no_run_says_which_there_are(store: Store, name: str) -> None:
    with pytest.raises(ConfigError, match="there is no run") as caught:
        store.find(name)
    assert caught.value.hint == "the latest are: none"
    assert "not-to-be-seen" not in str(caught.value)


def test_an_id_is_not_a_pattern(store: Store) -> None:
    run = made(store)
    for name in ("%", "_" * len(run.id), run.id.upper(), "2026%"):
        with pytest.raises(ConfigError, match=run.id):
            store.find(name)


def test_tags_are_given_and_taken(store: Store) -> None:
    run = made(store, tags=("first",))
    store.tag(run.id, add=["b", "a", "b"])
    store.tag(run.id, add=["a"], remove=["first", "absent"])
    assert store.find(run.id).tags == ("a", "b")
    with pytest.raises(ConfigError, match="no run nowhere"):
        store.tag("nowhere", add=["a"])
    for unfit in ("latest", " ", "x" * 101):
        with pytest.raises(ConfigError, match="cannot be a tag"):
            store.tag(run.id, add=[unfit])


def test_a_tag_is_moved_away_from_all_others(store: Store) -> None:
    first, second, third = (made(store, tags=("main", "kept")) for _ in range(3))
    store.tag(third.id, add=["main", "new"], move=True)
    assert [store.find(run.id).tags for run in (first, second, third)] == [
        ("kept",),
        ("kept",),
        ("kept", "main", "new"),
    ]
    with pytest.raises(ConfigError, match="no run nowhere"):
        store.tag("nowhere", add=["main"], move=True)
    assert store.find("main").id == third.id


def test_of_many_who_move_a_tag_at_once_one_has_it(store: Store) -> None:
    """Whoever looks for the baseline would find several."""
    runs = [made(store) for _ in range(4)]
    for _ in range(10):
        begin = threading.Barrier(len(runs))

        def move(run: Run, begin: threading.Barrier = begin) -> None:
            begin.wait()
            store.tag(run.id, add=["main"], move=True)

        with ThreadPoolExecutor(len(runs)) as pool:
            list(pool.map(move, runs))
        assert len(store.runs(tag="main")) == 1
        store.tag(store.find("main").id, remove=["main"])


def test_delete_forgets_a_run_and_nothing_else(store: Store) -> None:
    gone, stays = made(store, "gone", tags=("both",)), made(store, "stays", tags=("both",))
    for run in (gone, stays):
        store.append([row(run.id, n) for n in range(3)])
    store.delete(gone.id)
    assert [run.id for run in store.runs()] == [stays.id]
    with pytest.raises(ConfigError, match="no run"):
        list(store.trials(gone.id))
    assert store.done(gone.id) == frozenset()
    assert len(list(store.trials(stays.id))) == 3
    assert store.find("both").id == stays.id
    with pytest.raises(ConfigError, match="no run"):
        store.delete(gone.id)


def test_a_place_shows_no_password(store: Store, url: str) -> None:
    for shown in (store.place, repr(store)):
        assert "not-to-be-seen" not in shown
        assert ("postgresql" in shown) == ("postgresql" in url)


# --- rows --------------------------------------------------------------------------------------------------

texts = st.text(st.characters(codec=None), max_size=20)  # with NUL and halves of surrogate pairs
tricky = st.sampled_from(
    ["", "\0", "␀", "␀0000", "␀2400", "\ud800", "\udfff\ud800", "a\0b", "ü", "😀", "\\u0000"]
)
words = texts | tricky
numbers = st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False)
json_values = st.recursive(
    st.none() | st.booleans() | numbers | words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3),
    max_leaves=8,
)
parts = st.one_of(
    st.builds(Text, words),
    st.builds(ToolUse, words, words, words, st.dictionaries(words, json_values, max_size=1)),
    st.builds(ToolResult, words, st.lists(st.builds(Text, words), max_size=2).map(tuple), st.booleans()),
    st.builds(OpaquePart, st.dictionaries(words, json_values, max_size=2)),
)
records = st.dictionaries(words.filter(lambda name: name != "cost_usd"), json_values, max_size=4) | st.just(
    {"cost_usd": 0.5, "wasted_usd": 0.1, "cached": False}
)
scores = st.one_of(
    st.builds(Score.verdict, st.booleans(), words),
    st.builds(Score.unjudged, words, words),
    st.builds(Score, st.floats(0, 1), st.none() | st.booleans(), words),
)


@st.composite
def rows(draw: st.DrawFn) -> Trial:
    record = draw(st.none() | records)
    answer = draw(
        st.none()
        | st.builds(
            Answer,
            text=words,
            tool_calls=st.lists(st.builds(ToolUse, words, words, words), max_size=2).map(tuple),
            finish_reason=st.none() | words,
            refusal=words,
            logprobs=st.none() | st.lists(st.floats(-9, 0), min_size=1, max_size=3).map(tuple),
            turns=st.lists(st.builds(Message, words, st.lists(parts, max_size=2).map(tuple)), max_size=2).map(
                tuple
            ),
            record=st.just(record),
        )
    )
    return Trial(
        run="",
        key=draw(words),
        sample=draw(words),
        endpoint=draw(words),
        started_at=draw(words),
        set=draw(words),
        prompt=draw(words),
        k=draw(st.integers(0, 2**31 - 1)),
        place=draw(st.integers(0, 2**63 - 1)),
        ask=draw(words),
        tags=tuple(draw(st.lists(words, max_size=3))),
        weight=draw(st.floats(1e-300, 1e300)),
        answer=answer,
        scores=draw(st.dictionaries(words, scores, max_size=2)),
        record=record,
        error=draw(st.none() | st.builds(Failure, words, words, words)),
    )


@fresh
@given(rows())
@example(row("", 0, sample="a\0b", answer=Answer("\0\ud800␀")))
@example(row("", 0, key="\0", set="\ud800", ask="␀"))
def test_a_row_comes_back_as_it_was_given(store: Store, given_row: Trial) -> None:
    run = made(store)
    trial = replace(given_row, run=run.id)
    if trial.answer is not None and trial.answer.record is not trial.record:
        trial = replace(trial, answer=replace(trial.answer, record=trial.record))
    store.append([trial])
    assert list(store.trials(run.id)) == [trial]
    assert store.done(run.id) == (frozenset({trial.key}) if trial.done else frozenset())
    assert next(iter(store.trials(run.id))).passed is trial.passed


@fresh
@given(st.lists(st.integers(0, 60), unique=True), st.lists(st.integers(1, 7), min_size=1), st.randoms())
def test_rows_come_in_the_plans_order_however_they_were_split(
    store: Store, places: Sequence[int], sizes: Sequence[int], random: Random
) -> None:
    run = made(store)
    wanted = [row(run.id, place) for place in sorted(places)]
    shuffled = list(wanted)
    random.shuffle(shuffled)
    arriving = iter(shuffled)
    for size in itertools.cycle(sizes):
        batch = list(itertools.islice(arriving, size))
        store.append(batch)
        if not batch:
            break
    assert list(store.trials(run.id)) == wanted
    assert store.done(run.id) == {trial.key for trial in wanted}
    assert store.find(run.id).trials == len(wanted)


@fresh
@given(st.lists(st.tuples(st.integers(0, 3), st.booleans()), max_size=12), st.integers(1, 4))
def test_a_done_row_gives_way_to_done_ones_only(
    store: Store, arriving: Sequence[tuple[int, bool]], size: int
) -> None:
    """Against the rule, word for word, kept in a dictionary."""
    run = made(store)
    kept: dict[str, Trial] = {}
    trials = []
    for version, (n, done) in enumerate(arriving):
        made_row = (row if done else failed)(run.id, n, prompt=f"version {version}")
        trials.append(made_row)
        before = kept.get(made_row.key)
        if before is None or made_row.done or not before.done:
            kept[made_row.key] = made_row
    for start in range(0, len(trials), size):
        store.append(trials[start : start + size])
    assert {trial.key: trial for trial in store.trials(run.id)} == kept


def test_a_batch_is_kept_whole_or_not_at_all(store: Store) -> None:
    run = made(store)
    with pytest.raises(ConfigError, match="no run zzz"):
        store.append([row(run.id, 0), row("zzz", 1)])
    assert list(store.trials(run.id)) == []
    store.append([])


def test_rows_of_several_runs_stay_apart(store: Store) -> None:
    first, second = made(store, "first"), made(store, "second")
    both = [row(run.id, n) for run in (first, second) for n in range(3)]
    store.append(both)
    assert list(store.trials(first.id)) == both[:3]
    assert list(store.trials(second.id)) == both[3:]


def test_failing_rows_are_those_not_known_to_have_passed(store: Store) -> None:
    run = made(store)
    no = {"exact": Score.verdict(False, "other")}
    unjudged = {"exact": Score.unjudged("reference", "none")}
    store.append(
        [row(run.id, 0), row(run.id, 1, scores=no), row(run.id, 2, scores=unjudged), failed(run.id, 3)]
    )
    assert [trial.place for trial in store.trials(run.id, failing=True)] == [1, 2, 3]
    assert [trial.place for trial in store.trials(run.id, failing=False)] == [0]
    assert [trial.place for trial in store.trials(run.id, failing=True, limit=2)] == [1, 2]
    assert [trial.place for trial in store.trials(run.id, limit=0)] == []
    assert store.done(run.id) == {"key-0", "key-1"}


def test_a_slow_reader_sees_every_row_that_was_there_while_others_write(store: Store) -> None:
    """More than two pieces; a writer changes and adds rows between any two of them."""
    run = made(store)
    store.append([failed(run.id, n) for n in range(1_200)])
    seen = []
    for n, trial in enumerate(store.trials(run.id)):
        seen.append(trial.place)
        if n % 100 == 0:
            store.append([row(run.id, place) for place in (0, 1_199, 2_000 + n)])
    assert seen[:1_200] == list(range(1_200))
    assert sorted(set(seen)) == seen


@pytest.mark.parametrize("rows", [150, 200])
def test_a_run_that_is_deleted_while_it_is_read_does_not_end_like_a_whole_one(
    store: Store, rows: int
) -> None:
    """Whoever counted on these rows would take a part for all of them."""
    run = made(store)
    store.append([row(run.id, n) for n in range(rows)])
    reading = store.trials(run.id)
    first = next(reading)
    store.delete(run.id)
    seen = [first]
    with pytest.raises(ConfigError, match="was deleted while it was read"):
        seen.extend(reading)
    assert len(seen) < rows


def test_a_reader_may_stop_early(store: Store) -> None:
    run = made(store)
    store.append([row(run.id, n) for n in range(20)])
    reading = store.trials(run.id)
    assert next(reading).place == 0
    del reading
    store.delete(run.id)


def test_a_field_of_fifty_megabytes_is_kept(store: Store) -> None:
    run = made(store)
    huge = "a\0ü" + "ab" * 26_000_000
    store.append([row(run.id, 0, answer=Answer(huge)), row(run.id, 1)])
    first, second = store.trials(run.id)
    assert first.answer is not None
    assert first.answer.text == huge
    assert second.place == 1


def test_large_rows_are_read_a_few_at_a_time(store: Store) -> None:
    import tracemalloc

    run = made(store)
    for n in range(30):
        store.append([row(run.id, n, answer=Answer("x" * 2_000_000))])
    tracemalloc.start()
    try:
        assert sum(1 for _ in store.trials(run.id)) == 30
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 40_000_000, "60 MB were read"


# --- answers of earlier calls ------------------------------------------------------------------------------


def test_answers_are_those_that_were_measured(store: Store) -> None:
    run = made(store)
    cached = {"cached": True, "ttft_ms": 0.1}
    store.append(
        [
            row(run.id, 0),
            failed(run.id, 1),
            row(run.id, 2, record=cached, answer=Answer("old", record=cached)),
            row(run.id, 3, ask=""),
            row(run.id, 4, ask="a\0", record=None, answer=Answer("unrecorded")),
        ]
    )
    kept = store.answers(["ask-0", "ask-1", "ask-2", "", "a\0", "absent"])
    assert set(kept) == {"ask-0", "a\0"}
    assert kept["ask-0"].answer.text == "yes"
    assert kept["ask-0"].record == kept["ask-0"].answer.record
    assert kept["ask-0"].record is not None
    assert kept["ask-0"].record["ttft_ms"] == 12.5
    assert kept["a\0"].record is None
    assert "yes" not in repr(kept["ask-0"])


def test_the_newest_answer_wins_whatever_the_run(store: Store) -> None:
    runs = [made(store, name) for name in ("a", "b", "c")]
    for run, second in zip(runs, (5, 9, 7), strict=True):
        at = (NOON + timedelta(seconds=second)).isoformat()
        store.append([row(run.id, 0, started_at=at, answer=Answer(f"at {second}"))])
    assert store.answers(["ask-0"])["ask-0"].answer.text == "at 9"


def test_a_runs_own_answers_are_found_by_their_keys(store: Store) -> None:
    run, other = made(store, "a"), made(store, "b")
    cached = {"cached": True}
    taken = row(run.id, 2, record=cached, answer=Answer("old", record=cached))
    store.append([row(run.id, 0), failed(run.id, 1), taken, row(run.id, 3, key="\0"), row(other.id, 4)])
    kept = store.measured(run.id, [*(f"key-{n}" for n in range(1_000)), "\0"])
    assert set(kept) == {"key-0", "\0"}
    assert kept["\0"].own
    assert kept["\0"].answer == row(run.id, 0).answer
    assert kept["\0"].record == row(run.id, 0).record
    assert not store.answers(["ask-3"])["ask-3"].own


def test_thousands_of_answers_are_looked_up_at_once(store: Store) -> None:
    run = made(store)
    store.append([row(run.id, n) for n in range(1_500)])
    assert len(store.answers([f"ask-{n}" for n in range(3_000)])) == 1_500


def test_tallies_count_samples_by_how_many_of_their_rows_passed(store: Store) -> None:
    run = made(store)
    no = {"exact": Score.verdict(False, "other")}
    unjudged = {"exact": Score.unjudged("quota", "no money")}
    same: dict[str, Any] = {"set": "facts", "weight": 2.0}
    store.append([row(run.id, n, **same) for n in range(3)])
    store.append([row(run.id, 3, sample="s0", k=1, scores=no, **same)])
    store.append([row(run.id, 4, sample="s1", k=1, scores=unjudged, **same)])
    store.append([failed(run.id, 5, prompt="short\0")])
    found = {
        (t.set, t.prompt, t.weight, t.judged, t.passed): (t.samples, t.rows, t.cost_usd, t.priced)
        for t in store.tallies(run.id)
    }
    assert found == {
        ("facts", "", 2.0, 2, 1): (1, 2, 0.5, 2),
        ("facts", "", 2.0, 1, 1): (2, 3, 0.75, 3),
        ("", "short\0", 1.0, 1, 0): (1, 1, 0.0, 0),
    }


def test_tallies_count_what_the_run_paid(store: Store) -> None:
    run = made(store)
    judged = {"rubric": Score(1.0, True, "fine", cost_usd=0.5)}
    paid = row(run.id, 0, scores=judged)
    assert paid.record is not None
    taken = replace(row(run.id, 1, scores=judged), record={**paid.record, "cached": True})
    store.append([paid, taken])
    (tally,) = store.tallies(run.id)
    assert (tally.cost_usd, tally.priced) == (0.25 + 0.5 + 0.5, 2), "an earlier call's answer costs nothing"
    assert tally.judging_usd == 0, "nobody asked"
    (tally,) = store.tallies(run.id, judging=True)
    assert tally.judging_usd == 0.5 + 0.5


def test_what_gave_way_was_paid_too(store: Store) -> None:
    run = made(store)
    broken = {"rubric": Score.unjudged("timeout", "no reply")}

    def asked(place: int, usd: str | None, **fields: Any) -> Trial:
        """An answer of its own each time, as its record says."""
        record = {"id": str(next(calls)), "cost_usd": usd, "wasted_usd": 0.0, "cached": False}
        return row(run.id, place, **{"record": record, "scores": broken, **fields})

    calls = itertools.count()
    unknown = asked(1, None, scores={"rubric": replace(broken["rubric"], cost_usd=0.5)})
    store.append([asked(0, "0.1"), unknown, asked(2, "9"), failed(run.id, 3)])
    assert store.replaced(run.id) == {}
    store.append([asked(0, "0.2"), asked(1, "4"), failed(run.id, 3)])
    store.append([asked(0, "0.4", scores={}), asked(1, "8", scores={})])
    store.append([asked(0, "16")])  # it does not take the place of one that is done
    (cost,) = store.replaced(run.id).values()
    assert cost == Decimal("0.1") + Decimal("0.2") + Decimal("0.5") + 4
    store.append([asked(5, "1", prompt="short\0"), asked(6, "1", set="more", endpoint="f")])
    store.append([asked(5, "2", prompt="short\0"), asked(6, "3", set="more", endpoint="f")])
    assert store.replaced(run.id) == {("", "e"): cost, ("", "e/short\0"): 1, ("more", "f"): 1}
    assert store.replaced("another") == {}


def test_what_is_known_of_an_unknown_cost_was_paid_too(store: Store) -> None:
    """The call cost 0.25; what its judge cost that gave no verdict, nobody knows."""
    run = made(store)
    lost = {"rubric": Score.unjudged("timeout", "no reply"), "other": Score(1.0, True, "fine", cost_usd=0.5)}
    lost["rubric"] = replace(lost["rubric"], calls=1)
    first = row(run.id, 0, scores=lost)
    assert first.record is not None
    store.append([first])
    (tally,) = store.tallies(run.id)
    assert (tally.cost_usd, tally.priced, tally.rows) == (0.0, 0, 1)

    store.append([replace(first, record={**first.record, "id": "another"})])
    assert store.replaced(run.id) == {("", "e"): Decimal("0.75")}, "with the call"
    store.append([replace(first, record={**first.record, "id": "another"}, started_at="later")])
    assert store.replaced(run.id) == {("", "e"): Decimal("1.25")}, "the same call, judged again"


def test_a_row_that_is_written_twice_is_paid_once(store: Store) -> None:
    """As where a server broke off before it said that the row is kept."""
    run = made(store)
    judged = row(run.id, scores={"rubric": Score(None, None, "no", "timeout", cost_usd=0.5)})
    for _ in range(2):
        store.append([judged])
    assert store.replaced(run.id) == {}
    store.append([replace(judged, started_at="later")])
    assert store.replaced(run.id) == {("", "e"): Decimal("0.5")}


def test_a_call_that_is_judged_again_is_paid_once(store: Store) -> None:
    run = made(store)

    def judged(usd: float, error: str | None, prompt: str = "") -> Trial:
        return row(run.id, scores={"rubric": Score(None, None, "no", error, cost_usd=usd)}, prompt=prompt)

    for usd in (0.5, 0.25, 0.125):
        store.append([judged(usd, "timeout")])
    assert store.replaced(run.id) == {("", "e"): Decimal("0.75")}
    (tally,) = store.tallies(run.id)
    assert tally.cost_usd == 0.25 + 0.125


# --- several at once ---------------------------------------------------------------------------------------


def test_threads_that_append_to_one_run_lose_nothing(store: Store) -> None:
    run = made(store)

    def work(worker: int) -> None:
        for start in range(0, 100, 10):
            # the odd rows belong to all of them, the even ones to one
            mine = [row(run.id, 1_000 * worker * (n % 2 == 0) + n) for n in range(start, start + 10)]
            store.append(mine if worker % 2 else mine[::-1])

    threads = [threading.Thread(target=work, args=(worker,)) for worker in range(1, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    places = [trial.place for trial in store.trials(run.id)]
    odd = set(range(1, 100, 2))
    assert places == sorted(odd | {1_000 * w + n for w in range(1, 5) for n in range(0, 100, 2)})


def child(code: str, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def at_once(code: str, arguments: Sequence[tuple[str, ...]]) -> None:
    """Run it in a process each. Each says when it is ready; then all are let go."""
    with ExitStack() as stack:
        children = [stack.enter_context(child(code, *given)) for given in arguments]
        for each in children:
            assert each.stdout is not None
            assert each.stdout.readline() == "ready\n"
        for each in children:
            assert each.stdin is not None
            each.stdin.write("go\n")
            each.stdin.flush()
        for each in children:
            each.communicate()
    assert [each.returncode for each in children] == [0] * len(children)


WRITE = """
import sys
from evalkit.stores import open_store
from evalkit.trial import Trial
url, run, offset = sys.argv[1:]
store = open_store(url)
print("ready", flush=True)
sys.stdin.readline()
for start in range(int(offset), int(offset) + 200, 20):
    store.append([Trial(run, f"s{n}", "e", f"key-{n}", "2026", place=n) for n in range(start, start + 20)])
"""


def test_processes_that_append_lose_nothing(store: Store, url: str) -> None:
    """Two on one run, with rows in common, and one on another run of the same database."""
    shared, other = made(store, "shared"), made(store, "other")
    at_once(WRITE, [(url, shared.id, "0"), (url, shared.id, "100"), (url, other.id, "0")])
    assert [trial.place for trial in store.trials(shared.id)] == list(range(300))
    assert [trial.place for trial in store.trials(other.id)] == list(range(200))


OPEN = """
import sys
from evalkit.stores import open_store, postgres, sqlite
print("ready", flush=True)
sys.stdin.readline()
open_store(sys.argv[1]).close()
"""


def test_processes_that_make_the_tables_at_once_all_succeed(url: str) -> None:
    at_once(OPEN, [(url,)] * 4)
    store = open_store(url)
    assert store.runs() == []
    store.close()


HOLD = """
import sys
from evalkit.stores import open_store
with open_store(sys.argv[1]).writing(sys.argv[2]):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_run_is_written_by_one_process_and_free_when_it_was_killed(store: Store, url: str) -> None:
    run, other = made(store), made(store)
    with child(HOLD, url, run.id) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        for attempt in (lambda: store.writing(run.id).__enter__(), lambda: store.delete(run.id)):
            with pytest.raises(ConfigError, match="is being written by another process"):
                attempt()
        with store.writing(other.id):
            pass
        holder.send_signal(signal.SIGKILL)
        holder.wait()
    with store.writing(run.id):  # at once: whoever starts again is not told that the dead one still writes
        pass
    store.delete(run.id)


def test_a_look_at_who_writes_keeps_nobody_waiting(store: Store, url: str) -> None:
    names = [run_id(str(number), datetime(2026, 1, 1, tzinfo=UTC)) for number in range(8)]
    runs = [store.create(Run(name, "r", "d", "running", datetime(2026, 1, 1, tzinfo=UTC))) for name in names]
    other = open_store(url)
    began = monotonic()
    with ExitStack() as held:
        for run in runs[1:]:
            held.enter_context(other.writing(run.id))
        assert [as_found(store, run).status for run in runs] == ["killed", *["running"] * 7]
        assert not store.reserve(runs[1].id)
        with store.writing(runs[0].id):
            pass
    assert monotonic() - began < 7, "a writer would have patience, for each of them"
    assert {as_found(store, run).status for run in runs} == {"killed"}
    other.close()


def test_a_reserved_run_is_handed_to_the_next_writing(store: Store, url: str) -> None:
    run, other = made(store), open_store(url)
    assert store.reserve(run.id)
    assert not other.reserve(run.id)
    assert other.held(run.id)
    with store.writing(run.id), pytest.raises(ConfigError, match="written by another"):
        other.writing(run.id).__enter__()
    assert other.reserve(run.id), "it is free again"
    other.close()
    assert store.reserve(run.id), "closing frees it too"


def test_a_claim_ends_with_its_block(store: Store) -> None:
    run = made(store)
    for _ in range(2):
        with pytest.raises(KeyError), store.writing(run.id):
            raise KeyError
    store.append([row(run.id)])
    assert len(list(store.trials(run.id))) == 1


APPEND = """
import sys
from evalkit.stores import open_store
from evalkit.trial import Trial
from judges.judge import Answer
url, run, start = sys.argv[1], sys.argv[2], int(sys.argv[3])
store = open_store(url)
with store.writing(run):
    for batch in range(start, start + 100_000, 7):
        rows = [
            Trial(run, f"s{n}", "e", f"key-{n}", "2026", place=n, answer=Answer("x" * 3_000))
            for n in range(batch, batch + 7)
        ]
        store.append(rows)
        print(batch, flush=True)
"""


def test_what_was_acknowledged_outlives_kill_9(store: Store, url: str) -> None:
    """Killed eight times, after a random number of batches and somewhere within the next one."""
    run = made(store)
    random = Random(5)
    acknowledged: set[int] = set()
    for start in range(0, 800_000, 100_000):
        with child(APPEND, url, run.id, str(start)) as writer:
            assert writer.stdout is not None
            said: list[str] = list(itertools.islice(writer.stdout, random.randint(1, 40)))
            os.kill(writer.pid, signal.SIGKILL)
            said += [line for line in writer.stdout if line.endswith("\n")]
        acknowledged |= {int(batch) + n for batch in said for n in range(7)}
    store.close()
    reopened = open_store(url)
    places = [trial.place for trial in reopened.trials(run.id)]
    assert acknowledged <= set(places)
    whole = {place // 100_000 * 100_000 + place % 100_000 // 7 * 7 for place in places}
    assert all(set(range(batch, batch + 7)) <= set(places) for batch in whole), (
        "a batch is whole or not there"
    )
    reopened.close()


def test_rows_are_plain_json_on_disk(store: Store) -> None:
    """So that other tools read them: only what JSON libraries disagree on carries a mark."""
    from evalkit.stores.codec import dumped

    assert json.loads(dumped({"a": "\0", "b": [1, "\ud800"]})) == {"a": "\0", "b": [1, "\ud800"]}
