"""What `normlab doctor` checks: the machine, and what normlab depends on."""
