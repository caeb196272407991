from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from guardrails.filters import Edit, Finding, redact, resolve
from guardrails.filters.detector import apply

findings = st.lists(
    st.builds(
        Finding,
        st.sampled_from(["A", "B"]),
        st.integers(0, 20),
        st.integers(0, 25),
        st.sampled_from([0.4, 0.9]),
        st.sampled_from(["d", "e"]),
    ),
    max_size=6,
)


@given(findings)
def test_resolved_findings_are_disjoint_in_order_and_cover_the_same_characters(found: list[Finding]) -> None:
    resolved = resolve(found)
    for left, right in pairwise(resolved):
        assert left.end <= right.start
    assert {i for f in resolved for i in range(f.start, f.end)} == {
        i for f in found for i in range(f.start, f.end)
    }


@given(findings, st.randoms())
def test_the_order_of_detectors_does_not_matter(found: list[Finding], random: object) -> None:
    shuffled = found.copy()
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert resolve(shuffled) == resolve(found)


def test_the_highest_score_names_the_union() -> None:
    url, mail = Finding("URL", 5, 13, 0.5, "pii"), Finding("EMAIL", 0, 13, 1.0, "pii")
    longer = Finding("HOST", 6, 20, 0.9, "net")
    assert resolve([url, mail, longer]) == [Finding("EMAIL", 0, 20, 1.0, "pii")]


def test_neighbours_stay_two() -> None:
    pair = [Finding("A", 0, 3, 1.0, "d"), Finding("B", 3, 5, 1.0, "d")]
    assert resolve(pair) == pair
    assert redact("123456", pair) == "<A><B>6"


def test_redact_takes_another_mark() -> None:
    assert (
        redact("I am Jo.", [Finding("NAME", 5, 7, 1.0, "d")], lambda f: "*" * (f.end - f.start)) == "I am **."
    )


@given(findings, st.lists(st.integers(0, 30), max_size=5))
def test_pieces_edited_one_by_one_join_to_the_edited_text(found: list[Finding], cuts: list[int]) -> None:
    text = "abcdefghijklmnopqrstuvwxyzABCD"
    edits = [Edit(f.start, f.end, f"<{f.kind}>") for f in resolve(found)]
    places = [0, *sorted(cuts), len(text)]
    pieces = [apply(text[a:b], edits, a) for a, b in pairwise(places)]
    assert "".join(pieces) == apply(text, edits) == redact(text, found)
