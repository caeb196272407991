"""Layers that decide when a call may run and for how long."""
