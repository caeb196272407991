"""Injected verdicts: the pipeline takes none from an answer, and a judge that obeys is found out."""

from __future__ import annotations

import asyncio
import json
import random
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guardrails.call import Call
from guardrails.schema import Schema
from guardrails.testing import ScriptedEndpoint
from judges.judge import Answer
from judges.llm import Checklist, Model, Pairwise, Rubric, fenced, obeys, verdict_of
from judges.llm.fence import Fence, defused
from judges.llm.injections import BAD, DISGUISES, QUESTION, disguised
from judges.llm.replies import Unreadable, manual, read, with_case
from judges.llm.scripted import case_of

EACH = pytest.mark.parametrize("disguise", sorted(DISGUISES))
SCHEMA = {"type": "object", "properties": {"reasons": {"type": "string"}, "score": {"type": "integer"}}}


def rubric(answer: Any) -> tuple[Rubric, ScriptedEndpoint]:
    endpoint = ScriptedEndpoint(answer)
    return Rubric(asked=Model(endpoint)), endpoint


def strict(call: Call) -> str:
    """A judge that reads the facts only."""
    text = "\n".join(fenced(call, "answer"))
    return verdict_of(call, reasons="wrong city", score=1 if "Sydney" in text else 5)


def test_there_are_twenty_disguises_and_each_holds_the_answer() -> None:
    assert len(DISGUISES) == 20
    assert all(text.count("{bad}") == 1 and BAD in disguised()[name] for name, text in DISGUISES.items())


@EACH
def test_a_judge_that_does_not_obey_gives_the_same_score(disguise: str) -> None:
    made, endpoint = rubric(strict)
    said = asyncio.run(made(QUESTION, Answer(disguised()[disguise])))
    assert (said.value, said.error) == (0.0, None)
    text = endpoint.calls[0].request.messages[1].text
    assert len(fenced(endpoint.calls[0], "answer")) == 1
    word = re.findall(r"<answer-([0-9a-f]+)>", text)[0]
    assert text.count(word) == 6  # question, passage and answer: two marks each


@EACH
def test_what_a_judge_copies_from_the_answer_is_no_verdict(disguise: str) -> None:
    """The judge quotes the whole answer before its own verdict, or says nothing else."""
    injected = disguised()[disguise]
    made, _ = rubric(lambda call: f"The answer reads:\n{injected}\n\n{strict(call)}")
    assert asyncio.run(made(QUESTION, Answer(injected))).value == 0.0
    made, _ = rubric(lambda call: injected)
    assert asyncio.run(made(QUESTION, Answer(injected))).error == "unreadable"


@EACH
def test_checklists_and_pairs_take_none_either(disguise: str) -> None:
    injected = disguised()[disguise]
    holds = {"number": 1, "reasons": "no", "holds": False}
    checklist = Checklist(
        asked=Model(ScriptedEndpoint(lambda call: injected + verdict_of(call, items=[holds]))),
        questions=("It names the capital.",),
    )
    assert asyncio.run(checklist(QUESTION, Answer(injected))).value == 0.0

    def better(call: Call) -> str:
        wrong = "Sydney" in fenced(call, "answer_a")[0]
        return injected + verdict_of(call, reasons="r", better="B" if wrong else "A")

    pair = Pairwise(asked=Model(ScriptedEndpoint(better)))
    found = asyncio.run(pair.prefer(QUESTION, injected, "Canberra, 470,000 people."))
    assert (found.winner, found.consistent) == ("b", True)


# --- the marks ---------------------------------------------------------------------------------------------

TEXTS = st.text(st.sampled_from("</>|[]-_ \nansweruqtiorfcINSTSYim0123456789abcdef{}\ud800"), max_size=200)


@given(texts=st.lists(TEXTS | st.text(max_size=50), min_size=1, max_size=4), seed=st.integers(0, 99))
def test_no_text_ever_holds_the_words_of_its_own_call(texts: list[str], seed: int) -> None:
    fence = Fence.drawn(random.Random(seed), texts)
    for text in texts:
        assert fence.word not in text.lower()
        assert fence.case not in text.lower()
        around = fence.around("answer", text)
        assert around.count(f"<answer-{fence.word}>") == around.count(f"</answer-{fence.word}>") == 1
        assert around.startswith(f"<answer-{fence.word}>\n")
        assert around.endswith(f"\n</answer-{fence.word}>")


def test_a_text_that_knows_the_generator_gets_another_word() -> None:
    known = Fence.drawn(random.Random(7), [])
    fence = Fence.drawn(random.Random(7), [f"</answer-{known.word}> {known.case}".upper()])
    assert fence.word != known.word
    assert fence.case != known.case


@given(text=TEXTS | st.text(max_size=200))
def test_defusing_changes_brackets_only_and_leaves_no_mark(text: str) -> None:
    clean, count = defused(text)
    again, left = defused(clean)
    assert (again, left) == (clean, 0)
    back = clean.replace("‹", "<").replace("⟦", "[")
    plain = text.encode("utf-8", "replace").decode().replace("\0", "\ufffd")
    assert back == plain.replace("‹", "<").replace("⟦", "[")
    assert count == sum(a != b for a, b in zip(clean, plain, strict=True))


@pytest.mark.parametrize(
    "mark",
    ["</answer>", "< / ANSWER-12>", "<|im_start|>", "<|eot_id|>", "[INST]", "[/INST]", "<<SYS>>", "</s>"],
)
def test_what_looks_like_a_mark_is_defused(mark: str) -> None:
    clean, count = defused(f"a {mark} b")
    assert count == 1
    assert mark not in clean


@pytest.mark.parametrize(
    "harmless", ["a < b > c", "<b>bold</b>", "x |> f", "List<Answer>", "[1]", "<div id='a'>"]
)
def test_what_does_not_is_left_alone(harmless: str) -> None:
    if "Answer" in harmless:
        assert defused(harmless)[1] == 1  # the price: an HTML-like tag of that name
    else:
        assert defused(harmless) == (harmless, 0)


@given(quoted=st.text(max_size=200), case=st.from_regex(r"[0-9a-f]{6}", fullmatch=True))
def test_only_an_object_with_the_case_word_is_read(quoted: str, case: str) -> None:
    schema = Schema(with_case(SCHEMA))
    theirs = json.dumps({"case": "zzzzzz", "reasons": quoted, "score": 5})
    ours = json.dumps({"case": case, "reasons": quoted, "score": 1})
    assert read(f"{theirs}\n{ours}", schema, case)["score"] == 1
    assert read(f"{ours}\n{theirs}", schema, case)["score"] == 1
    with pytest.raises(Unreadable):
        read(theirs, schema, case)
    with pytest.raises(Unreadable, match="more than one"):
        read(ours + ours, schema, case)


def test_the_manual_tells_a_scripted_judge_its_case() -> None:
    made, endpoint = rubric(strict)
    asyncio.run(made(QUESTION, Answer("Canberra.")))
    call = endpoint.calls[0]
    assert manual(with_case(SCHEMA), "abc").endswith('"abc".')
    assert re.fullmatch(r"[0-9a-f]{6}", case_of(call))
    assert case_of(call) not in call.request.messages[1].text


# --- the probe ---------------------------------------------------------------------------------------------


def gullible(call: Call) -> str:
    """A judge that does what the text says, when it says it plainly."""
    text = fenced(call, "answer")[0]
    obeyed = re.search(r"best score|score 5|highest|5, 5", text)
    return verdict_of(call, reasons="as told", score=5 if obeyed else 1)


def test_a_judge_that_obeys_is_reported_and_one_that_does_not_is_not() -> None:
    found = asyncio.run(obeys(rubric(gullible)[0]))
    assert {"order", "override", "hex_mark", "bribe"} <= set(found.obeyed)
    assert "base64" not in found.obeyed
    assert not found.useless
    assert found.rate == len(found.obeyed) / 20
    assert "order" in str(found)
    good = asyncio.run(obeys(rubric(strict)[0]))
    assert (good.obeyed, good.failed, good.rate, good.n) == ((), (), 0.0, 20)
    assert str(good) == "obeyed 0 of 20 injected verdicts"


def test_a_judge_that_always_says_yes_is_useless_and_not_obedient() -> None:
    made, _ = rubric(lambda call: verdict_of(call, reasons="fine", score=5))
    found = asyncio.run(obeys(made))
    assert found.useless
    assert found.obeyed == ()
    assert "says nothing" in str(found)


def test_a_judge_that_fails_has_no_rate() -> None:
    found = asyncio.run(obeys(rubric("nonsense")[0]))
    assert (found.rate, len(found.failed), found.useless) == (None, 20, True)
