"""Prompts: what a model is asked, and what a template may and may not do."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from evalkit.prompts import Prompt, PromptSpec, Shot
from evalkit.sample import Sample
from guardrails.call import Sampling
from guardrails.errors import ConfigError

SAMPLE = Sample(
    "s1", input="Where is it?", references=("in Oslo",), context=("A parcel.",), metadata={"who": "Acme"}
)


def asked(spec: PromptSpec, sample: Sample = SAMPLE) -> list[tuple[str, str]]:
    request = Prompt.of(spec).request(sample, Sampling(max_tokens=3))
    assert request.sampling.max_tokens == 3
    return [(turn.role, turn.text) for turn in request.messages]


def test_without_templates_the_question_is_asked_with_its_passages() -> None:
    ((role, text),) = asked(PromptSpec())

    assert role == "user"
    assert text.endswith("Question: Where is it?")
    assert "[1] A parcel." in text


def test_templates_and_examples_stand_in_their_order() -> None:
    spec = PromptSpec(
        system="You work for {{ metadata.who }}.",
        user="{% for one in context %}{{ loop.index }}: {{ one }} {% endfor %}– {{ input }}",
        few_shot=(Shot(user="a?", assistant="b"),),
    )

    assert asked(spec) == [
        ("system", "You work for Acme."),
        ("user", "a?"),
        ("assistant", "b"),
        ("user", "1: A parcel. – Where is it?"),
    ]


@pytest.mark.parametrize("text", ["{{ references }}", "{{ metadata.nobody }}", "{{ inputt }}"])
def test_what_is_not_there_is_an_error_before_any_call_and_names_the_sample(text: str) -> None:
    (error,) = Prompt.of(PromptSpec(user=text)).check(SAMPLE)

    assert "prompt prompt, sample s1" in error.message
    assert "Oslo" not in str(error)


@pytest.mark.parametrize(
    "text",
    [
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ input.format.__globals__ }}",
        "{{ self.__init__.__globals__ }}",
        "{% include '/etc/passwd' %}",
        "{% import 'os' as os %}",
        "{{ cycler.__init__.__globals__.os.popen('id').read() }}",
        "{{ (1).__class__ }}",
        "{{ lipsum() }}",
        "{{ input",
        "{% for a in range(9999999) %}{{ a }}{% endfor %}",
    ],
)
def test_a_template_that_reaches_for_internals_or_the_disk_is_refused(text: str) -> None:
    def use() -> None:
        Prompt.of(PromptSpec(user=text)).check(SAMPLE)

    with pytest.raises((ValidationError, ConfigError), match="template"):
        use()


def test_text_of_a_sample_is_never_read_as_a_template() -> None:
    sample = Sample("s", input="{{ 7 * 7 }} {% raw %}")

    assert asked(PromptSpec(user="Q: {{ input }}"), sample) == [("user", "Q: {{ 7 * 7 }} {% raw %}")]


def test_a_prompt_may_stand_in_a_file_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "brief.yaml").write_text("system: Be brief.\n", encoding="utf-8")

    made = PromptSpec(file=Path("brief.yaml")).resolved(tmp_path)

    assert (made.name, made.system) == ("brief", "Be brief.")
    with pytest.raises(ValidationError, match="in a file or written here"):
        PromptSpec(file=Path("brief.yaml"), system="x")


def test_the_hash_is_that_of_the_texts_not_of_the_name() -> None:
    one, two = (Prompt.of(PromptSpec(name=name, system="same")) for name in ("a", "b"))

    assert one.sha256 == two.sha256
    assert one.sha256 != Prompt.of(PromptSpec(name="a", system="other")).sha256
