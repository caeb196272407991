"""Where jobs are done when not in this process."""
