"""Golden sets of many kinds: what a suite may name, how rows become samples, and what is wrong with a set."""
