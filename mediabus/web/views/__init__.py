"""What the pages show, computed from replies and statuses: pure functions, no I/O."""
