"""The face: the command line, and the only place that wires everything together."""
