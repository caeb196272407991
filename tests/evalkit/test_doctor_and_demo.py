"""The doctor says what to mend; the demo's arithmetic is what it prints."""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path

import pytest

from evalkit import doctor
from evalkit.demo import Gpu
from guardrails.prices import PriceBook


def test_a_gpu_hour_divided_by_its_tokens_is_the_price() -> None:
    gpu = Gpu(usd_per_hour=3.6, tokens_per_second=1000, busy=0.5)

    assert gpu.usd_per_million == pytest.approx(2.0)
    assert "= $2.00 per million" in gpu.sentence


def test_this_installation_is_well() -> None:
    assert [each.text for each in doctor.installation() if each.status == "fail"] == []


def test_old_prices_are_a_warning() -> None:
    as_of = PriceBook.default().as_of

    def statuses(today: date) -> list[str]:
        return [each.status for each in doctor.data(today) if each.text.startswith("prices")]

    assert statuses(as_of) == ["ok"]
    assert statuses(as_of + timedelta(days=400)) == ["warn"]


def test_a_folder_that_is_none_cannot_be_written_to(tmp_path: Path) -> None:
    assert [each.status for each in doctor.places(tmp_path)] == ["ok"]
    assert [each.status for each in doctor.places(tmp_path / "gone")] == ["fail"]


@pytest.mark.asyncio
async def test_a_key_that_is_not_set_is_found_before_the_call() -> None:
    found = await doctor.call({"url": "http://127.0.0.1:1/v1", "key_env": "MY_KEY"}, {}.get)

    assert (found.status, found.text) == ("fail", "the environment variable MY_KEY is not set")


@pytest.mark.asyncio
async def test_an_endpoint_that_cannot_be_built_or_reached_is_a_finding() -> None:
    unreadable = await doctor.call({"url": "nonsense"})
    unreachable = await doctor.call({"url": "http://127.0.0.1:1/v1", "model": "m"})

    assert unreadable.status == unreachable.status == "fail"
    assert "http://host:port/v1" in unreadable.text + unreadable.hint
