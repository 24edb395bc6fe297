"""History: read the table ``events``."""
