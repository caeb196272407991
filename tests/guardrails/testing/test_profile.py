from __future__ import annotations

import random
import statistics
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guardrails.errors import ConfigError
from guardrails.testing import Fault, Profile, StepModel
from guardrails.testing.faults import FAULTS, NONE, choose
from guardrails.testing.profile import PROFILES, load

faults = st.builds(
    Fault,
    st.sampled_from(sorted(set(FAULTS) - {"status"})),
    st.floats(0, 1e6),
    st.floats(0, 1),
    st.frozensets(st.integers(1, 100), max_size=3),
)


@given(faults)
def test_a_fault_survives_its_spelling(fault: Fault) -> None:
    assert Fault.parse(fault.spec()) == fault


def test_the_short_spellings() -> None:
    assert Fault.parse("reset") == Fault("reset")
    assert Fault.parse("reset_after=5:0.01") == Fault("reset_after", 5, 0.01)
    assert Fault.parse("status=503@3,7") == Fault("status", 503, numbers=frozenset({3, 7}))
    assert Fault.parse("reset:0.01") == Fault("reset", 0, 0.01)


@pytest.mark.parametrize(
    "spec", ["reset:2", "reset=x", "reset@one", "reset=-1", "eof_after=nan", "status=200"]
)
def test_a_fault_that_cannot_be_read_says_how_to_write_it(spec: str) -> None:
    with pytest.raises(ConfigError, match=r"write NAME=VALUE|from 400"):
        Fault.parse(spec)


def test_an_unknown_fault_lists_the_known() -> None:
    with pytest.raises(ConfigError, match="reset_after"):
        Fault.parse("explode")


def test_faults_strike_by_number_or_by_probability() -> None:
    rng = random.Random(1)
    scripted = (Fault("reset", numbers=frozenset({2})),)
    assert [choose(scripted, n, rng).name for n in (1, 2, 3)] == ["", "reset", ""]
    drawn = [choose((Fault("reset", probability=0.1),), n, rng) for n in range(2000)]
    assert 140 <= sum(fault is not NONE for fault in drawn) <= 260


@pytest.mark.parametrize("profile", PROFILES.values(), ids=PROFILES.keys())
def test_a_profile_survives_a_file(tmp_path: Path, profile: Profile) -> None:
    path = tmp_path / "profile.json"
    path.write_text(profile.to_json())
    assert load(str(path)) == profile


def test_a_yaml_profile_builds_on_a_named_one(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(
        "base: vendor\nmodels: gpt\ntpot_ms: 5\nengine: {max_batch: 4}\n"
        "faults: ['eof_after=3:0.5']\nkey: sk-x\n"
    )
    mine = load(str(path))
    assert mine.ttft_ms == PROFILES["vendor"].ttft_ms
    assert (mine.models, mine.tpot_ms, mine.engine) == (("gpt",), 5, StepModel(max_batch=4))
    assert mine.faults == (Fault("eof_after", 3, 0.5),)
    assert "sk-x" not in repr(mine)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("colour: red", "unknown profile fields: colour"),
        ("[1, 2]", "holds no fields"),
        ("{", "cannot read the profile"),
        ("ttft_ms: fast", "ttft_ms must be a number"),
        ("accuracy: 2", "accuracy must be from 0 to 1"),
        ("requests_per_minute: 0", "above 0"),
        ("key: 123", "key must be text"),
        ("base: turbo", "unknown profile 'turbo'"),
        ("engine: {wheels: 4}", "unknown engine fields: wheels"),
        ("engine: {max_batch: many}", "profile.yaml"),
        ("faults: [explode]", "unknown fault"),
        ("faults: 3", "profile.yaml"),
    ],
)
def test_a_bad_profile_file_says_what_is_wrong(tmp_path: Path, text: str, complaint: str) -> None:
    path = tmp_path / "profile.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=complaint):
        load(str(path))


def test_an_unknown_profile_lists_the_known() -> None:
    with pytest.raises(ConfigError, match="self-hosted"):
        load("turbo")
    with pytest.raises(ConfigError, match="cannot read the profile"):
        load("/nowhere/turbo.yaml")


def test_pace_is_constant_without_sigma_and_lognormal_with() -> None:
    rng = random.Random(1)
    assert Profile(ttft_ms=100, tpot_ms=10).pace(3, rng) == pytest.approx([0.1, 0.11, 0.12])
    drawn = [Profile(ttft_ms=100, ttft_sigma=0.5).pace(1, rng)[0] for _ in range(2000)]
    assert statistics.median(drawn) == pytest.approx(0.1, rel=0.06)
    assert statistics.mean(drawn) > statistics.median(drawn)
