"""`python -m guardrails` is the command."""

from guardrails.cli import main

main()
