"""The monitor: what happens inside the download clients becomes events."""
