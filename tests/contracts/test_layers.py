"""Every layer keeps the contract of layers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from guardrails import Layer, Record
from guardrails.endpoints.replay import Tape
from guardrails.flow.deadline import Deadline
from guardrails.testing.contract import LAYER_CASES, check_layer

LAYERS: dict[str, Callable[[Path], Layer]] = {
    "record": lambda _: Record(),
    "deadline": lambda _: Deadline(30.0),
    "tape": lambda folder: Tape(folder / "tape.jsonl"),
}


@pytest.mark.asyncio
@pytest.mark.parametrize("case", LAYER_CASES)
@pytest.mark.parametrize("layer", LAYERS)
async def test_contract(layer: str, case: str, tmp_path: Path) -> None:
    await check_layer(LAYERS[layer](tmp_path), case)
