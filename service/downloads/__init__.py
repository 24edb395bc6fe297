"""The downloads that mediabus knows: their rows, and how these move from state to state."""
