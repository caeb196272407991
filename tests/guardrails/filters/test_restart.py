"""An answer that starts again takes what was held of it along."""

from __future__ import annotations

import pytest

from guardrails import Call, Delta, Finish, OutputFilters, Pii, Request, stack
from guardrails.call import Event, Reset, ToolHead
from guardrails.testing import FakeClock, ScriptedEndpoint

HEAD = ToolHead("id", "send")


@pytest.mark.asyncio
@pytest.mark.parametrize("channel", ["text", "tool:0"])
async def test_held_text_is_void_and_never_leaves(channel: str) -> None:
    tool = HEAD if channel != "text" else None
    first = '{"to": "nobody", "cc": "jane@exam' if tool else "Write to nobody at all, or to jane@exam"
    second = '{"to": "joe@example.com"}' if tool else "Write to joe@example.com."
    events: list[Event] = [
        Delta(first, channel, tool=tool),
        Reset("reset"),
        Delta(second, channel, tool=tool),
        Finish("stop"),
    ]
    handler = stack(ScriptedEndpoint(events), OutputFilters([Pii()]))
    got: list[Event] = []
    async with handler(Call(Request.of("x"), clock=FakeClock())) as stream:
        got.extend([event async for event in stream])
    at = got.index(Reset("reset"))
    before = "".join(event.text for event in got[:at] if isinstance(event, Delta))
    after = "".join(event.text for event in got[at:] if isinstance(event, Delta))
    assert "jane" not in before + after
    assert first.startswith(before)
    assert after == second.replace("joe@example.com", "<EMAIL_ADDRESS>")
    assert got[-1] == Finish("stop")
