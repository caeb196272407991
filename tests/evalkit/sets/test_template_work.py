"""No template costs more than a bounded amount of work, whoever wrote it and whatever the row holds."""

from __future__ import annotations

import string
import time
import tracemalloc
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalkit import sample
from evalkit.sets import template_work
from evalkit.sets.spec import GoldenSpec
from evalkit.sets.template import Template, TemplateError
from guardrails.errors import ConfigError

TEXT = 'hello "w" \x01\U000e0001 world ' * 20_000
ROW: dict[str, Any] = {
    "one": 1,
    "short": 'hello "w" world',
    "text": TEXT,
    "lines": "\n\x85" * 200_000,
    "digits": "9" * 1_000_000,
    "dots": ".a" * 500_000,
    "ends": "z " * 500_000 + "zz",
    "nest": [["a" * 10] * 100] * 100,
    "same": [number * (2**61 - 1) for number in range(12_000)],  # one hash for all
    "rows": [{"a": 1}] * 1_000,
    "wide": {str(number): number for number in range(50_000)},
}


def loop(body: str) -> str:
    return "{% for a in text %}" + body + "{% endfor %}"


def doubling(times: int, last: str) -> str:
    """Loops of one turn each, which give names: each is ten of the one around it."""
    names = string.ascii_lowercase[: times + 1]
    heads = [f"{{% for {b} in [[{','.join([a] * 10)}]] %}}" for a, b in pairwise(names)]
    return (
        "{% for a in [[1]] %}"
        + "".join(heads)
        + last.replace("LAST", names[-1])
        + "{% endfor %}" * (times + 1)
    )


HOSTILE = {
    "round": "{{ 1|round(99999999, 'ceil') }}",
    "round down": "{{ 1|round(-99999999) }}",
    "escapes": "{{ short" + "|tojson" * 60 + " }}",
    "escapes of much": "{{ text" + "|tojson" * 60 + " }}",
    "escapes counted": "{{ (short" + "|tojson" * 60 + ")|length }}",
    "list of letters": "{{ short" + "|list|string" * 12 + " }}",
    "letters of much": "{{ digits|list|length }}",
    "sort in a loop": loop("{{ text|list|sort|unique|list|length }}"),
    "sort numbers in a loop": loop("{{ same|sort|first }}"),
    "numbers that collide": "{{ same|unique|list|length }}",
    "keys that collide": loop(
        "{% if {" + ",".join(f"{n * (2**61 - 1)}: 1" for n in range(3_000)) + "} %}{% endif %}"
    ),
    "times": "{{ 'a' * 10 ** 9 }}",
    "power": "{{ 2 ** 9999999 }}",
    "percent": "{{ '%99999999d' % 1 }}",
    "format": "{{ '%99999999d'|format(1) }}",
    "center": "{{ 'a'|center(1000000000) }}",
    "indent": "{{ 'a'|indent(1000000000) }}",
    "wordwrap": "{{ text|wordwrap(1) }}",
    "ljust": "{{ 'a'.ljust(1000000000) }}",
    "replace": "{{ 'aa'|replace('a', text) }}",
    "replace method": "{{ 'aa'.replace('a', text) }}",
    "batch": "{{ text|batch(2) }}",
    "slice": "{{ text|slice(99999999) }}",
    "lipsum": "{{ lipsum(n=9999999) }}",
    "range": "{% for a in range(999999999) %}{% endfor %}",
    "macro": "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
    "join grows": "{{ text|join(text) }}",
    "join grows again": "{{ short" + "|join('xxxx')" * 12 + " }}",
    "join over lists": "{{ [nest|join, nest|join]|map('join', digits)|list|length }}",
    "loops": loop("{% for b in text %}{% for c in text %}{% endfor %}{% endfor %}"),
    "a large body": loop("{% if a %}{% endif %}" * 3_000),
    "much to compare": loop("{% if 'zz' in text %}{% endif %}"),
    "a long constant": loop("{% if 'q' in '" + "z" * 90_000 + "' %}{% endif %}"),
    "copies": loop("{% if text[1:] %}{% endif %}"),
    "glued": loop("{% if text ~ text %}{% endif %}"),
    "glued often": "{{ (" + "~".join(["text"] * 9_000) + ")|length }}",
    "upper in a loop": loop("{% if text|upper %}{% endif %}"),
    "title in a loop": loop("{% if text.title() %}{% endif %}"),
    "split in a loop": loop("{% if text.split('o') %}{% endif %}"),
    "lines": "{{ lines.splitlines()|length }}",
    "strip": "{{ text.strip(text) }}",
    "trim": "{{ text|trim(text) }}",
    "map in a loop": loop("{% if [text]|map('tojson')|list %}{% endif %}"),
    "select": "{{ short|list|select('in', text)|list }}" * 1_000,
    "selectattr": loop("{{ nest|selectattr('0', 'eq', nest)|list|length }}"),
    "a long path": "{{ rows|map(attribute=dots, default={'a': {'a': 1}})|list|length }}",
    "a long path to sort by": "{{ rows|sort(false, false, 'a' ~ dots)|length }}",
    "index in a loop": loop("{% if same.index(same|last) %}{% endif %}"),
    "index of a list in a loop": loop("{% if [nest, [1]].index([1]) %}{% endif %}"),
    "index in a text in a loop": loop("{% if ends.index('zz') %}{% endif %}"),
    "views": loop("{% if wide.keys() - wide.keys() %}{% endif %}"),
    "printed in a loop": loop("{{ wide }}"),
    "ten of ten": doubling(12, "{{ LAST }}"),
    "ten of ten compared": doubling(12, "{{ LAST == [LAST][0] }}"),
    "ten of ten counted": doubling(12, "{{ [LAST]|string|length }}"),
    "loops in loops": "{% for a in [1] %}" * 25 + "x" + "{% endfor %}" * 25,
    "parentheses": "{{ " + "(" * 9_000 + "1" + ")" * 9_000 + " }}",
    "filters upon filters": "{{ 1" + "|abs" * 20_000 + " }}",
    "the budget itself": loop("{{ [[1]]|map('_steps', -999999999999)|list }}"),
    "much text": loop("x" * 90_000),
}


@pytest.mark.parametrize("source", HOSTILE.values(), ids=list(HOSTILE))
def test_a_hostile_template_ends_soon_and_says_why(source: str) -> None:
    began = time.process_time()
    with pytest.raises(TemplateError):
        Template(source).render(ROW)
    assert time.process_time() - began < 15  # the slowest take 2 seconds


@pytest.mark.parametrize(
    "name",
    [
        "escapes of much",
        "list of letters",
        "glued often",
        "join grows again",
        "ten of ten",
        "split in a loop",
    ],
)
def test_a_hostile_template_takes_little_memory(name: str) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(TemplateError):
            Template(HOSTILE[name]).render(ROW)
        assert tracemalloc.get_traced_memory()[1] < 400 * 2**20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("{{ one|round(2) }} {{ 2.567|round(1, 'floor') }}", "1 2.5"),
        ("{{ text|length }}", str(len(TEXT))),
        ("{{ text.split()|length }}", "80000"),
        ("{{ rows|length }} {{ rows|map(attribute='a')|list|length }}", "1000 1000"),
        ("{% for a in rows %}{% if loop.last %}{{ loop.index }}{% endif %}{% endfor %}", "1000"),
        ("{{ [3, 1, 2]|sort|join }}{{ ['b', 'a']|sort(reverse=true)|join }}", "123ba"),
        ("{{ [1, 1, 2]|unique|join }} {{ [[1, 2], [3]]|map('first')|join }}", "12 13"),
        ("{{ ['a', 'b']|map('upper') }}", "['A', 'B']"),
        ("{{ rows|selectattr('a', 'eq', 1)|list|length }}", "1000"),
        ("{{ nope|default('x') }}{{ []|max|default('y') }}{{ nope is defined }}", "xyFalse"),
        ("{{ {'a': 1}.items()|list }}{{ {'a': [1, 2]}.a[1:] }}", "[('a', 1)][2]"),
        ("{{ ['a', 'b'].index('b') }}{{ [[1], [2]].index([2]) }}{{ 'ABCD'.index('C') }}", "112"),
        ("{{ 'a' in ['a'] and 'b' not in short and 1 < 2 <= 2 }}", "True"),
    ],
)
def test_ordinary_templates_stay_what_they_were(source: str, said: str) -> None:
    assert Template(source).render(ROW) == said


def test_a_large_field_can_be_gone_through_some_times() -> None:
    """A prompt of a million characters, in passages that are numbered and counted."""
    passages = ["word " * 2_000] * 100
    many = Template(
        "{% for p in context %}[{{ loop.index }} of {{ context|length }}] {{ p|trim }}\n{% endfor %}"
    )
    assert len(many.render({"context": passages})) > 999_000


@given(
    parts=st.lists(
        st.sampled_from(
            [
                *(f"|{name}" for name in sorted(template_work.FILTERS)),
                "|map('upper')",
                "[0]",
                ".split()",
                " ~ text",
            ]
        ),
        min_size=1,
        max_size=6,
    )
)
def test_whatever_is_chained_ends(parts: list[str]) -> None:
    began = time.process_time()
    with suppress(TemplateError):
        Template("{{ text" + "".join(parts) + " }}").render(ROW)
    assert time.process_time() - began < 30


def test_a_golden_set_with_such_a_template_says_where(tmp_path: Path) -> None:
    path = tmp_path / "bomb.yaml"
    path.write_text(
        "- vars: {q: hello}\n  assert: [{type: contains, value: \"{{ 1|round(99999999,'ceil') }}\"}]\n",
        encoding="utf-8",
    )
    with pytest.raises(ConfigError, match=r"bomb\.yaml.*assert\[0\]\.value.*rounds to a precision"):
        sample.load(GoldenSpec(path=str(path), format="promptfoo"), None)
