"""What runs inside a sandbox: the standard library only, and nothing of the rest of this project.

The folder is mounted (or allowed) alone, so the modules find each other by relative imports.
"""
