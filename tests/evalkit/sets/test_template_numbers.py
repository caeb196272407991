"""Templates make no large integers; ordinary templates over large fields are not refused."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from evalkit.sets import template, template_work
from evalkit.sets.template import Template, TemplateError
from evalkit.sets.template_work import Budget

LARGE = 2**1024
NEAR = LARGE - 1  # the largest that there may be


@pytest.mark.parametrize(
    "source",
    [
        "{{ (digits|int(0, 16)) // (digits|int(0, 16)) > 1 }}",
        "{{ digits|int(0, 36) }}",
        "{{ short|int(0, 36) }}",
        "{{ [digits]|map('int', 0, 16)|list|length }}",
        "{{ digits|float }}",
        "{{ large // 3 }}",
        "{{ large - 1 }}",
        "{{ 1 + large }}",
        "{{ 1 / large }}",
        "{{ -large }}",
        "{{ near + 1 }}",
        "{{ large }}",
        "{{ 'a' ~ large }}",
        "{{ large > 1 }}",
        "{{ [large] == [1] }}",
        "{{ large in [1] }}",
        "{{ large is odd }}",
        "{{ large is divisibleby 3 }}",
        "{{ 3 is divisibleby large }}",
        "{{ large|abs }}",
        "{{ large|round }}",
        "{{ [large, 1]|max }}",
        "{{ [large]|tojson }}",
        "{{ {large: 1} }}",
        "{{ {'a': 1}[large]|default(1) }}",
        "{{ 'abc'[large]|default(1) }}",
    ],
)
def test_large_integers_are_refused(source: str) -> None:
    row = {"digits": "f" * 1_000_000, "short": "z" * 400, "large": LARGE, "near": NEAR}
    with pytest.raises(TemplateError, match=r"integer of more than 1,024 bits|number from a text of more"):
        Template(source).render(row)


@pytest.mark.parametrize(
    "number", ["0x" + "f" * 90_000, "0b1" + "0" * 1_024, "9" * 400, "9" * 5_000, "1e999"]
)
def test_large_numbers_in_a_template_are_refused_with_it(number: str) -> None:
    with pytest.raises(TemplateError, match=r"the template writes out (an integer|a number)"):
        Template("{{ " + number + " }}")


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("{{ '0x1f'|int(0, 16) }} {{ 'x'|int(7) }} {{ '2.5'|float }} {{ ' 12 '|int }}", "31 7 2.5 12"),
        ("{{ none|int }}{{ [1]|float(default=3) }} {{ exact|int }} {{ 'ff'|int(base=16) }}", "03 12 255"),
        ("{{ near - 1 + 1 == near }} {{ 7 // 2 - 1 }} {{ -3 + 1 }} {{ 1 / 4 }}", "True 2 -2 0.25"),
        ("{{ ['3', '4']|map('int')|max }}", "4"),
    ],
)
def test_ordinary_numbers_stay_what_they_were(source: str, said: str) -> None:
    assert Template(source).render({"near": NEAR, "exact": Decimal("12.5")}) == said


TABLE = [{f"column {number}": f"value {number}" for number in range(10)} for _ in range(1_000)]
KEYS = [f"key {number}" for number in range(1_500)]
LONG = "word " * 400_000
LARGE_FIELDS: dict[str, Any] = {
    "table": TABLE,
    "numbers": list(range(100_000)),
    "text": LONG,
    "keys": KEYS,
    "by_key": dict.fromkeys(KEYS, 1),
    "document": "word " * 20_000,
}


@pytest.mark.parametrize(
    ("source", "size"),
    [
        ("{{ table|tojson }}", 232_000),
        ("{{ table }}", 232_000),
        ("{{ numbers|tojson }}", 688_890),
        ("{{ numbers }}", 688_890),
        ("{{ text|tojson }}", 2_000_002),
        ("{{ text|string }}", 2_000_000),
        ("{{ numbers|sort|join(',') }}", 588_889),
        ("{{ numbers|map('string')|join }}", 488_890),
        ("{% for k in keys %}{% if k in by_key %}x{% endif %}{% endfor %}", 1_500),
        ("{% for k in keys %}{% if k in keys %}x{% endif %}{% endfor %}", 1_500),
        ("{% for k in keys %}{% if k not in document %}x{% endif %}{% endfor %}", 1_500),
        ("{% for k in keys %}{% if not document.startswith(k) %}x{% endif %}{% endfor %}", 1_500),
        ("{{ keys|select('in', keys)|join('') }}", sum(map(len, KEYS))),
        ("{% for k in keys %}{% if k != document %}x{% endif %}{% endfor %}", 1_500),
    ],
)
def test_large_fields_are_not_refused(source: str, size: int) -> None:
    assert len(Template(source).render(LARGE_FIELDS)) == size


def test_the_limit_of_a_value_holds_for_what_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(template_work, "MAX_SIZE", 10_000)
    written = Template("{{ text|tojson|length }}")
    assert written.render({"text": "\x01" * 1_500}) == "9002"
    for size in (2_000, 11_000):  # too large when it is written, and already before
        with pytest.raises(TemplateError, match="a value of more than"):
            written.render({"text": "\x01" * size})


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("{{ 'a' in 'bab' }} {{ 'c' not in 'bab' }} {{ 'c' in 'bab' }}", "True True False"),
        (
            "{{ 2 in [1, 2] }} {{ 'k' in {'k': 1} }} {{ [1] in [[1]] }} {{ 1 in {'k': 1}.values() }}",
            "True " * 4,
        ),
        ("{{ 2 in {2: 1} }} {{ ('k', 1) in {'k': 1}.items() }} {{ 'k' in {'k': 1}.keys() }}", "True " * 3),
        ("{{ 1 in [1] in [[1], true] }} {{ 1 < 2 in [2] }}", "True True"),
        ("{{ {'k': 5}[key] }}{{ [1, 2][1:] }}{{ [7, 8][at] == 8 }}", "5[2]True"),
    ],
)
def test_membership_says_what_it_said(source: str, said: str) -> None:
    assert Template(source).render({"key": "k", "at": 1}) == said.strip()


HARD: dict[str, Any] = {
    "many": "x" * 600_000,
    "same": {number * (2**61 - 1): 1 for number in range(2_000)},  # one hash for all
    "other": 5_000 * (2**61 - 1),
    "as": "a" * 2_499,
    "nearly": "a" * 600 + "b" + "a" * 600,
    "numbers": [1.5] * 10_000,
    "deep": [[[[1.5] * 200]]],
    "rows": [{"a": 1}] * 1_000,
}


@pytest.mark.parametrize(
    "body",
    [
        "{% if other in same %}{% endif %}",
        "{% if same[other] is defined %}{% endif %}",
        "{{ same[other]|default('') }}",
        "{% if same.get(other) %}{% endif %}",
        "{% if nearly in as %}{% endif %}",
        "{% if as is in(as) %}{% endif %}",
        "{% if as.split(nearly) %}{% endif %}",
        "{% if 2 in numbers %}{% endif %}",
        "{% if numbers == numbers %}{% endif %}",
        "{% if numbers|sort %}{% endif %}",
        "{% if deep|tojson(indent=8) %}{% endif %}",
        "{% if rows|map(attribute='" + ".".join("a" * 100) + "', default={})|list %}{% endif %}",
    ],
)
def test_a_loop_over_hard_work_spends_the_budget(body: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Enough of them are refused, and few do not go through: what one turn costs lies between."""
    monkeypatch.setattr(template, "MAX_WORK", 2**24)
    with pytest.raises(TemplateError, match="too much work"):
        Template("{% for x in many %}" + body + "{% endfor %}").render(HARD)
    assert Template("{% for x in 'xx' %}" + body + "{% endfor %}").render(HARD) == ""


@pytest.mark.parametrize("use", ["{{ {NAME: 1} }}", "{{ {}[NAME]|default(1) }}", "{{ NAME in {} }}"])
def test_a_key_is_weighed_with_all_that_is_in_it(use: str) -> None:
    heads = [f"{{% for a{n + 1} in [({','.join([f'a{n}'] * 10)})] %}}" for n in range(12)]
    source = "".join(heads) + use.replace("NAME", "a12") + "{% endfor %}" * 12
    with pytest.raises(TemplateError, match=r"a value of more than|too much work"):
        Template(source).render({"a0": 1})


def test_what_collides_costs_as_much_as_there_is() -> None:
    def spent(owner: dict[Any, int], key: Any) -> int:
        budget = Budget(10**6, 1)
        template_work.weigh_key(budget, owner, key)
        return 10**6 - budget.work

    large = {number: number for number in range(5_000)}
    assert spent(large, 1) > 5_000
    assert spent(large, "a") < 100


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("{{ row|tojson(indent=2) }}", '{\n  "a": [\n    1\n  ]\n}'),
        ("{{ row|tojson(0) }}", '{\n"a": [\n1\n]\n}'),
        ("{{ row|tojson(indent=none) }}", '{"a": [1]}'),
        ("{{ ['x', 'y']|join(d='-') }}", "x-y"),
        ("{{ turns|join(', ', attribute='role') }}", "user, bot"),
        (
            "{{ turns|join(', ', 'role') }}{{ [[1], [2]]|join(attribute=0) }}{{ [1, 2]|join(0) }}",
            "user, bot12102",
        ),
    ],
)
def test_named_options_work(source: str, said: str) -> None:
    row = {"row": {"a": [1]}, "turns": [{"role": "user"}, {"role": "bot"}]}
    assert Template(source).render(row) == said


@pytest.mark.parametrize("indent", ["9", "-1", "'x'", "true", "1000000000"])
def test_an_indent_is_bounded(indent: str) -> None:
    with pytest.raises(TemplateError, match="from 0 to 8"):
        Template("{{ [1]|tojson(indent=" + indent + ") }}").render({})


def test_what_is_indented_is_not_nested_deeply() -> None:
    deep: list[Any] = []
    for _ in range(40):
        deep = [deep]
    assert len(Template("{{ deep|tojson }}").render({"deep": deep})) == 82
    with pytest.raises(TemplateError, match="more than 32 deep"):
        Template("{{ deep|tojson(indent=1) }}").render({"deep": deep})


@pytest.mark.parametrize(
    ("source", "said", "hint"),
    [
        ("{% set x = 1 %}", "{% set %}", "templates may use {{ }}"),
        ("{% with x = 1 %}{% endwith %}", "{% with %}", "{% for %}"),
        ("{% filter upper %}x{% endfilter %}", "{% filter %}", "{% for %}"),
        ("{% macro m() %}{% endmacro %}", "{% macro %}", "{% for %}"),
        ("{% include 'x' %}", "{% include %}", "{% for %}"),
        ("{{ 2 * 3 }}", "the operator *", "+ - / //"),
        ("{{ 2 % 3 }}", "the operator %", "+ - / //"),
        ("{{ 2 ** 3 }}", "the operator **", "+ - / //"),
        ("{{ +x }}", "a + before a value", "+ - / //"),
        ("{{ range(3) }}", "call range()", "loop.index"),
        ("{{ x.replace('a', 'b') }}", "call .replace()", "in the data instead; the methods are capitalize"),
        ("{{ x|replace('a', 'b') }}", "the filter 'replace'", "in the data instead; the filters are abs"),
        ("{{ x.upper()() }}", "call that", "the methods are"),
    ],
)
def test_what_may_not_be_used_is_said_in_the_words_of_templates(source: str, said: str, hint: str) -> None:
    with pytest.raises(TemplateError) as error:
        Template(source)
    assert f"{said} (line 1)" in str(error.value)
    assert hint in str(error.value)
