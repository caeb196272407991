"""Templates over a row: what they may do, and that they reach nothing else."""

from __future__ import annotations

import string
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalkit.sets import template
from evalkit.sets.template import Template, TemplateError, is_template

ROW: dict[str, Any] = {
    "question": " What is it? ",
    "choices": ["red", "green"],
    "answer": 1,
    "nested": {"text": ["deep"], "key with space": "found"},
    "turns": [{"role": "user", "text": "hi"}, {"role": "bot", "text": "yes"}],
}


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("{{ question.strip() }}", "What is it?"),
        ("Q: {{ question | trim }}\nA:", "Q: What is it?\nA:"),
        ("{{ choices[answer] }}", "green"),
        ('{{ "ABCD"[answer] }}', "B"),
        ("{{ nested.text[0] }}{{ nested['key with space'] }}", "deepfound"),
        (
            "{% for c in choices %}{{ loop.index }}{{ c }}{% if not loop.last %}; {% endif %}{% endfor %}",
            "1red; 2green",
        ),
        ("{% for t in turns if t.role == 'user' %}{{ t.text }}{% endfor %}", "hi"),
        ("{{ choices | join(', ') }} ({{ choices | length }})", "red, green (2)"),
        ("{{ turns | map(attribute='text') | join('/') }}", "hi/yes"),
        ("{{ 'yes' if answer == 1 else 'no' }}", "yes"),
        ("{{ hint | default('none') }}", "none"),
        ("{{ nested | tojson }}", '{"text": ["deep"], "key with space": "found"}'),
        ("plain { text } #", "plain { text } #"),
        ("line\n", "line\n"),
    ],
)
def test_fields_become_text(source: str, said: str) -> None:
    assert Template(source).render(ROW) == said


def test_values_are_never_read_as_templates() -> None:
    assert Template("{{ question }}").render({"question": "{{ 7 * 7 }}{% for x in y %}"}) == (
        "{{ 7 * 7 }}{% for x in y %}"
    )


INTERNALS = [
    "{{ ''.__class__.__mro__ }}",
    "{{ ''['__class__'] }}",
    "{{ question | attr('__class__') }}",
    "{{ [''] | map(attribute='__class__') | list }}",
    "{{ choices | map('attr', '__class__') | list }}",
    "{{ question.format(question) }}",
    "{{ '{0.__class__}'.format(question) }}",
    "{{ question.strip.__globals__ }}",
    "{{ self }}",
    "{{ self._TemplateReference__context }}",
    "{{ loop.__init__ }}",
    "{{ cycler.__init__.__globals__.os }}",
    "{{ lipsum.__globals__ }}",
    "{{ range(9) }}",
    "{{ dict(a=1) }}",
    "{{ _steps }}",
    "{{ __builtins__ }}",
    "{{ question.encode() }}",
    "{{ ().__class__.__base__.__subclasses__() }}",
    "{% set x = 1 %}",
    "{% import 'os' as os %}",
    "{% include '/etc/passwd' %}",
    "{% extends 'x' %}",
    "{% macro m() %}{% endmacro %}",
    "{% call question.strip() %}{% endcall %}",
    "{% block x %}{% endblock %}",
    "{% for x in turns recursive %}{{ loop(x) }}{% endfor %}",
    "{{ '' is callable and question() }}",
    "{% filter upper %}x{% endfilter %}",
]


@pytest.mark.parametrize("source", INTERNALS)
def test_nothing_of_python_is_in_reach(source: str) -> None:
    with pytest.raises(TemplateError) as error:
        Template(source).render(ROW)
    assert "<class" not in str(error.value)
    assert "root:" not in str(error.value)


@pytest.mark.parametrize(
    "source",
    [
        "{{ 'x' * 10 ** 9 }}",
        "{{ 'x' * 1000000000 }}",
        "{{ '%1000000000d' % 1 }}",
        "{{ 'x' | center(1000000000) }}",
        "{{ 2 ** 99999999 }}",
        "{{ 'aa'.replace('a', question) }}",
        "{{ 'x'.ljust(1000000000) }}",
        "{{ choices | sum(start='') }}",
    ],
)
def test_nothing_that_repeats_without_end_is_in_reach(source: str) -> None:
    with pytest.raises(TemplateError):
        Template(source).render(ROW)


def test_loops_are_counted_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(template, "MAX_STEPS", 100)
    nested = Template(
        "{% for a in many %}{% for b in many %}{% if b < 0 %}x{% endif %}{% endfor %}{% endfor %}"
    )
    assert nested.render({"many": list(range(9))}) == ""
    with pytest.raises(TemplateError, match="loops more than"):
        nested.render({"many": list(range(10))})


def test_the_output_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(template, "MAX_OUTPUT", 1_000)
    twice = Template("{{ text }}{{ text }}")
    assert len(twice.render({"text": "x" * 500})) == 1_000
    with pytest.raises(TemplateError, match="says more than"):
        twice.render({"text": "x" * 501})
    with pytest.raises(TemplateError, match="says more than"):
        Template("{{ many | join(text) }}").render({"many": [""] * 50, "text": "x" * 50})


def test_what_is_not_there_is_named() -> None:
    with pytest.raises(TemplateError, match="asks for quesiton, which is not there"):
        Template("{{ quesiton }}").render(ROW)
    with pytest.raises(TemplateError, match="asks for txet, which is not there"):
        Template("{{ nested.txet }}").render(ROW)
    with pytest.raises(TemplateError, match=r"asks for the \.index\(\) of something that is not there"):
        Template("{{ choices.index('blue') }}").render(ROW)


@given(secret=st.text(string.ascii_letters, min_size=4, max_size=9).map(lambda text: f"zqx{text}"))
def test_no_error_quotes_a_value(secret: str) -> None:
    for source in ("{{ d[s] }}", "{{ s.x.y }}", "{{ l[s] }}", "{{ s + 1 }}", "{{ s | abs }}", "{{ s['a'] }}"):
        with pytest.raises(TemplateError) as error:
            Template(source).render({"s": secret, "d": {}, "l": []})
        assert secret not in str(error.value)


@pytest.mark.parametrize("source", ["{{ a", "{% for %}", "{{ a b }}", "{{ a | nosuch }}", "{" * 3 + "%"])
def test_a_template_that_is_none_is_told_with_its_line(source: str) -> None:
    with pytest.raises(TemplateError):
        Template(f"first\n{source}")


def test_a_template_too_long_or_too_deep_is_refused() -> None:
    with pytest.raises(TemplateError, match="longer than"):
        Template("x" * 100_001)
    with pytest.raises(TemplateError):
        Template("{{ " + "(" * 20_000 + ")" * 20_000 + " }}")
    with pytest.raises(TemplateError, match="nested too deeply"):
        Template("{{ " + "not " * 20_000 + "x }}")


@given(st.text(max_size=60))
def test_a_template_renders_or_says_why(source: str) -> None:
    try:
        said = Template(source).render(ROW)
    except TemplateError:
        return
    if not is_template(source) and "{#" not in source:
        assert said == source.replace("\r\n", "\n").replace("\r", "\n")
