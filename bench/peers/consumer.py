"""The consumer that a script reads from, by its environment variables."""

import os
from typing import Final

NATS_URL: Final = os.environ["NATS_URL"]
STREAM: Final = os.environ["STREAM"]
DURABLE: Final = os.environ["DURABLE"]
BATCH: Final = 1000
