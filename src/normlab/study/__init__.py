"""From choices to runs: the frozen plan, what is left of it, how it is launched and watched. Imports no torch."""
