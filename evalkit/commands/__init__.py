"""The commands of `evalkit`, a file each. What they need is imported when they run."""
