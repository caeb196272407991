"""The `similar` judge: how near the answer's meaning is to a reference's, by embeddings of your choice.

::

    scorers:
      - similar: {url: "http://localhost:8000/v1/embeddings", model: my-embedder, threshold: 0.85}
      - similar:
          url: https://api.openai.com/v1/embeddings
          model: text-embedding-3-small
          key_env: OPENAI_API_KEY
      - similar: {embedder: "embedders.py:embed"}        # (async) list of texts → list of vectors

The value is the cosine of the two vectors, 0 where it is negative. Cosines of different models are not
comparable, and embeddings are nearly blind to negation: choose the threshold on pairs that you know.

The texts leave this process: references and answers go to the endpoint that `url` names.
"""

from __future__ import annotations

import json
import math
import os
from array import array
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any, ClassVar

from guardrails.errors import ConfigError
from judges.calling import TIMEOUT, Overdue, called, cause
from judges.custom import load
from judges.judge import Answer, Question, Score, no_reference, passing, unfit, whole

if TYPE_CHECKING:
    import ssl

KEPT = 1000
"""Vectors of references that are kept: the same ones come with every endpoint and every repetition."""

Vector = Sequence[float]
Embedder = Callable[[list[str]], Awaitable[Any]]


class _Unusable(Exception):
    """The embedder gave something that is no vectors. The message quotes nothing."""


@dataclass(frozen=True, slots=True)
class Similar:
    """Compares the answer with the nearest reference. One request an answer, of the texts that are new.

    `embedder` is a function by its target (see the judge `python`), `url` an endpoint in OpenAI's words with
    `model`, `key_env` the variable that holds its key, `dimensions` a size that some models can be asked for.
    `digest` is that of an embedder's file, so that rows that an older version judged are told apart.
    An embedder that fails, or takes longer than `timeout` seconds over HTTP, gives an error row; a function
    has `calling.TIMEOUT` seconds, because it may load a model first.
    """

    embedder: str = ""
    url: str = ""
    model: str = ""
    key_env: str | None = None
    dimensions: int | None = None
    timeout: float = 30.0
    threshold: float | None = 0.8
    name: str = "similar"
    targets: ClassVar[tuple[str, ...]] = ("embedder",)
    digest: str = field(init=False, default="")
    _embed: Embedder = field(init=False, repr=False, compare=False)
    _kept: OrderedDict[str, Vector] = field(
        init=False, repr=False, compare=False, default_factory=OrderedDict
    )

    def __post_init__(self) -> None:
        if bool(self.embedder) == bool(self.url):
            raise ConfigError(
                "needs an embedder or a url, one of the two",
                hint="write `embedder: file.py:function`, or `url: http://localhost:8000/v1/embeddings`",
            )
        if self.url and not self.url.startswith(("http://", "https://")):
            raise ConfigError("url must begin with http:// or https://")
        if self.key_env and not os.environ.get(self.key_env):
            raise ConfigError(f"the environment variable {self.key_env} is not set", hint="it holds the key")
        if self.threshold is not None and not 0 <= self.threshold <= 1:
            raise ConfigError("threshold is a number from 0 to 1, or null for no verdict")
        if not 0 < self.timeout < math.inf:
            raise ConfigError("timeout must be a positive number of seconds")
        embed: Embedder = self._post
        if self.embedder:
            function, digest = load(self.embedder)
            object.__setattr__(self, "digest", digest)
            embed = partial(called, function, within=TIMEOUT)
        object.__setattr__(self, "_embed", embed)

    def __reduce__(self) -> tuple[Any, ...]:
        given = (self.embedder, self.url, self.model, self.key_env, self.dimensions)
        return type(self), (*given, self.timeout, self.threshold, self.name)

    def check(self, question: Question, /) -> str | None:
        """Complains about a sample without references, or with an empty one."""
        return no_reference(question)

    async def __call__(self, question: Question, answer: Answer, /) -> Score:
        """Embeds the answer and the references that are not known yet."""
        if (failed := unfit(self, question, answer)) is not None:
            return failed
        if not answer.text.strip():
            return passing(0.0, self.threshold, "the answer is empty")
        try:
            own, *wanted = await self._vectors([answer.text, *question.references])
            value = max(cosine(own, other) for other in wanted)
        except _Unusable as error:
            return Score.unjudged("embedder", str(error))
        except Overdue as error:
            return Score.unjudged("timeout", f"the embedder: {error}")
        except Exception as error:  # its message may quote the texts
            return Score.unjudged("embedder", f"the embedder raised {type(cause(error)).__name__}")
        return passing(max(0.0, value), self.threshold, f"cosine {value:.3f}")

    async def _vectors(self, texts: Sequence[str]) -> list[Vector]:
        known = {text: self._kept[text] for text in texts[1:] if text in self._kept}
        new = [text for text in dict.fromkeys(texts) if text not in known]
        if new:  # not where the answer is a reference, word for word
            known.update(zip(new, _read(await self._embed(list(new)), len(new)), strict=True))
        for text in texts[1:]:
            self._kept[text] = known[text]
            self._kept.move_to_end(text)
        while len(self._kept) > KEPT:
            self._kept.popitem(last=False)
        return [known[text] for text in texts]

    async def _post(self, texts: list[str]) -> Any:
        import httpx

        key = os.environ.get(self.key_env, "") if self.key_env else ""
        headers = {"authorization": f"Bearer {key}"} if key else {}
        clean = [text.encode("utf-8", "replace").decode() for text in texts]
        body: dict[str, Any] = {"model": self.model, "input": clean, "encoding_format": "float"}
        if self.dimensions is not None:
            body["dimensions"] = self.dimensions
        async with httpx.AsyncClient(timeout=self.timeout, trust_env=False, verify=_trusted()) as client:
            response = await client.post(self.url, json=body, headers=headers)
        if response.status_code != 200:
            raise _Unusable(f"the embedder answered with status {response.status_code}")
        try:
            rows = sorted(json.loads(response.content)["data"], key=lambda row: row["index"])
            return [row["embedding"] for row in rows]
        except (ValueError, KeyError, TypeError, RecursionError):
            raise _Unusable("the embedder's answer is not one of an embeddings endpoint") from None


@lru_cache(maxsize=1)
def _trusted() -> ssl.SSLContext:
    # Reading the certificates takes longer than most embedders need.
    import httpx

    return httpx.create_ssl_context(trust_env=False)


def _read(given: Any, count: int) -> list[Vector]:
    vectors = [array("d", vector) for vector in given]
    if len(vectors) != count:
        raise _Unusable(f"the embedder gave {len(vectors)} vectors for {count} texts")
    if len({len(vector) for vector in vectors}) != 1 or not vectors[0]:
        raise _Unusable("the embedder's vectors are not all of one length")
    return list(vectors)


def cosine(left: Vector, right: Vector) -> float:
    """The cosine of two vectors, from -1 to 1. Raises where one has no direction, or another length."""
    if len(left) != len(right):
        raise _Unusable("the embedder's vectors are not all of one length")
    long = math.hypot(*left), math.hypot(*right)
    if not all(0 < length < math.inf for length in long):
        raise _Unusable("the embedder gave a vector of zeros, or of what is no number")
    # Each by its own length first: the product of two long vectors may leave the floats.
    found = math.fsum((x / long[0]) * (y / long[1]) for x, y in zip(left, right, strict=True))
    return min(1.0, max(-1.0, whole(found)))
