"""Follow: status bucket -> lifecycle events."""
