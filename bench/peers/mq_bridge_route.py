"""Run a route of mq-bridge (Rust) from stream to table: ``insert`` or ``copy``, 4 writers.

It binds only scalar fields of a message, so its stream has flattened events, with ``data`` as text.
It chooses the name of its durable consumer.
"""

import sys
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from mq_bridge import Route

from bench.peers.row import BATCH, DATABASE_URL, NATS_URL, STREAM

COLUMNS = (
    "id", "occurred_at", "category", "type", "severity", "source", "actor_type", "actor_id",
    "resource_type", "resource_id", "data",
)  # fmt: skip
VALUES = ", ".join(f"${{payload:{name}}}" for name in COLUMNS)
COPY = {
    "bulk_copy": True,
    "insert_query": f"INSERT INTO events ({', '.join(COLUMNS)}) VALUES ({VALUES})",
}
# An insert_query with the casts that these columns need would write row by row; this writes many.
UPSERT = {"columns": "auto", "key": "id,occurred_at"}

copies = sys.argv[1] == "copy"
nats = urlsplit(NATS_URL)
where = parse_qs(urlsplit(DATABASE_URL).query)
socket, password = where["host"][0], Path(where["passfile"][0]).read_text().rpartition(":")[2]
route = Route.from_config(
    {
        "input": {
            "nats": {
                "url": f"nats://{nats.hostname}:{nats.port}",
                "username": nats.username,
                "password": nats.password,
                "stream": STREAM,
                "subject": "flat.>",
            },
        },
        "output": {
            "sqlx": {
                "url": f"postgresql://postgres:{password.strip()}@localhost/postgres?host={socket}",
                "table": "events",
                **(COPY if copies else UPSERT),
                "min_connections": 4,
                "max_connections": 4,
            }
        },
        "concurrency": 4,
        "batch_size": BATCH,
    }
)
route.run()
