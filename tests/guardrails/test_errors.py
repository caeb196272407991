from __future__ import annotations

import pickle
from typing import Any

import pytest

from guardrails import errors

EVERY = [
    errors.ConfigError("m", hint="h"),
    errors.Shed("m", retry_after=1.5),
    errors.Blocked("m", direction="output", findings=(("EMAIL_ADDRESS", 0.9),)),
    errors.DeadlineExceeded("m"),
    errors.BudgetExceeded("m", retry_after=60.0),
    errors.Transient("m", kind="rate_limited", endpoint="e", status=429, retry_after=2.0),
    errors.Refused("m", endpoint="e", status=400),
    errors.Interrupted("m"),
    errors.Truncated("m", endpoint="e"),
]


@pytest.mark.parametrize("error", EVERY, ids=lambda e: type(e).__name__)
def test_errors_survive_pickling(error: errors.GuardrailsError) -> None:
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error)
    assert again.__dict__ == error.__dict__
    assert str(again) == str(error)
    assert again.args == error.args


@pytest.mark.parametrize("error", EVERY, ids=lambda e: type(e).__name__)
def test_one_that_says_more_leaves_the_other_as_it_is(error: errors.GuardrailsError) -> None:
    try:
        try:
            raise error from ValueError("v")
        except errors.GuardrailsError as caught:
            other = caught.again()
        assert other.__traceback__ is error.__traceback__
        assert other.__cause__ is error.__cause__
        assert other.__suppress_context__
        other.add("more")
        assert (error.message, error.args) == ("m", ("m",))
    finally:
        error.__cause__ = error.__traceback__ = None


@pytest.mark.parametrize("cls", [type(error) for error in EVERY])
def test_what_is_no_text_is_named_by_its_type(cls: type[errors.GuardrailsError]) -> None:
    given: Any = ValueError("a secret of the prompt")
    nothing: Any = None
    error = cls(given, hint=nothing)
    error.add("more")
    assert str(error) == "ValueError; more"
    assert (error.args, error.hint) == (("ValueError; more",), "")


def test_the_tree_is_the_one_in_the_docstring() -> None:
    drawn = {word for word in errors.__doc__.split() if word[0].isupper() and word.isalpha()}
    for error in EVERY:
        assert type(error).__name__ in drawn
    assert issubclass(errors.Truncated, errors.Interrupted)
    assert not issubclass(errors.Interrupted, errors.Transient)
