"""What might the model have written as its score? From the log-probabilities of the reply's tokens."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

from guardrails.call import Response

MIN_MASS = 0.5
"""Less probability than that on the scale's numbers says nothing about them."""


def digits(response: Response | None, key: str, low: int, high: int) -> dict[int, float] | None:
    """The probability of each whole number from `low` to `high` (within 0 to 9) as the value of `key`.

    They sum to 1. Read is the token that starts the value behind the last `"key":` of the reply, with its
    `top_logprobs` in OpenAI's chat shape. None when there are none, or with too little on these numbers.
    """
    tokens = list(_tokens(response))
    text = "".join(str(token.get("token", "")) for token in tokens)
    found = list(re.finditer(rf'"{re.escape(key)}"\s*:\s*"?(?=\d)', text[-100_000:]))
    if not found or len(text) > 100_000:
        return None
    at = found[-1].end()
    for token in tokens:
        length = len(str(token.get("token", "")))
        if at < length:
            return _weights(token, low, high) if str(token["token"]).strip().isdigit() else None
        at -= length
    return None


def _tokens(response: Response | None) -> Iterator[Mapping[str, Any]]:
    if response is None or not response.choices:
        return
    for piece in response.choices[0].logprobs:
        content = piece.get("content") if isinstance(piece, Mapping) else None
        if isinstance(content, list):
            yield from (token for token in content if isinstance(token, Mapping))


def _weights(token: Mapping[str, Any], low: int, high: int) -> dict[int, float] | None:
    top = token.get("top_logprobs")
    weights: dict[int, float] = {}
    for each in top if isinstance(top, list) else ():
        if not isinstance(each, Mapping):
            return None
        text, number = str(each.get("token", "")).strip(), each.get("logprob")
        if isinstance(number, bool) or not isinstance(number, int | float) or not number <= 1e-6:
            return None  # not a number, or the probability of more than everything
        if len(text) == 1 and text in "0123456789" and low <= int(text) <= high:
            weights[int(text)] = weights.get(int(text), 0.0) + math.exp(
                max(number, -745)
            )  # what is less is 0
    mass = math.fsum(weights.values())
    if not MIN_MASS <= mass <= 1.01:
        return None
    return {score: weight / mass for score, weight in weights.items()}
