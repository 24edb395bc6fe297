"""The operations: their subjects, requests and replies."""
