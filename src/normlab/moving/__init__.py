"""Studies that move: packing what they know, and importing it where they resume. Imports no torch."""
