"""A judge's model without a model: for tests, for examples, and to try a calibration on.

from guardrails.testing import ScriptedEndpoint
from judges.llm import verdict_of

model = ScriptedEndpoint(lambda call: verdict_of(call, reasons="why", score=4))
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from random import Random
from typing import Any

from guardrails.call import Call, Message, Request

_CASE = re.compile(r'The value of "case" is "([0-9a-f]+)"')


def case_of(call: Call | Request) -> str:
    """The case word that a call asks a verdict to repeat."""
    found = _CASE.findall(_messages(call)[0].text)
    return str(found[-1]) if found else ""


def _messages(call: Call | Request) -> Sequence[Message]:
    return (call.request if isinstance(call, Call) else call).messages


def verdict_of(call: Call | Request, **fields: Any) -> str:
    """The verdict with these fields, as a judge that does what it is told would write it."""
    return json.dumps({"case": case_of(call), **fields})


def fenced(call: Call | Request, label: str) -> Sequence[str]:
    """What stands in a call between the marks of `label` (`answer`, `answer_a`, `passage-1`, …)."""
    text = _messages(call)[1].text
    return re.findall(
        rf"<{re.escape(label)}-[0-9a-f]+>\n(.*?)\n</{re.escape(label)}-[0-9a-f]+>", text, re.DOTALL
    )


def erring(
    right: Callable[[str], bool],
    rng: Random,
    *,
    sensitivity: float,
    specificity: float,
    yes: Mapping[str, Any] = {"score": 5},
    no: Mapping[str, Any] = {"score": 1},
) -> Callable[[Call | Request], str]:
    """A judge with known error rates, to try a calibration on.

    It says `yes` to a share `sensitivity` of the answers that are `right`, and `no` to a share `specificity`
    of the others; `yes` and `no` are fields of its verdict.
    """

    def answer(call: Call | Request) -> str:
        text = fenced(call, "answer")[0]
        says_yes = rng.random() < (sensitivity if right(text) else 1 - specificity)
        return verdict_of(call, reasons="scripted", **(yes if says_yes else no))

    return answer
