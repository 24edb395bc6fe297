"""Read the history of applications, and turn its rows into events."""
