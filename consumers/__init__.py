"""Consumers of the event stream. Each one works on its own; none imports another."""
