"""What every process runs on: settings, logs, servers, signals."""
