"""The vaults of all conversations: whose a vault is, how long it lives, how it leaves the process."""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import secrets
import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NoReturn

from guardrails.call import Call
from guardrails.clock import SYSTEM, Clock
from guardrails.errors import ConfigError
from guardrails.filters.vault import Shape, Vault

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

_VERSION = b"vault1:"
_NONCE = 12

Scope = tuple[str, str, str]
"""Tenant, conversation, call: the last one is empty when there is a conversation."""


@dataclass(slots=True)
class _Kept:
    vault: Vault = field(repr=False)
    used: float
    leases: int = 0


class Vaults:
    """One vault per conversation of a tenant, or per call without a conversation id. Share one among layers.

    - A conversation's vault expires `ttl` seconds after its last use on `clock`: its values are gone then,
      and old tokens in an answer stay tokens. With the same `key`, values get the same tokens again.
    - At most `most` vaults wait for their conversation to go on; the one unused for longest goes first.
      Those of calls that are under way (`lease`) are not counted and never dropped.
    - A vault holds at most `values` values; more block the call.
    - `key`: at least 32 secret bytes, for tokens and for `seal`. By default random, of this process only.

    Any number of threads and tasks may share it. No repr shows a value.
    """

    def __init__(
        self,
        *,
        key: bytes | None = None,
        clock: Clock = SYSTEM,
        ttl: float = 3600.0,
        most: int = 10_000,
        values: int = 10_000,
        shape: Shape | None = None,
    ) -> None:
        if key is not None and len(key) < 32:
            raise ConfigError(
                f"vaults: the key has {len(key)} bytes",
                hint="give 32 random ones, as os.urandom(32) makes them",
            )
        if ttl <= 0 or most < 1 or values < 1:
            raise ConfigError("vaults: ttl, most and values have to be above 0")
        self._own_key = key is not None
        self._key = key or secrets.token_bytes(32)
        self._clock = clock
        self._ttl = ttl
        self._most = most
        self._values = values
        self._shape = shape or Shape()
        self._lock = threading.Lock()
        self._idle: OrderedDict[Scope, _Kept] = OrderedDict()  # the one unused for longest first
        self._leased: dict[Scope, _Kept] = {}

    def of(self, call: Call) -> Vault:
        """The call's vault; a new one if there is none, or none any more."""
        return self._of(_scope(call))

    @contextmanager
    def lease(self, call: Call) -> Iterator[Vault]:
        """Keep the call's vault while it is under way. Without a conversation it is dropped afterwards."""
        scope = _scope(call)
        with self._lock:
            kept = self._find(scope)
            kept.leases += 1
            self._idle.pop(scope, None)
            self._leased[scope] = kept
        try:
            yield kept.vault
        finally:
            with self._lock:
                kept.leases -= 1
                kept.used = self._clock.now()
                if not kept.leases:
                    del self._leased[scope]
                    if not scope[2]:
                        self._idle[scope] = kept
                        self._shrink()

    def forget(self, conversation: str, tenant: str = "") -> None:
        """Drop a conversation's vault now; calls under way keep theirs to their end."""
        with self._lock:
            self._idle.pop((tenant, conversation, ""), None)

    def purge(self) -> None:
        """Drop what has expired. Every use does it too; call it where there may be none for long."""
        with self._lock:
            self._shrink()

    def seal(self, conversation: str, tenant: str = "") -> bytes:
        """The conversation's vault as bytes for another process: AES-256-GCM, bound to both names, with the
        time left to it.

        Raises `ConfigError` without a key of your own, or without the package `cryptography`: never in the
        clear.
        """
        scope = tenant, conversation, ""
        cipher = self._cipher()
        vault = self._of(scope)
        until = self._clock.wall().timestamp() + self._ttl
        plain = json.dumps({"until": until, "entries": vault.entries()}).encode()
        nonce = os.urandom(_NONCE)
        return _VERSION + nonce + cipher.encrypt(nonce, plain, _bound(scope))

    def open(self, sealed: bytes, conversation: str, tenant: str = "") -> Vault:
        """The conversation's vault from what `seal` gave. Values that it has here already stay.

        Raises `ConfigError` for bytes of another key, another conversation, or that were changed (kind
        `vault`), and for expired ones (kind `vault_expired`).
        """
        scope = tenant, conversation, ""
        cipher = self._cipher()
        from cryptography.exceptions import InvalidTag

        head, nonce = sealed[: len(_VERSION)], sealed[len(_VERSION) : len(_VERSION) + _NONCE]
        try:
            if head != _VERSION or len(nonce) != _NONCE:
                raise InvalidTag
            plain = json.loads(cipher.decrypt(nonce, sealed[len(_VERSION) + _NONCE :], _bound(scope)))
        except InvalidTag:
            raise ConfigError(
                "the sealed vault cannot be opened",
                kind="vault",
                hint="was it sealed with this key, for this tenant and conversation?",
            ) from None
        if plain["until"] <= self._clock.wall().timestamp():
            raise ConfigError(
                "the sealed vault has expired",
                kind="vault_expired",
                hint="go on without it: tokens stay tokens",
            )
        vault = self._of(scope)
        vault.take(plain["entries"])
        return vault

    def __len__(self) -> int:
        return len(self._idle) + len(self._leased)

    def __repr__(self) -> str:
        return f"Vaults(vaults={len(self)})"

    def __reduce__(self) -> NoReturn:
        raise ConfigError("vaults hold personal data in the clear and are not pickled", hint="use seal")

    def _of(self, scope: Scope) -> Vault:
        with self._lock:
            return self._find(scope).vault

    def _find(self, scope: Scope) -> _Kept:
        self._shrink()
        kept = self._leased.get(scope) or self._idle.get(scope)
        if kept is None:
            key = hmac.digest(self._key, b"vault" + _bound(scope), hashlib.sha256)
            kept = _Kept(Vault(key, shape=self._shape, most=self._values), 0.0)
            self._idle[scope] = kept
        kept.used = self._clock.now()
        if not kept.leases:
            self._idle.move_to_end(scope)
            self._shrink()
        return kept

    def _shrink(self) -> None:
        due = self._clock.now() - self._ttl
        while self._idle:
            oldest = next(iter(self._idle))
            if len(self._idle) <= self._most and self._idle[oldest].used > due:
                return
            del self._idle[oldest]

    def _cipher(self) -> AESGCM:
        if not self._own_key:
            raise ConfigError(
                "a vault is sealed with a key of your own",
                hint="give Vaults(key=…) the same 32 bytes everywhere",
            )
        try:
            from cryptography.hazmat.primitives.ciphers.aead import AESGCM
        except ImportError:
            raise ConfigError(
                "sealing a vault needs the package cryptography",
                hint='pip install "evalkit-guardrails[vault]"; a vault is never written in the clear',
            ) from None
        return AESGCM(hmac.digest(self._key, b"seal", hashlib.sha256))


def _scope(call: Call) -> Scope:
    return call.tenant, call.conversation, "" if call.conversation else call.id


def _bound(scope: Scope) -> bytes:
    return _VERSION + json.dumps(scope).encode()
