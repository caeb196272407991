from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guardrails.errors import ConfigError
from guardrails.filters.detector import UNSCANNABLE, Edit, Finding, named, resolve
from guardrails.filters.memory import Memory
from guardrails.filters.policy import ACTIONS, Rule, Rulebook, Rules, Verdict, decide, edits, misplaced


@dataclass(frozen=True)
class Stub:
    name: str
    reach: int = 0
    scope: str = "span"
    stride: int = 0

    def detect(self, text: str) -> list[Finding]:
        return []


@dataclass(frozen=True)
class Slow:
    name: str = "slow"
    reach: int = 0

    async def detect(self, text: str) -> list[Finding]:
        return []


def rules(**actions: str) -> Rules:
    return Rules.of([Rule(Stub(name), action=action) for name, action in actions.items()])  # type: ignore[arg-type]


def found(detector: str, start: int, end: int, score: float = 0.5, kind: str = "") -> Finding:
    return Finding(kind or detector.upper(), start, end, score, detector)


def test_each_finding_gets_its_rules_action() -> None:
    verdict = decide(
        [found("a", 20, 25), found("b", 0, 5), found("c", 10, 12)], rules(a="redact", b="replace", c="flag")
    )
    assert verdict == Verdict((), (found("b", 0, 5), found("a", 20, 25)), (found("c", 10, 12),), 0)


def test_where_findings_overlap_the_strictest_action_takes_the_union() -> None:
    both = rules(a="redact", b="block")
    assert decide([found("a", 0, 10, 1.0), found("b", 5, 15, 0.1)], both).stops == (found("b", 0, 15, 0.1),)


def test_what_only_flags_neither_widens_a_change_nor_is_swallowed_by_one() -> None:
    some = rules(a="redact", b="flag", c="flag")
    verdict = decide([found("a", 5, 10), found("b", 0, 100), found("c", 7, 8)], some)
    assert verdict.changes == (found("a", 5, 10),)
    assert verdict.watched == (found("b", 0, 100), found("c", 7, 8))


def test_a_rule_in_the_shadow_decides_and_does_nothing() -> None:
    shadow = Rules.of([Rule(Stub("a"), action="block", shadow=True)])
    assert decide([found("a", 0, 3)], shadow) == Verdict(watched=(found("a", 0, 3),))


def test_asking_again_needs_that_nothing_blocks() -> None:
    some = Rules.of(
        [
            Rule(Stub("a"), action="reask", times=2),
            Rule(Stub("b"), action="reask", times=3),
            Rule(Stub("c"), "block"),
        ]
    )
    assert decide([found("a", 0, 1), found("b", 2, 3)], some).again == 3
    assert decide([found("a", 0, 1), found("c", 2, 3)], some).again == 0


def test_what_nobody_could_look_at_belongs_to_the_strictest_rule_and_to_no_filter_of_kinds() -> None:
    odd = Finding(UNSCANNABLE, 0, 9, 1.0, "window")
    assert decide([odd], rules(a="redact", b="block")).stops == (odd,)
    assert decide([odd], rules(a="flag", b="redact")).changes == (odd,)
    picky = Rule(Stub("a"), threshold=1.0, kinds=("EMAIL",))
    assert [f.kind for f in picky.select([odd, found("a", 0, 1, 1.0)])] == [UNSCANNABLE]


def test_kinds_and_thresholds_pick() -> None:
    rule = Rule(Stub("a"), threshold=0.5, kinds=("X",))
    given = [found("a", 0, 1, 0.5, "X"), found("a", 1, 2, 0.4, "X"), found("a", 2, 3, 0.9, "Y")]
    assert rule.select(given) == [given[0]]


def test_names_are_unique_and_findings_follow_them() -> None:
    some = Rules.of(
        [Rule(Stub("a"), kinds=("X",)), Rule(Stub("a"), action="block"), Stub("a")], action="flag"
    )
    assert {rule.name: rule.action for rule in some.rules} == {"a": "redact", "a:2": "block", "a:3": "flag"}
    assert [f.detector for f in some.by_name["a:2"].select([found("a", 0, 1)])] == ["a:2"]


actions = st.sampled_from(ACTIONS)
spans = st.tuples(st.sampled_from("abc"), st.integers(0, 30), st.integers(1, 10), st.floats(0, 1))


@given(st.tuples(actions, actions, actions), st.lists(spans, max_size=8), st.randoms())
def test_verdicts_keep_their_promises(given_actions: tuple[str, ...], many: list[tuple], rng) -> None:  # type: ignore[no-untyped-def,type-arg]
    some = rules(**dict(zip("abc", given_actions, strict=True)))
    all_found = [found(name, start, start + size, score) for name, start, size, score in many]
    verdict = decide(all_found, some)
    acting = sorted((*verdict.stops, *verdict.changes), key=lambda f: f.start)
    assert acting == resolve(acting), "disjoint and in order"
    covered = {i for f in acting for i in range(f.start, f.end)}
    assert covered == {i for f in all_found if some.rule(f).acts for i in range(f.start, f.end)}
    rng.shuffle(all_found)
    assert decide(all_found, some) == verdict, "the order of detectors does not matter"
    for f in all_found:
        if some.rule(f).action == "block":
            assert any(s.start <= f.start and f.end <= s.end for s in verdict.stops)


class _Vault:
    clear = True

    def token(self, kind: str, value: str, *, plain: bool = False) -> str:
        return f"<{kind}:{value if plain else value.upper()}>"

    def comes_back(self, text: str, edits: Sequence[Edit]) -> bool:
        return self.clear

    def literals(self, text: str) -> list[Finding]:
        return []

    def spare(self, text: str, findings: list[Finding]) -> list[Finding]:  # type: ignore[override]
        return findings


def test_edits_say_what_takes_a_findings_place() -> None:
    some = Rules.of(
        [
            Rule(Stub("a")),
            Rule(Stub("b"), action="replace", text="[gone]"),
            Rule(Stub("c"), action="pseudonymize"),
        ]
    )
    text = "aaa bbb ccc"
    made = edits([found("a", 0, 3), found("b", 4, 7), found("c", 8, 11)], text, some, named, _Vault())
    assert made == [Edit(0, 3, "<A>"), Edit(4, 7, "[gone]"), Edit(8, 11, "<C:CCC>")]
    unclear = _Vault()
    unclear.clear = False  # what would not come back is written plainly
    assert edits([found("c", 8, 11)], text, some, named, unclear) == [Edit(8, 11, "<C:ccc>")]


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"action": "explode"}, "use one of block, reask, redact"),
        ({"hold": "forever"}, "use one of stride, sentence, all"),
        ({"times": 0}, "1 to 10 times"),
        ({"threshold": 2}, "between 0 and 1"),
        ({"sample": -1}, "between 0 and 1"),
        ({"budget_ms": 0}, "above 0"),
        ({"stride": 0}, "at least 1"),
        ({"on_crash": "hope"}, "block, pass_and_flag or another detector"),
        ({"on_exceeded": Slow()}, "waits for somebody else too"),
    ],
)
def test_what_cannot_work_is_said_when_the_rule_is_made(wrong: dict[str, object], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        Rule(Stub("a"), **wrong)  # type: ignore[arg-type]


def test_some_actions_make_sense_in_one_direction_only() -> None:
    assert "another answer" in misplaced("reask", "input")
    assert "gets its values back" in misplaced("pseudonymize", "output")
    assert not misplaced("reask", "tool_arguments")


def test_tools_follow_their_side_but_for_judges_of_whole_answers() -> None:
    place, judge, own = Rule(Stub("a")), Rule(Stub("b", scope="text")), Rule(Stub("c"))
    book = Rulebook(input=(place,), output=(place, judge))
    assert book.of("tool_arguments") == (place,)
    assert book.of("tool_results") == (place,)
    book = Rulebook(input=(place,), output=(place,), tool_arguments=(), tool_results=(own,))
    assert book.of("tool_arguments") == ()
    assert book.of("tool_results") == (own,)


# --- memory ------------------------------------------------------------------------------------------------


def test_memory_forgets_the_oldest_and_tells_policies_and_directions_apart() -> None:
    memory = Memory(2)
    memory.put("one", "input", [found("a", 0, 1)])
    memory.put("two", "input", [])
    assert memory.get("one", "input") == (found("a", 0, 1),)
    assert memory.get("one", "output") is None
    memory.put("three", "input", [])
    assert memory.get("two", "input") is None
    assert memory.get("one", "input") is not None
    assert Memory(2).get("one", "input") is None


def test_memory_holds_no_text_and_no_plain_hash_of_one() -> None:
    first, second = Memory(), Memory()
    for memory in (first, second):
        memory.put("jo@acme.com", "input", [found("a", 0, 11)])
    assert "jo@" not in repr(first._known)
    assert set(first._known) != set(second._known), "the key is its own"


def test_memory_keeps_nothing_when_it_may_not() -> None:
    memory = Memory(0)
    memory.put("one", "input", [])
    memory = Memory()
    memory.put("long", "input", [found("a", i, i + 1) for i in range(1000)])
    assert len(memory) == 0


def test_warming_reaches_every_detector_also_a_wrapped_one() -> None:
    class Warm(Stub):
        def warm(self) -> None:
            warmed.append(self.name)

    @dataclass(frozen=True)
    class Wrapped:
        name: str
        detector: Stub
        reach: int = 0

        def detect(self, text: str) -> list[Finding]:
            return []

    warmed: list[str] = []
    Rulebook(input=(Rule(Warm("a")), Rule(Wrapped("b", Warm("inner"))), Rule(Stub("c")))).warm()
    assert {"a", "inner"} == set(warmed)
