"""`mediabus config`: check the settings, and describe them to editors."""
