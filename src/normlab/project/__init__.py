"""Lightning projects of the user: built, tried, and trained as they are with other norms."""
