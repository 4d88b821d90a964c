"""Statistics of seeds: intervals, looks, rates of failure, exact tests, shares, power. numpy and scipy only."""
