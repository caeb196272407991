from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalkit.labelling import Asked, Case, Desk, cases
from evalkit.labels import Label, adjudication, answer_id, majority, matrix, named, parsed, read
from evalkit.trial import Trial
from guardrails.errors import ConfigError

Make = Callable[..., Trial]


def label(value: float, rater: str, weight: float = 4.0, sample: str = "q") -> Label:
    return Label(value, rater, weight, sample=sample)


def test_weights_decide_and_ties_are_nobodys() -> None:
    (gold,) = majority([label(1, "ann", 4), label(0, "bob", 2), label(0, "eve", 1)])
    assert (gold.value, gold.open) == (1, True)
    assert gold.support == pytest.approx(4 / 7)
    (tie,) = majority([label(1, "ann", 2), label(0, "bob", 2)])
    assert tie.value is None
    (clear,) = majority([label(1, "ann", 4), label(0, "eve", 1)])
    assert not clear.open


def test_the_last_word_of_a_rater_counts_and_nameless_ones_are_different_people() -> None:
    (changed,) = majority([label(1, "ann"), label(0, "ann")])
    assert (changed.value, len(changed.labels)) == (0, 1)
    (nameless,) = majority([label(1, ""), label(1, ""), label(0, "")])
    assert nameless.support == pytest.approx(2 / 3)


def test_the_most_disputed_come_first() -> None:
    found = majority(
        [
            *(label(1, "a", 4, "x"), label(0, "b", 3, "x"), label(1, "a", 4, "y"), label(0, "b", 4, "y")),
            label(1, "a", 4, "z"),
        ]
    )
    assert [each.names[1] for each in adjudication(found)] == ["y", "x"]
    ratings, raters = matrix(found)
    assert raters == ["a", "b"]
    assert ratings[:2].tolist() == [[1, 0], [1, 0]]
    assert np.isnan(ratings[2, 1])


@given(
    st.lists(
        st.tuples(st.sampled_from("abc"), st.sampled_from([0.0, 1.0]), st.sampled_from([1, 2, 4])), min_size=1
    )
)
def test_the_majority_is_no_ones_who_is_outweighed(rows: list[tuple[str, float, int]]) -> None:
    (found,) = majority([label(value, rater, weight) for rater, value, weight in rows])
    last = {rater: (value, weight) for rater, value, weight in rows}
    yes, no = (sum(w for v, w in last.values() if v == side) for side in (1.0, 0.0))
    assert found.value == (None if yes == no else float(yes > no))


def test_lines_are_read() -> None:
    found = parsed('{"sample": "q", "label": 4, "scale": [1, 5], "weight": "bronze", "judged": 5}', "f:1")
    assert (found.label, found.weight, found.judged) == (0.75, 1.0, 1.0)
    assert parsed('{"answer": "x", "label": false}', "f:1").weight == 4.0


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{", "not a JSON object"),
        ("[" * 100_000, "not a JSON object"),
        ('{"label": true}', "neither an `answer` nor a `sample`"),
        ('{"sample": "q"}', "`label` holds no number"),
        ('{"sample": "q", "label": NaN}', "`label` holds no number"),
        ('{"sample": "q", "label": 4}', "not within 0 and 1"),
        ('{"sample": "q", "label": 4, "scale": [5, 1]}', "does not rise"),
        ('{"sample": "q", "label": 1, "weight": "iron"}', "none of gold, silver, bronze"),
        ('{"sample": "q", "label": 1, "weight": 0}', "not positive"),
        ('{"sample": "q", "label": 1, "k": true}', "`k` is not a whole number"),
        ('{"sample": 7, "label": 1}', "`sample` is not text"),
    ],
)
def test_a_broken_line_is_named_and_not_quoted(line: str, reason: str, tmp_path: Path) -> None:
    file = tmp_path / "labels.jsonl"
    file.write_text('{"sample": "a", "label": true}\n\n' + line + "\n")
    with pytest.raises(ConfigError, match=r"labels\.jsonl:3: ") as raised:
        read(file)
    assert reason in raised.value.message


def test_an_answers_name_tells_no_model(made: Make) -> None:
    one, other = made("q", arm="a", text="yes"), made("q", arm="b", text="yes")
    assert answer_id(one) == answer_id(other) != answer_id(made("q", text="no"))
    assert named(Label(1, answer=answer_id(one)), other)
    assert named(Label(1, sample="q", endpoint="b"), other)
    assert not named(Label(1, sample="q", endpoint="b"), one)
    assert not named(Label(1, sample="q", k=1), one)


# --- the desk ----------------------------------------------------------------------------------------------


def desk(path: Path, n: int = 4, rater: str = "ann") -> Desk:
    return Desk.open([Case(f"c{i}", "", f"q{i}", "?", "!") for i in range(n)], path, rater)


def press(desk: Desk, keys: str) -> list[bool]:
    return [desk.press(key) for key in keys]


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_keys_label_skip_undo_and_quit(tmp_path: Path) -> None:
    path = tmp_path / "new" / "labels.jsonl"
    d = desk(path)
    assert press(d, "yxnuysuq") == [True] * 7 + [False]
    assert [(r["answer"], r["label"]) for r in rows(path)] == [("c0", True), ("c1", True)]
    assert d.labelled == 2
    assert d.case is not None
    assert d.case.id == "c2"


def test_it_goes_on_where_it_stopped_and_skipped_ones_come_again(tmp_path: Path) -> None:
    path = tmp_path / "labels.jsonl"
    assert press(desk(path), "ysn")[-1]
    again = desk(path)
    assert [case.id for case in again.todo] == ["c1", "c3"]
    assert press(again, "u") == [True], "nothing of this sitting to take back"
    assert press(again, "yy") == [True, False]
    assert desk(path).case is None
    assert len(desk(path, rater="bob").todo) == 4


def test_a_file_without_its_last_newline_is_kept_whole(tmp_path: Path) -> None:
    path = tmp_path / "labels.jsonl"
    before = '{"rater": "bob", "answer": "c0", "label": false}'
    path.write_text(before)
    d = desk(path)
    press(d, "y")
    assert len(rows(path)) == 2
    press(d, "u")
    assert path.read_text() == before


@given(st.text(alphabet="ynsu", max_size=30))
def test_the_file_holds_what_a_stack_of_keys_holds(
    tmp_path_factory: pytest.TempPathFactory, keys: str
) -> None:
    path = tmp_path_factory.mktemp("desk") / "labels.jsonl"
    d, stack = desk(path, 6), []
    for key in keys:
        if key == "u":
            stack = stack[:-1]
        elif len(stack) < 6:
            stack.append(key)
        d.press(key)
    expected = [(f"c{i}", key == "y") for i, key in enumerate(stack) if key != "s"]
    found = [(r["answer"], r["label"]) for r in rows(path)] if path.exists() else []
    assert found == expected


def test_the_order_is_the_seeds_and_equal_answers_are_one_case(made: Make) -> None:
    trials = [made(f"q{i}", arm=arm, text="same") for i in range(20) for arm in ("a", "b")]
    trials.append(made("q99", "timeout"))
    one = cases(trials, {("", "q3"): Asked("what?")}, seed=1)
    assert len(one) == 20
    assert [c.id for c in one] == [c.id for c in cases(reversed(trials), {}, seed=1)]
    assert [c.id for c in one] != [c.id for c in cases(trials, {}, seed=2)]
    assert next(c for c in one if c.sample == "q3").question == "what?"
    assert "what?" not in repr(one)


def test_taking_back_leaves_what_somebody_else_wrote_behind(tmp_path: Path) -> None:
    path = tmp_path / "labels.jsonl"
    ann, bob = desk(path), desk(path, rater="bob")
    press(ann, "y")
    press(bob, "n")
    press(ann, "un")
    assert [(row["rater"], row["label"]) for row in rows(path)] == [
        ("ann", True),
        ("bob", False),
        ("ann", False),
    ]
    (first,) = majority(read(path))
    assert first.value == 0, "the last label of a rater counts"


def test_a_file_with_a_byte_order_mark_is_read(tmp_path: Path) -> None:
    file = tmp_path / "human.jsonl"
    file.write_text('{"sample": "q", "label": true}\n', encoding="utf-8-sig")
    assert [each.sample for each in read(file)] == ["q"]
