"""Trouble is told of once."""

from __future__ import annotations

from guardrails.telling import Spell, Tally


def test_a_spell_is_told_of_when_it_begins_and_when_it_is_over() -> None:
    spell = Spell(quiet=60)
    assert [spell.goes_on("why", at) for at in (0, 1, 100)] == [True, False, False]
    assert (spell.told, spell.since) == ("why", 0)
    assert spell.over()
    assert not spell.over()


def test_what_comes_and_goes_is_told_of_once_a_minute() -> None:
    spell = Spell(quiet=60)
    said = []
    for at in range(0, 120, 2):
        if spell.goes_on("why", at):
            said.append(at)
        spell.over()
    assert said == [0, 60]


def test_trouble_that_came_back_in_a_quiet_time_and_stays_is_told_of_after_it() -> None:
    spell = Spell(quiet=60)
    assert spell.goes_on("one", 0)
    assert spell.over()
    assert not spell.goes_on("two", 10)
    assert not spell.over()
    assert not spell.goes_on("two", 59)
    assert spell.goes_on("two", 60)


def test_a_tally_counts_what_it_does_not_say() -> None:
    tally = Tally(quiet=60)
    assert [tally.add(at) for at in (0, 1, 59, 60, 61, 130)] == [1, 0, 0, 3, 0, 2]
