"""How long may this call take in all, waiting and every attempt included?"""

from __future__ import annotations

from dataclasses import dataclass

from guardrails.call import Call
from guardrails.handler import Handler, Opening


@dataclass(frozen=True, slots=True)
class Deadline:
    """Give each call `seconds` from its arrival. An earlier deadline that the caller set stays.

    The endpoint keeps it (`DeadlineExceeded`), so one deadline covers every attempt and the whole stream.
    """

    seconds: float

    def __call__(self, call: Call, inner: Handler, /) -> Opening:
        """Pass the call on with its deadline."""
        due = call.arrived + self.seconds
        return inner(call if call.deadline is not None and call.deadline <= due else call.with_deadline(due))
