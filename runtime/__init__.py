"""The foundation of every process: settings, NATS, PostgreSQL, HTTP and embedded servers."""
