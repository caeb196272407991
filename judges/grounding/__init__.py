"""Is an answer supported by its context? A support score without a language model, and a place for yours."""

from __future__ import annotations

from judges.grounding.support import Span as Span
from judges.grounding.support import Support as Support
from judges.grounding.support import support as support
