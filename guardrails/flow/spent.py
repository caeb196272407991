"""What may this call use up, and what did it?

Before: the prompt's tokens (counted or estimated) and the most that the answer may have. After: what the
endpoint reported for each attempt; where it reported nothing, or what cannot be right, the prompt and the
tokens that arrived, since that much was computed for certain. An attempt that never reached a model used
nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from guardrails.call import Attempt, Call, Delta, Finish, Note, Request, Usage
from guardrails.record import NOT_SENT, NOTHING, said
from guardrails.usage import sound


def worst_case(call: Call, model: str, *, assumed_output: int) -> Usage:
    """The tokens that the call may use: the prompt, and `max_tokens` for each of its `n` answers.

    `assumed_output` stands in where the request sets no `max_tokens`.
    """
    return Usage(*at_most(call, model, assumed_output))


def at_most(call: Call, model: str, assumed_output: int) -> tuple[int, int]:
    """The same, as tokens in and out. However many layers ask, the prompt is counted once."""
    from guardrails import tokens

    request, memo = call.request, call.journal.memo
    key = id(request), request.model or model
    known: tuple[Request, int] | None = memo.get(key)
    if known is None:
        known = memo[key] = request, tokens.count_messages(request, key[1]).n
    sampling = request.sampling
    most = sampling.max_tokens if sampling.max_tokens is not None else assumed_output
    return known[1], most * (sampling.n or 1)


def used(attempt: Attempt, prompt: int) -> Usage | None:
    """What the attempt used; None when it never reached a model. `prompt`: the estimate of its input."""
    end, status, spoke = "", 0, False
    usage: Usage | None = None
    for _, entry in reversed(attempt.log):
        if isinstance(entry, Finish):
            if entry.usage is not None and (usage is None or usage == NOTHING):
                usage = sound(entry.usage)
                if usage.input_tokens and usage.output_tokens:
                    return usage
        elif isinstance(entry, Delta):
            spoke = True
        elif isinstance(entry, Note):
            if entry.what == "ended":
                end = entry.detail or ""
            elif entry.what == "headers":
                status = entry.detail[0]
    if usage is None and not spoke and (end in NOT_SENT or status >= 400):
        return None
    usage = usage or NOTHING
    if spoke and not usage.output_tokens:
        from guardrails import tokens

        text = said(entry for _, entry in attempt.log)
        usage = replace(usage, output_tokens=tokens.count(text, attempt.model).n)
    return usage if usage.input_tokens else replace(usage, input_tokens=prompt)


def attempts_since(call: Call, before: int, endpoint: str) -> Sequence[Attempt]:
    """The attempts made after the first `before`: those of `endpoint` if any bears that name, else all.

    A hedge or a fallback writes into the same journal at the same time; the name tells them apart.
    """
    made = call.journal.attempts[before:]
    if len(made) == 1:
        return made
    return [attempt for attempt in made if attempt.endpoint == endpoint] or made
