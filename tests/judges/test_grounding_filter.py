"""Groundedness as a filter of answers, and as a judge; with our score or with a model of one's own."""

from __future__ import annotations

import asyncio
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from guardrails import Call, ConfigError, Request, stack
from guardrails.call import Delta, Message, Text, ToolResult
from guardrails.cli import app
from guardrails.config import rules
from guardrails.errors import Blocked
from guardrails.filters.layers import OutputFilters
from guardrails.filters.policy import Rule
from guardrails.handler import Handler, collect
from guardrails.testing import ScriptedEndpoint
from judges.answer import Answer
from judges.grounding.filter import LEAST, Groundedness, NoContext, blocks, passages
from judges.grounding.judge import Grounded
from judges.grounding.support import MAX_SENTENCES
from judges.grounding.verify import MAX_PAIRS, Hhem, LettuceDetect, Nli, Unverified, premises, verify
from judges.judge import Question, Score
from judges.registry import judge

TOWER = "The Eiffel Tower in Paris was completed in 1889. It is made of iron and is 330 metres high."
GOOD = "The Eiffel Tower was completed in 1889. It is made of iron."
BAD = "The Eiffel Tower was completed in 1889. Pigeons invented Belgian chocolate in 1702."
ASKED = Request.of(f"Answer from this.\n<context>\n{TOWER}\n</context>\nWhen was it completed?")


# --- where the context comes from ---------------------------------------------------------------------------


def test_marked_blocks_are_found_also_nested_and_open_ones() -> None:
    text = "a <document id='1'>b <document>c</document> d</document> e <source>f</source> <context>g"
    assert list(blocks(text)) == ["b <document>c</document> d", "f", "g"]
    assert list(blocks("</context> nothing")) == []


def test_what_tools_answered_is_context() -> None:
    tool = Message("tool", (ToolResult("1", (Text("tool text"),)),))
    request = Request(
        (Message.of("user", "q <context>marked</context>"), tool, Message.of("assistant", "no"))
    )
    assert passages(request) == ["tool text", "marked"]
    assert passages(request, "tools") == ["tool text"]
    assert passages(request, "marked") == ["marked"]
    assert passages(request, "messages") == ["q <context>marked</context>", "tool text"]


def test_long_messages_are_context_when_nothing_else_is() -> None:
    assert passages(Request.of("Who is that?")) == []
    assert passages(Request.of("word " * LEAST)) == ["word " * LEAST]
    assert passages(Request.of("Who is that?"), "messages") == ["Who is that?"]


def test_an_unbound_detector_and_a_request_without_context_are_no_clean_answer() -> None:
    with pytest.raises(NoContext):
        Groundedness().detect(BAD)
    with pytest.raises(NoContext):
        Groundedness().about(Request.of("Who?")).detect(BAD)


def test_options_are_checked() -> None:
    with pytest.raises(ConfigError):
        Groundedness(threshold=1)
    with pytest.raises(ConfigError):
        Groundedness(source="dreams")  # type: ignore[arg-type]


def test_findings_name_places_and_nobody_sees_the_context() -> None:
    bound = Groundedness().about(ASKED)
    assert bound.detect(GOOD) == []
    (found,) = [f for f in bound.detect(BAD) if "Pigeons" in BAD[f.start : f.end]]
    assert (found.kind, found.detector) == ("UNSUPPORTED", "groundedness")
    assert 0.5 < found.score <= 1
    assert "Eiffel" not in repr(bound)


# --- in the middleware --------------------------------------------------------------------------------------


def notes(call: Call, what: str) -> list[Any]:
    return [entry.detail for _, entry in call.journal.log if getattr(entry, "what", "") == what]


async def answered(rule: Rule, *answers: Any, request: Request = ASKED) -> tuple[str, Call, ScriptedEndpoint]:
    endpoint = ScriptedEndpoint(*answers)
    call = Call(request)
    response = await collect(stack(endpoint, OutputFilters([rule])), call)
    return response.text, call, endpoint


async def released(handler: Handler) -> tuple[str, Blocked | None]:
    """What left before the answer was blocked."""
    seen = ""
    try:
        async with handler(Call(ASKED)) as stream:
            async for event in stream:
                seen += event.text if isinstance(event, Delta) else ""
    except Blocked as error:
        return seen, error
    return seen, None


@pytest.mark.asyncio
async def test_flagged_answers_pass_and_are_written_down() -> None:
    text, call, _ = await answered(Rule(Groundedness(), action="flag"), BAD)
    assert text == BAD
    assert notes(call, "finding")[0][:2] == ("output", "UNSUPPORTED")
    _, call, _ = await answered(Rule(Groundedness(), action="flag"), GOOD)
    assert notes(call, "finding") == []
    assert notes(call, "scanned") == ["output"]


@pytest.mark.asyncio
async def test_a_blocked_answer_ends_before_its_first_unsupported_place() -> None:
    handler = stack(ScriptedEndpoint(BAD), OutputFilters([Rule(Groundedness(), action="block")]))
    seen, error = await released(handler)
    assert error is not None
    assert seen.strip() == "The Eiffel Tower was completed in 1889."
    assert "Pigeons" not in str(error)


@pytest.mark.asyncio
async def test_the_model_may_be_asked_again() -> None:
    text, _, endpoint = await answered(Rule(Groundedness(), action="reask"), BAD, GOOD)
    assert text == GOOD
    assert len(endpoint.calls) == 2
    assert "UNSUPPORTED" in endpoint.calls[1].request.messages[-1].text


@pytest.mark.asyncio
async def test_a_stream_may_leave_sentence_by_sentence() -> None:
    rule = Rule(Groundedness(), action="block", hold="sentence", stride=1)
    handler = stack(ScriptedEndpoint(BAD), OutputFilters([rule]))
    seen, error = await released(handler)
    assert error is not None
    assert seen.strip() == "The Eiffel Tower was completed in 1889."


@pytest.mark.asyncio
@pytest.mark.parametrize("size", [1, 7, 40])
async def test_what_leaves_does_not_depend_on_the_chunks(size: int) -> None:
    pieces = [Delta(BAD[at : at + size]) for at in range(0, len(BAD), size)]
    rule = Rule(Groundedness(), action="redact", hold="sentence", stride=1)
    whole, _, _ = await answered(rule, [Delta(BAD)])
    text, _, _ = await answered(rule, pieces)
    assert text == whole
    assert "Pigeons" not in text


@pytest.mark.asyncio
async def test_without_context_the_call_is_blocked_unless_the_rule_says_otherwise() -> None:
    with pytest.raises(Blocked, match="NoContext"):
        await answered(Rule(Groundedness(), action="block"), BAD, request=Request.of("Who?"))
    rule = Rule(Groundedness(), action="block", on_crash="pass_and_flag")
    text, call, _ = await answered(rule, BAD, request=Request.of("Who?"))
    assert text == BAD
    assert notes(call, "not_scanned")[0] == "output:groundedness:crash"
    assert notes(call, "scanned") == []


@pytest.mark.asyncio
async def test_calls_of_one_layer_do_not_share_their_context() -> None:
    layer = OutputFilters([Rule(Groundedness(), action="flag")])
    other = Request.of(f"<context>{BAD}</context> What did pigeons do?")
    calls = [Call(ASKED), Call(other)]
    await asyncio.gather(*(collect(stack(ScriptedEndpoint(BAD), layer), call) for call in calls))
    assert [bool(notes(call, "finding")) for call in calls] == [True, False]


def test_a_policy_file_can_name_it_and_is_explained(tmp_path: Path) -> None:
    file = tmp_path / "policy.yaml"
    file.write_text(
        "output:\n"
        "  - groundedness: {action: flag, threshold: 0.4, source: tools}\n"
        "  - groundedness: {action: {reask: 1}}\n"
        "  - groundedness: {action: redact, hold: sentence, stride: 1, on_crash: pass_and_flag}\n"
    )
    flagged, *_ = rules(str(file)).output
    assert flagged.detector == Groundedness(0.4, "tools")
    assert flagged.whole
    done = CliRunner().invoke(app, ["policy", "check", str(file)])
    assert done.exit_code == 0, done.output
    assert "groundedness: findings are written into the record, and nothing else" in done.output
    assert "asked again, up to 1 times" in done.output
    assert "Holds each sentence back" in done.output
    assert "When groundedness gives no answer, the output passes unseen" in done.output


def test_a_policy_file_with_a_wrong_option_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "policy.yaml"
    file.write_text("output:\n  - groundedness: {action: flag, threshold: 7, source: dreams}\n")
    done = CliRunner().invoke(app, ["policy", "check", str(file)])
    assert isinstance(done.exception, ConfigError)  # `main` turns it into exit code 2
    assert "groundedness" in str(done.exception)


@pytest.mark.asyncio
@pytest.mark.parametrize("text", ["word " * 50_000, "Iron.\n" * (MAX_SENTENCES + 1)])
async def test_an_answer_that_is_too_long_is_not_judged_by_its_beginning(text: str) -> None:
    with pytest.raises(Blocked, match="TooLong"):
        await answered(Rule(Groundedness(), action="block"), text)
    _, call, _ = await answered(Rule(Groundedness(), action="flag"), text)
    assert notes(call, "not_scanned")[0] == "output:groundedness:crash"
    assert notes(call, "scanned") == []


# --- the judge ----------------------------------------------------------------------------------------------


def judged(text: str, one: Grounded, *context: str) -> Score:
    return asyncio.run(one(Question("?", context=context or (TOWER,)), Answer(text)))


def test_the_judge_says_how_many_sentences_lack_support_and_quotes_none() -> None:
    good, bad = judged(GOOD, Grounded()), judged(BAD, Grounded())
    assert good.passed
    assert good.value is not None
    assert bad.value is not None
    assert bad.value < 0.5 < good.value
    assert bad.passed is False
    assert "1 of 2 sentences" in bad.reason
    assert "Pigeons" not in bad.reason


def test_the_judge_needs_a_context() -> None:
    assert Grounded().check(Question("?")) is not None
    assert Grounded().check(Question("?", context=(" ",))) is not None
    assert judged("", Grounded()).passed


def test_an_answer_of_too_many_sentences_is_an_error_row() -> None:
    said = judged("Iron.\n" * (MAX_SENTENCES + 1), Grounded())
    assert (said.error, said.passed) == ("too_long", None)
    assert judged("Iron. " * 40_000, Grounded()).error == "too_long"


def test_a_sample_may_name_it_but_not_give_it_a_function(tmp_path: Path) -> None:
    assert judge("groundedness", trusted=False) == Grounded()
    assert judge({"groundedness": 0.4}) == Grounded(0.4)
    with pytest.raises(ConfigError):
        judge({"groundedness": {"verifier": "os:system"}}, trusted=False)
    with pytest.raises(ConfigError):
        judge({"groundedness": 0})


FILE = """
async def check(premise, claims):
    return [0.9 if "iron" in claim and "iron" in premise else 0.2 for claim in claims]

def few(premise, claims): return []
def wild(premise, claims): return [float("nan")] * len(claims)
def broken(premise, claims): raise RuntimeError(premise)
"""


def test_a_verifier_of_ones_own_comes_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(FILE)
    made = judge({"groundedness": {"verifier": "mine.py:check"}}, folder=tmp_path)
    assert isinstance(made, Grounded)
    assert made.digest
    assert pickle.loads(pickle.dumps(made)) == made
    assert judged("It is made of iron.", made).value == 0.9
    both = judged("It is made of iron. It is old.", made)
    assert (both.value, both.passed) == (0.2, False)
    assert judged("It is made of iron.", made, "Nothing.", TOWER).value == 0.9


@pytest.mark.parametrize(
    ("name", "error"), [("few", "verifier"), ("wild", "verifier"), ("broken", "exception")]
)
def test_a_verifier_that_fails_is_an_error_row(name: str, error: str, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(FILE)
    said = judged(GOOD, Grounded(verifier=f"{tmp_path}/mine.py:{name}"))
    assert said.error == error
    assert "Eiffel" not in said.reason


@pytest.mark.asyncio
async def test_the_best_part_of_the_context_counts_and_pairs_are_bounded() -> None:
    asked = []

    def check(premise: str, claims: Sequence[str]) -> list[float]:
        asked.append(premise)
        return [float("330" in premise)] * len(claims)

    passage = "Nothing to see here. " * 100 + TOWER
    assert await verify(check, [passage], ["a", "b"]) == [1.0, 1.0]
    assert len(asked) > 1
    assert max(map(len, asked)) <= 1500
    with pytest.raises(Unverified):
        await verify(check, [passage], ["a"] * MAX_PAIRS)


def test_premises_hold_every_sentence() -> None:
    passage = "One is here. Two is there. Three is gone."
    parts = list(premises([passage, "Four."], size=30))
    assert parts == ["One is here. Two is there.", "Three is gone.", "Four."]


# --- adapters: their models are stood in for, since none is installed here ----------------------------------


def test_nli_adds_up_the_labels_that_mean_support() -> None:
    def pipeline(pairs: list[dict[str, str]]) -> list[list[dict[str, Any]]]:
        assert set(pairs[0]) == {"text", "text_pair"}
        said = [{"label": "ENTAILMENT", "score": 0.7}, {"label": "neutral", "score": 0.3}]
        return [said for _ in pairs]

    assert Nli("x", made=pipeline)("p", ["a", "b"]) == [0.7, 0.7]
    with pytest.raises(Unverified):
        Nli("x", made=pipeline, supports=("yes",))("p", ["a"])


def test_hhem_and_lettucedetect_are_asked_in_their_own_words() -> None:
    class Model:
        def predict(self, pairs: Any = None, **named: Any) -> Any:
            if pairs is not None:
                return [0.25 for _ in pairs]
            assert named["output_format"] == "spans"
            return [{"start": 0, "end": 1, "confidence": 0.9}] if "bad" in named["answer"] else []

    assert Hhem("x", made=Model())("p", ["a", "b"]) == [0.25, 0.25]
    assert LettuceDetect("x", made=Model())("p", ["bad", "good"]) == [pytest.approx(0.1), 1.0]


def test_adapters_load_from_a_folder_only(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no folder"):
        Nli("org/some-model")("p", ["a"])
    with pytest.raises(ConfigError, match="code"):
        Hhem(str(tmp_path))("p", ["a"])
