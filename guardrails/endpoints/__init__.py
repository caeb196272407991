"""Where a stack ends: HTTP, any async callable, recorded answers. Each is a `Handler`."""
