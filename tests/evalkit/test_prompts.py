"""Prompts: what a model is asked, and what a template may and may not do."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from pydantic import ValidationError

from evalkit.prompts import Prompt, PromptSpec, Shot
from evalkit.sample import Attachment, Sample
from guardrails.call import Message, Sampling
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


CHAT = Sample("c", messages=(Message.of("assistant", "Yes?"), Message.of("user", "Where is it?")))


@pytest.mark.parametrize(
    ("spec", "sample", "hint"),
    [
        (PromptSpec(user="Answer: {input}"), SAMPLE, "did you mean `{{ input }}`?"),
        (PromptSpec(user="Sum up: {context}"), SAMPLE, "did you mean `{{ context }}`?"),
        (PromptSpec(user="Answer: {input}", system="For {{ metadata.who }}."), SAMPLE, "`{{ input }}`?"),
        (PromptSpec(user="Answer: {input}"), CHAT, "themselves write `{{ '{input}' }}`"),
    ],
)
def test_a_question_in_single_braces_is_a_mistake(spec: PromptSpec, sample: Sample, hint: str) -> None:
    (error,) = Prompt.of(spec).check(sample)

    assert "in single braces is plain text" in error.message
    assert hint in error.hint
    assert not list(replace(Prompt.of(spec), slip="").check(sample))


@pytest.mark.parametrize(
    ("text", "system"),
    [
        ("Pick A, B, C or D.", None),
        ("ping", "Be brief."),
        ("{{ 'Hello' }} {# {{ input }} #}", None),
        ("What is {{ '{input}' }} in Python?", None),
        ("GET /parcels/{id}/{metadata[who]}", None),
    ],
)
def test_a_prompt_that_asks_several_samples_the_same_is_a_doubt(text: str, system: str | None) -> None:
    prompt = Prompt.of(PromptSpec(user=text, system=system))
    last = replace(CHAT, messages=CHAT.messages[1:])

    assert not list(prompt.check(SAMPLE))
    (doubt,) = prompt.doubts([SAMPLE, CHAT, last])
    assert doubt.startswith("prompt prompt: `user` shows nothing of a sample")
    assert not list(prompt.doubts([SAMPLE, CHAT, CHAT]))
    assert not list(Prompt.of(PromptSpec(user="{{ input }}")).doubts([SAMPLE, SAMPLE]))


@pytest.mark.parametrize(
    ("spec", "sample"),
    [
        (PromptSpec(system="Be brief."), SAMPLE),
        (PromptSpec(user="Help {{ metadata.who }}."), SAMPLE),
        (PromptSpec(user="{% for one in context %}{{ one }}{% endfor %}"), SAMPLE),
        (PromptSpec(user="Go on.", system="The question: {{ input }}"), SAMPLE),
        (PromptSpec(user="Go on as {input} says.", system="The question: {{ input }}"), SAMPLE),
        (PromptSpec(user="{{ input }}, as {input} and {json: {}}"), SAMPLE),
        (PromptSpec(user="Sum up what was said."), CHAT),
        (PromptSpec(user="What is this?"), replace(SAMPLE, attachments=(Attachment(url="https://x/a"),))),
        (PromptSpec(user="Hello"), replace(SAMPLE, turns=("Where is it?",))),
        (PromptSpec(user="Hello"), replace(SAMPLE, user={"goal": "to know where it is"})),
    ],
)
def test_a_prompt_may_show_something_else_of_a_sample_than_its_question(
    spec: PromptSpec, sample: Sample
) -> None:
    assert not list(Prompt.of(spec).check(sample))
    assert not list(Prompt.of(spec).doubts([sample, sample]))


@pytest.mark.parametrize("text", ["", " \n"])
def test_an_empty_user_is_a_mistake(text: str) -> None:
    with pytest.raises(ValidationError, match="is empty: leave it out"):
        PromptSpec(user=text)


def test_text_of_a_sample_is_never_read_as_a_template() -> None:
    sample = Sample("s", input="{{ 7 * 7 }} {% raw %}")

    assert asked(PromptSpec(user="Q: {{ input }}"), sample) == [("user", "Q: {{ 7 * 7 }} {% raw %}")]


def test_a_prompt_may_stand_in_a_file_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "brief.yaml").write_text("system: Be brief.\n", encoding="utf-8")

    made = PromptSpec(file=Path("brief.yaml")).resolved(tmp_path)

    assert (made.name, made.system) == ("brief", "Be brief.")
    with pytest.raises(ValidationError, match="in a file or written here"):
        PromptSpec(file=Path("brief.yaml"), system="x")


@pytest.mark.parametrize("name", ["brief.txt", "brief.md", "brief.J2", "brief.jinja"])
def test_a_text_file_is_all_of_user(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes("\ufeffFrage:\r\n{{ input }} ü\r\n".encode())

    made = PromptSpec(file=Path(name)).resolved(tmp_path)

    assert made == PromptSpec(name="brief", user="Frage:\n{{ input }} ü")
    written = PromptSpec(user="Frage:\n{{ input }} ü")
    assert Prompt.of(made).sha256 == Prompt.of(written).sha256


@pytest.mark.parametrize("name", ["brief.txt", "brief.md", "brief.j2"])
def test_a_text_file_of_nothing_but_fields_is_read_as_these(tmp_path: Path, name: str) -> None:
    fields = "system: Be brief.\nuser: 'Q: {{ input }}'\nfew_shot:\n  - {user: a, assistant: b}\n"
    (tmp_path / name).write_text(fields, encoding="utf-8")

    made = PromptSpec(file=Path(name)).resolved(tmp_path)

    assert (made.name, made.system, made.user, len(made.few_shot)) == (
        "brief",
        "Be brief.",
        "Q: {{ input }}",
        1,
    )


@pytest.mark.parametrize(
    "text",
    ["user: a\nassistant: b\nuser: {{ input }}", "Question: {{ input }}\nAnswer:", "system: x\nanswer: y"],
)
def test_any_other_text_is_one(tmp_path: Path, text: str) -> None:
    (tmp_path / "p.txt").write_text(text, encoding="utf-8")

    assert PromptSpec(file=Path("p.txt")).resolved(tmp_path) == PromptSpec(name="p", user=text)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        (
            "p.yaml",
            b"{{ input }}",
            "it has to have `system` or `user`; a file that is all of `user` is named .txt",
        ),
        ("p.yaml", b"Question: {{ input }}", "it has to have `system` or `user`"),
        ("p.yaml", b"Just a text", "it has to have `system` or `user`"),
        ("p.yaml", b"", "it has to have `system` or `user`"),
        ("p.yaml", b"usr: x", "usr: is not a known field – did you mean `user`?"),
        ("p.txt", b"", "user: is empty"),
        ("p.txt", b"{{ input", "user: the template is not valid"),
        ("p.txt", b"\xff", "is not UTF-8"),
        ("p.txt", b"x" * 300_000, "the template is longer"),
        ("p.txt", b"x" + "ü".encode() * 250_000, "p.txt is too long: a template has at most 100,000"),
        ("p.txt", b"user: [x]", "p.txt:1: user"),
        ("p.txt", None, "p.txt does not exist"),
        ("p.yaml", None, "p.yaml does not exist – check the path"),
    ],
)
def test_a_file_that_is_no_prompt_says_what_it_has_to_have(
    tmp_path: Path, name: str, content: bytes | None, said: str
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)

    with pytest.raises(ConfigError) as error:
        PromptSpec(file=Path(name)).resolved(tmp_path)
    assert said in str(error.value)


def test_a_folder_is_no_prompt(tmp_path: Path) -> None:
    (tmp_path / "p.txt").mkdir()

    with pytest.raises(ConfigError, match="is no regular file"):
        PromptSpec(file=Path("p.txt")).resolved(tmp_path)


def test_the_hash_is_that_of_the_texts_not_of_the_name() -> None:
    one, two = (Prompt.of(PromptSpec(name=name, system="same")) for name in ("a", "b"))

    assert one.sha256 == two.sha256
    assert one.sha256 != Prompt.of(PromptSpec(name="a", system="other")).sha256
