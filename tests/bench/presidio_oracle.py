"""Presidio's own engine, without a model and without the network: what `Pii` is held against.

Words stand for tokens and their lower-case forms for lemmas; the recognizer that reads a model's findings is
taken out; tldextract uses the list that came with it. All else is Presidio's: `findings` is what
`AnalyzerEngine.analyze` returns, its own removal of contained duplicates included.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

from guardrails.filters.pii.context import STOPWORDS

Key = tuple[str, int, int, float]


def nlp_engine() -> Any:
    """An engine that sees words and signs."""
    from presidio_analyzer.nlp_engine import NlpArtifacts, NlpEngine

    class Words(NlpEngine):  # type: ignore[misc] # untyped
        def load(self) -> None: ...

        def is_loaded(self) -> bool:
            return True

        def process_text(self, text: str, language: str) -> NlpArtifacts:
            found = list(re.finditer(r"\w+|[^\w\s]", text))
            tokens = [m.group() for m in found]
            lemmas = [token.lower() for token in tokens]
            return NlpArtifacts([], tokens, [m.start() for m in found], lemmas, self, language)

        def process_batch(self, texts: Any, language: str, **_: Any) -> Iterator[Any]:
            yield from ((text, self.process_text(text, language)) for text in texts)

        def is_stopword(self, word: str, language: str) -> bool:
            return word.lower() in STOPWORDS

        def is_punct(self, word: str, language: str) -> bool:
            return not re.match(r"\w", word)

        def get_supported_entities(self) -> list[str]:
            return []

        def get_supported_languages(self) -> list[str]:
            return ["en"]

    return Words()


def engine(extra: tuple[str, ...] = (), matching: str = "substring") -> Any:
    """An `AnalyzerEngine` with the default English recognizers, and those of the classes named in `extra`."""
    from presidio_analyzer import AnalyzerEngine, LemmaContextAwareEnhancer, predefined_recognizers
    from presidio_analyzer.recognizer_registry import RecognizerRegistry
    from tldextract import TLDExtract

    offline = TLDExtract(suffix_list_urls=(), cache_dir=None)

    class OfflineEmail(predefined_recognizers.EmailRecognizer):  # type: ignore[misc,name-defined] # untyped
        def validate_result(self, pattern_text: str) -> bool:
            return bool(offline(pattern_text).fqdn)

    words = nlp_engine()
    registry = RecognizerRegistry()
    registry.load_predefined_recognizers(languages=["en"], nlp_engine=words)
    for name in ("SpacyRecognizer", "EmailRecognizer"):
        registry.remove_recognizer(name)
    registry.add_recognizer(OfflineEmail())
    for name in extra:
        registry.add_recognizer(getattr(predefined_recognizers, name)(supported_language="en"))
    return AnalyzerEngine(
        registry=registry,
        nlp_engine=words,
        context_aware_enhancer=LemmaContextAwareEnhancer(context_matching_mode=matching),
    )


def finder(analyzer: Any, threshold: float = 0.0) -> Callable[[str], set[Key]]:
    """What the engine finds in a text: kind, start, end, score."""

    def find(text: str) -> set[Key]:
        results = analyzer.analyze(text, "en", score_threshold=threshold)
        return {(r.entity_type, r.start, r.end, r.score) for r in results}

    return find
