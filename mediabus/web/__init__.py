"""The pages for a browser. They use NATS only, so several processes may serve them."""
