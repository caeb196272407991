"""When the rows of a run say too little for any verdict."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from evalkit.columns import Columns
from evalkit.trial import Trial
from evalkit.trouble import Trouble

Made = Callable[..., Trial]


@pytest.mark.parametrize("allowed", [0.1, 1.0])
@pytest.mark.parametrize(("of_b", "what"), [("timeout", "no_answer"), (None, "unjudged")])
def test_an_endpoint_that_says_nothing_is_trouble_however_many_others_answer(
    made: Made, of_b: str | None, what: str, allowed: float
) -> None:
    rows = [made(n, True, arm="a", set="s") for n in range(40)] + [
        made(n, of_b, arm="b", set="s") for n in range(2)
    ]
    found = Trouble.of(Columns.of(rows), allowed)
    assert found is not None
    assert (found.what, found.where) == (what, "b on s")
    assert found.share == pytest.approx(2 / 42)


def test_one_that_says_something_is_none(made: Made) -> None:
    rows = [made(n, n < 39 or "timeout", arm=arm) for n in range(40) for arm in "ab"]
    assert Trouble.of(Columns.of(rows), 0.1) is None
    assert Trouble.of(Columns.of(rows), 0.01) == Trouble("too_many", 2 / 80, 0.01)
    assert Trouble.of(Columns.of([]), 1) == Trouble("no_call", 0.0, 1)


def test_where_nobody_answered_no_endpoint_is_named(made: Made) -> None:
    rows = [made(n, "timeout", arm=arm) for n in range(4) for arm in "ab"]
    assert Trouble.of(Columns.of(rows), 1) == Trouble("no_answer", 1.0, 1)
