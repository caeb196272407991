"""Runs when Python starts, for whoever has this folder on PYTHONPATH."""

import outside

outside.watch()
