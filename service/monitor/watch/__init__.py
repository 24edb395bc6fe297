"""Watch: download client -> status bucket."""
