"""The weights of layers: their initial values, and what they are functions of."""
