"""The notifier: sends messages about events to the targets of ``[[notify]]``."""
