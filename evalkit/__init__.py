"""What do many calls say? Golden sets, runs, statistics with their intervals, gates and reports."""
