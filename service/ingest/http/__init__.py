"""Events that arrive over HTTP: CloudEvents, and the webhooks of applications."""
