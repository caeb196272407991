"""What a call may use up."""

from __future__ import annotations

from dataclasses import replace

from guardrails import Call, Request, tokens
from guardrails.flow.spent import worst_case
from guardrails.testing import FakeClock


def test_a_prompt_that_follows_a_freed_one_is_counted_anew() -> None:
    call = Call(Request.of("start"), clock=FakeClock())
    for words in range(1, 40):
        asked = call.with_request(Request.of("word " * words))  # freed at the end of each turn
        expected = tokens.count_messages(asked.request, "m").n
        assert worst_case(asked, "m", assumed_output=7).input_tokens == expected
        del asked


def test_each_model_has_a_count_of_its_own() -> None:
    call = Call(Request.of("one two three"), clock=FakeClock())
    for model in ("a", "b"):
        asked = call.with_request(replace(call.request, model=model))
        worst = worst_case(asked, "", assumed_output=7)
        assert (worst.input_tokens, worst.output_tokens) == (tokens.count_messages(asked.request, model).n, 7)
