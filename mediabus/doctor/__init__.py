"""`mediabus doctor`: the checks, and the command that prints them."""
