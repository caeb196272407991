"""What holds for every test."""

from __future__ import annotations

import os

from hypothesis import settings

# Shared machines pause: a test's own time says nothing. CI draws the same examples each time.
settings.register_profile("project", deadline=None, derandomize=bool(os.environ.get("CI")))
settings.load_profile("project")
