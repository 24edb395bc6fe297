"""The types of all messages on the bus. Pure data, no I/O."""
