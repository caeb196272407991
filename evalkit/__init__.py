"""What do many calls say? Golden sets, runs, statistics with their intervals, gates and reports."""

try:
    from guardrails._owners import warn_of_clashes
except ImportError as error:
    # Another `guardrails` lies where ours was: whatever it raised makes no sense to the reader.
    raise ImportError(
        "the package `guardrails` that Python finds is not ours: a distribution such as guardrails-ai "
        "has overwritten it. Install evalkit-guardrails in a virtual environment of its own."
    ) from error

warn_of_clashes()
