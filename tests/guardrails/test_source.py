from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guardrails.errors import ConfigError
from guardrails.source import load_yaml, parse_yaml

plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(st.characters(codec="ascii", categories=["L", "N"])),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text("abc", min_size=1), inner, max_size=3)
    ),
    max_leaves=12,
)


@given(plain)
def test_it_reads_what_pyyaml_reads(value: object) -> None:
    import yaml

    text = yaml.safe_dump(value)
    assert parse_yaml(text).data == value


def test_lines_are_those_of_the_keys() -> None:
    source = parse_yaml("a: 1\nb:\n  - x\n  - y: 2\n    z: 3\n", "f.yaml")
    assert source.line(("a",)) == 1
    assert source.line(("b",)) == 2
    assert source.line(("b", 1, "z")) == 5
    assert source.line(("b", 1, "unknown", "deeper")) == 4, "the nearest part around it"
    assert source.at(("b", 1, "z")) == "f.yaml:5: b.1.z"


def test_words_that_yaml_takes_for_truth_values_are_keys_all_the_same() -> None:
    assert parse_yaml("on: [yes]\nno: 1\n").data == {"on": [True], "no": 1}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a: 1\na: 2\n", "f.yaml:2: 'a' stands there twice"),
        ("a: [1, 2\n", "f.yaml:2: not valid YAML"),
        ("a: !!python/object/apply:os.system ['true']\n", "not supported"),
        ("a: !mine {b: 1}\n", "f.yaml:1: tags"),
        ("a: !!int x\n", "cannot be read"),
        ("? [a, b]\n: 1\n", "a key must be a plain word"),
        ("a: &x {b: 1}\nc: {<<: *x}\n", "merge keys"),
        ("a: \x00\n", "characters that YAML does not allow"),
    ],
)
def test_mistakes_name_their_line(text: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        parse_yaml(text, "f.yaml")


def test_a_yaml_bomb_is_refused() -> None:
    levels = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    levels += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 10)]
    with pytest.raises(ConfigError, match="aliases counted"):
        parse_yaml("\n".join(levels))


@pytest.mark.parametrize("text", ["a: &a [*a]\n", "[" * 5000])
def test_endless_or_deep_nesting_is_refused(text: str) -> None:
    with pytest.raises(ConfigError):
        parse_yaml(text)


def test_files_that_cannot_be_read_say_why(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="does not exist"):
        load_yaml(tmp_path / "absent.yaml")
    with pytest.raises(ConfigError, match="is a folder"):
        load_yaml(tmp_path)
    (tmp_path / "latin.yaml").write_bytes(b"a: \xff\n")
    with pytest.raises(ConfigError, match="not UTF-8"):
        load_yaml(tmp_path / "latin.yaml")
