"""Prompt files, and what goes over each vendor's wire."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guardrails import endpoint
from guardrails.call import Call, Delta, Finish, Request, ToolHead
from guardrails.dialects import dialect
from guardrails.errors import ConfigError
from guardrails.record import CallRecord
from guardrails.testing import ScriptedEndpoint
from judges.judge import Answer, Question
from judges.llm import GEval, Model, Rubric, Verdicts, models, nobody, verdict_of
from judges.llm.prompt import FOLDER, Prompt, load, scale
from judges.registry import judge

OURS = sorted(path.stem for path in FOLDER.glob("*.md"))
GOOD = """---
name: mine
version: 2
scale: {good: 1, bad: 0}
schema:
  type: object
  properties:
    reasons: {type: string}
    score: {}
---
# system
Judge it by {{ criteria }}, {{ scale }}.

# user
{{ question }} {{ answer }}
"""
NAMES = frozenset({"question", "answer", "criteria", "scale"})


def written(folder: Path, text: str) -> str:
    file = folder / "mine.md"
    file.write_text(text, encoding="utf-8")
    return str(file)


@pytest.mark.parametrize("name", OURS)
def test_every_prompt_of_ours_is_whole(name: str) -> None:
    text = (FOLDER / f"{name}.md").read_text()
    names = frozenset(re.findall(r"\{\{ (\w+) \}\}", text))
    prompt = load(name, names, frozenset())
    assert prompt.name == name
    assert prompt.version >= 1
    assert prompt.names == names
    assert len(prompt.digest) == 16
    keys = list(prompt.schema["properties"])
    assert "reasons" not in keys or keys[0] == "reasons", "reasons come before what they lead to"


def test_a_prompt_of_ones_own(tmp_path: Path) -> None:
    prompt = load(written(tmp_path, GOOD), NAMES)
    assert (prompt.name, prompt.version, prompt.scale) == ("mine", 2, {"good": 1.0, "bad": 0.0})
    values = {"question": "{{ answer }}", "answer": "A", "criteria": "c", "scale": "s"}
    assert prompt.fill(values) == ("Judge it by c, s.", "{{ answer }} A"), "what is filled in is final"
    other = load(written(tmp_path, GOOD.replace("Judge", "Grade")), NAMES)
    assert other.digest != prompt.digest
    windows = load(written(tmp_path, GOOD.replace("\n", "\r\n")), NAMES)
    assert windows.system.strip() == prompt.system.strip()


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("---\nname", "name", "no front matter"),
        ("name: mine", "nome: mine", "needs `name`"),
        ("version: 2", "version: two", r"mine\.md:3: version: must be a whole number"),
        ("version: 2", "version: true", "must be a whole number"),
        ("version: 2", "version: 2\nvresion: 3", r"mine\.md:4: vresion: is not known"),
        ("type: object", "type: array", "JSON schema of type object"),
        ("reasons: {type: string}", "reasons: {type: texty}", "the JSON schema is wrong"),
        ("reasons:", "case:", "none called `case`"),
        ("{good: 1, bad: 0}", "{good: 2, bad: 0}", "is no scale"),
        ("# user", "# User", "the two headings"),
        ("{{ answer }}", "", "never shows the answer"),
        ("{{ question }}", "{{ passages }}", "asks for 'passages'"),
        ("name: mine", "name: !!python/name:os.system", "tags are not supported"),
    ],
)
def test_what_is_wrong_with_a_prompt_is_said_with_its_place(
    old: str, new: str, said: str, tmp_path: Path
) -> None:
    assert old in GOOD
    with pytest.raises(ConfigError, match=said):
        load(written(tmp_path, GOOD.replace(old, new, 1)), NAMES)


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no prompt 'rubrik'"):
        load("rubrik", NAMES)
    with pytest.raises(ConfigError, match="cannot be read"):
        load(str(tmp_path / "none.md"), NAMES)
    (tmp_path / "bin.md").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="cannot be read"):
        load(str(tmp_path / "bin.md"), NAMES)
    with pytest.raises(ConfigError, match="there is no prompt"):
        load("../prompts/rubric", NAMES | {"passages"})


@pytest.mark.parametrize(
    "bad", [None, [5, 1], [1, 1], [1, 2, 3], [1.0, 5.0], [-1, 1], {"a": 1}, {"a": 1, "b": True}, "1-5"]
)
def test_what_is_no_scale(bad: Any) -> None:
    with pytest.raises(ConfigError, match="is no scale"):
        scale(bad)


@given(values=st.dictionaries(st.sampled_from(sorted(NAMES)), st.text(max_size=30), min_size=4))
def test_filling_never_looks_at_what_is_filled_in(values: dict[str, str]) -> None:
    prompt = Prompt("p", 1, "", "".join(f"<{{{{ {name} }}}}>" for name in sorted(NAMES)), {})
    assert prompt.fill(values)[1] == "".join(f"<{values[name]}>" for name in sorted(NAMES)).strip()


def test_a_path_in_a_suite_counts_from_its_folder(tmp_path: Path) -> None:
    written(tmp_path, GOOD)
    made = judge({"rubric": {"prompt": "mine.md"}}, folder=tmp_path, models={"m": nobody})
    assert made.name == "mine"
    with pytest.raises(ConfigError, match="nobody"):
        asyncio.run(Model(nobody).ask((), _wish(), []))


def _wish() -> Any:
    from judges.llm.model import Wish

    return Wish(schema={})


def test_models_are_made_once_and_shared() -> None:
    handler = ScriptedEndpoint("x", model="m1")
    made = models({"a": handler}, concurrency=3, digest="d")
    assert (made["a"].identity, made["a"].concurrency) == ("a=m1@d", 3)
    assert models(made) == made
    assert judge("rubric", models=made).asked is made["a"]  # type: ignore[attr-defined] # a rubric
    with pytest.raises(ConfigError, match="at least 1"):
        Model(handler, concurrency=0)


def test_importing_the_judges_imports_nothing_heavy() -> None:
    program = "import sys, judges.llm; print(*sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert not {"pydantic", "jsonschema", "httpx", "numpy", "re2", "yaml"} & set(done.stdout.split())


@pytest.mark.parametrize(
    ("name", "prompt"),
    [
        ("checklist", "checklist"),
        ("pairwise", "pairwise"),
        ("faithfulness", "verify"),
        ("context_recall", "verify"),
        ("context_precision", "passages"),
        ("relevancy", "relevancy"),
    ],
)
def test_a_prompt_of_ones_own_keeps_the_schema_that_the_judge_reads(
    name: str, prompt: str, tmp_path: Path
) -> None:
    options: dict[str, Any] = {"prompt": "mine.md"} | ({"questions": ["q"]} if name == "checklist" else {})
    text = (FOLDER / f"{prompt}.md").read_text()
    written(tmp_path, text.replace("description: one short sentence", "description: other words"))
    assert judge({name: options}, folder=tmp_path, models={"m": nobody}).name == name
    written(tmp_path, text.replace("  properties:\n", "  properties:\n    more: {type: string}\n", 1))
    with pytest.raises(ConfigError, match="not one that this judge can read"):
        judge({name: options}, folder=tmp_path, models={"m": nobody})


# --- the wire ----------------------------------------------------------------------------------------------


class Speaking:
    """A scripted endpoint that first writes the request in a vendor's words, as an HTTP endpoint does."""

    def __init__(self, name: str) -> None:
        self.bodies: list[dict[str, Any]] = []
        self._dialect = dialect(name)
        self._inner = ScriptedEndpoint(self._answer)

    def __call__(self, call: Call) -> AbstractAsyncContextManager[Any]:
        self.bodies.append(self._dialect.encode_request(call.request))
        return self._inner(call)

    @staticmethod
    def _answer(call: Call) -> Any:
        verdict = verdict_of(call, reasons="r", score=5)
        if call.request.tools:
            return [Delta(verdict, "tool:0", tool=ToolHead("1", "verdict")), Finish("tool_calls")]
        return [Delta("Let me think.", "reasoning"), Delta(verdict), Finish("stop")]


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("openai_chat", {"response_format", "temperature", "max_completion_tokens"}),
        ("anthropic", {"tools", "tool_choice", "temperature", "max_tokens", "system"}),
    ],
)
def test_each_vendor_is_asked_in_the_form_that_it_has(name: str, fields: set[str]) -> None:
    spoken = Speaking(name)
    made = Rubric(asked=Model(spoken, verdicts=Verdicts(0)))
    for _ in range(2):
        score = asyncio.run(made(Question("?"), Answer("x")))
        assert (score.value, score.error) == (1.0, None)
    assert len(spoken.bodies) == 2
    assert spoken.bodies[0].keys() - {"messages", "stream", "stream_options"} == fields


def test_thinking_in_tokens_goes_to_the_vendor_that_has_it() -> None:
    spoken = Speaking("anthropic")
    made = Rubric(asked=Model(spoken), reasoning=2_000, max_tokens=1_000)
    assert asyncio.run(made(Question("?"), Answer("x"))).value == 1.0
    (body,) = spoken.bodies
    assert body["thinking"] == {"type": "enabled", "budget_tokens": 2_000}
    assert body["max_tokens"] == 3_000
    assert "temperature" not in body


def test_a_guarded_model_prices_its_judgements_and_labels_its_records() -> None:
    records: list[CallRecord] = []
    first = True

    async def function(request: Request) -> str:
        nonlocal first
        first, broken = False, first
        return "no verdict" if broken else verdict_of(request, reasons="r", score=5)

    llm = endpoint(function, model="gpt-4o-mini", sinks=(records.append,))
    made = judge("rubric", models=models({"strict": llm}))
    assert "strict=gpt-4o-mini" in repr(made)
    score = asyncio.run(made(Question("?"), Answer("x")))
    assert score.value == 1.0
    assert [record.labels for record in records] == [{"role": "judge", "judge": "rubric"}] * 2
    assert score.tokens == sum(record.input_tokens + record.output_tokens for record in records)
    costs = [record.cost_usd for record in records]
    assert score.cost_usd == pytest.approx(float(sum(cost for cost in costs if cost is not None)))
    assert score.cost_usd > 0
    assert {record.priority for record in records} == {"bulk"}


def test_a_vendor_without_log_probabilities_is_sampled() -> None:
    spoken = Speaking("anthropic")
    score = asyncio.run(GEval(asked=Model(spoken), samples=2)(Question("?"), Answer("x")))
    assert score.values == (1.0, 1.0)
    assert "no log-probabilities" in score.reason
