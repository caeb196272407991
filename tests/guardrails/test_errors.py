from __future__ import annotations

import pickle

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


def test_the_tree_is_the_one_in_the_docstring() -> None:
    drawn = {word for word in errors.__doc__.split() if word[0].isupper() and word.isalpha()}
    for error in EVERY:
        assert type(error).__name__ in drawn
    assert issubclass(errors.Truncated, errors.Interrupted)
    assert not issubclass(errors.Interrupted, errors.Transient)
