"""The Python API: what ``import mediabus`` offers to other programs."""
