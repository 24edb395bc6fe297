"""From an operation's transaction to NATS: recorded with the change, relayed in order."""
