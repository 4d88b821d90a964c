"""Statistics of paired seeds: intervals, exact tests, families, power. numpy and scipy only."""
