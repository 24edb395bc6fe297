"""What may be said on the bus: pure data, no I/O."""
