"""Norm sites of any network: finding them, replacing them, and what that costs a trained one."""
