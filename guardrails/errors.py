"""What can go wrong in a call, sorted by what the caller does next.

::

    GuardrailsError
    ├ ConfigError            fix the configuration; nothing was sent
    ├ Rejected               our decision: nothing is wrong with the endpoint
    │ ├ Shed                   too busy: come back after `retry_after`
    │ ├ Blocked                a filter said no: change the prompt, or accept it
    │ ├ DeadlineExceeded       the caller's own time is up
    │ └ BudgetExceeded         money or tokens are spent until `retry_after`
    └ EndpointError          the endpoint's fault
      ├ Transient              entering may be tried again (connect, timeout, 429, 5xx)
      ├ Refused                this request will never work here (400, 401, 404, too long, policy)
      └ Interrupted            broke after the first event: never retried silently
        └ Truncated              ended as if all were well, but without its terminal event

`kind` is a short stable word for records, metrics and routing rules (`"connect"`, `"rate_limited"`,
`"context_length"`, …); the message is for people. Neither ever holds prompt, answer or key. Every error
survives pickling, so that it can cross a process boundary.
"""

from __future__ import annotations

import copy
from typing import Any, ClassVar, Self


class GuardrailsError(Exception):
    """Base of every error that this package raises on purpose.

    `kind` names the cause in one word, `hint` says what to do next (empty when the message already does).
    """

    default_kind: ClassVar[str] = "error"

    def __init__(self, message: str, *, kind: str | None = None, hint: str = "") -> None:
        # An application may write `Transient(error)`, and layers say more in what it raises.
        given: object = message
        message = given if isinstance(given, str) else type(given).__name__
        super().__init__(message)
        self.message = message
        self.kind = kind or self.default_kind
        self.hint = hint or ""

    def again(self) -> Self:
        """The same error, to say more in: an application may raise one instance in all its calls."""
        other = copy.copy(self)
        other.__traceback__, other.__context__ = self.__traceback__, self.__context__
        other.__cause__ = self.__cause__
        other.__suppress_context__ = self.__suppress_context__  # setting the cause has set it
        return other

    def add(self, more: str) -> None:
        """Say more: what a layer between the endpoint and the caller knows. Nothing is said twice."""
        if more not in self.message:
            self.message = f"{self.message}; {more}"
            self.args = (self.message,)

    def __str__(self) -> str:
        return f"{self.message} – {self.hint}" if self.hint else self.message

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.message, self.__dict__)


def _rebuild(cls: type[GuardrailsError], message: str, state: dict[str, Any]) -> GuardrailsError:
    error = cls.__new__(cls)
    Exception.__init__(error, message)
    error.__dict__.update(state)
    return error


class ConfigError(GuardrailsError):
    """The configuration cannot work. The message lists every mistake, each with its place."""

    default_kind = "config"


class Rejected(GuardrailsError):
    """We decided against the call. `retry_after` is in seconds, None when waiting will not help.

    `only_theirs` is True where the limit is the caller's own, so that calls of others fare better.
    """

    default_kind = "rejected"
    only_theirs: bool = False

    def __init__(
        self, message: str, *, kind: str | None = None, hint: str = "", retry_after: float | None = None
    ) -> None:
        super().__init__(message, kind=kind, hint=hint)
        self.retry_after = retry_after


class Shed(Rejected):
    """Too much load: turned away early so that accepted calls stay fast.

    Kinds: `too_late`, `queue_full` and `overload` (an `Admit`), `rate_limited` (a `RateLimit`), `store_gone`.
    """

    default_kind = "shed"


class Blocked(Rejected):
    """A filter blocked the text. `findings` are kinds and scores, never the text itself."""

    default_kind = "blocked"

    def __init__(
        self,
        message: str,
        *,
        kind: str | None = None,
        hint: str = "",
        direction: str = "input",
        findings: tuple[tuple[str, float], ...] = (),
    ) -> None:
        super().__init__(message, kind=kind, hint=hint)
        self.direction = direction
        self.findings = findings


class DeadlineExceeded(Rejected):
    """The caller's deadline passed before the call was complete."""

    default_kind = "deadline"


class BudgetExceeded(Rejected):
    """A budget of money or tokens is spent."""

    default_kind = "budget"


class EndpointError(GuardrailsError):
    """The endpoint failed. `endpoint` is its name, `status` the HTTP status if there was one."""

    default_kind = "endpoint"

    def __init__(
        self,
        message: str,
        *,
        kind: str | None = None,
        hint: str = "",
        endpoint: str = "",
        status: int | None = None,
    ) -> None:
        super().__init__(message, kind=kind, hint=hint)
        self.endpoint = endpoint
        self.status = status

    @property
    def short(self) -> str:
        """Status, if there was one, and kind."""
        return self.kind if self.status is None else f"{self.status} {self.kind}"

    def tell_from(self, endpoint: str) -> None:
        """Say which endpoint it was, where nobody has yet: who reads an answer does not know its name."""
        if not self.endpoint:
            self.endpoint = endpoint
            for nameless in _NAMELESS:
                if self.message.startswith(nameless):
                    self.message = endpoint + self.message.removeprefix(nameless)
                    self.args = (self.message,)
                    return


_NAMELESS = "the endpoint", "the server"
ASK_AGAIN = "`retry` asks again, "
"""Part of some hints. A `Retry` that did ask again takes it out."""


class Transient(EndpointError):
    """Entering may be tried again; `retry_after` (seconds) is the endpoint's own wish, if it said one.

    `retry_here` is False where the endpoint has asked not to be tried again itself (`x-should-retry: false`);
    another one may be.
    """

    default_kind = "transient"
    retry_here: bool = True

    def __init__(
        self,
        message: str,
        *,
        kind: str | None = None,
        hint: str = "",
        endpoint: str = "",
        status: int | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message, kind=kind, hint=hint, endpoint=endpoint, status=status)
        self.retry_after = retry_after


class Refused(EndpointError):
    """This request will never work at this endpoint: repeating it only costs."""

    default_kind = "refused"


class Interrupted(EndpointError):
    """The stream broke after its first event. What arrived before has been delivered already.

    `received_chars` and `received_events` say how much the endpoint had sent by then: characters of text on
    all channels, and events that carried some.
    """

    default_kind = "interrupted"
    received_chars: int = 0
    received_events: int = 0

    def undelivered(self) -> Transient:
        """The same failure where nothing has been handed on yet: entering may be tried again."""
        return Transient(
            self.message, kind=self.kind, hint=self.hint, endpoint=self.endpoint, status=self.status
        )


class Truncated(Interrupted):
    """The stream ended cleanly but without the event that its dialect ends with: the answer is cut."""

    default_kind = "truncated"
