"""Who listens: each consumer reads the stream of events on its own and knows no other."""
