"""The persister: every event of the stream into the table ``events``, once."""
