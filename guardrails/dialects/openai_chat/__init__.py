"""OpenAI's chat completions, which most servers speak (vLLM, SGLang, llama.cpp, Ollama, OpenRouter, …)."""

from __future__ import annotations

from guardrails.dialects.openai_chat.stream import Decoder


class OpenAIChat:
    """The dialect."""

    name = "openai_chat"
    path = "/chat/completions"

    def decoder(self, leniency: frozenset[str] = frozenset()) -> Decoder:
        """A reader for one streamed answer."""
        return Decoder(leniency)


DIALECT = OpenAIChat()
