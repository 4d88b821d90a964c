"""Statistics of seeds: intervals, looks, rates of failure, exact tests, families, power. numpy and scipy only."""
