"""Comparing norms: from `compare=batch,layer,group` to a finding that a study runs, and its result as a table."""
