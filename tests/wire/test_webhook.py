"""The npm package `standardwebhooks` verifies the webhooks of the notifier."""

import asyncio
import base64
import contextlib
import datetime
import json
import subprocess
from pathlib import Path

from mediabus.consumers.notifier.run import opened
from mediabus.consumers.notifier.signature import signed
from mediabus.consumers.notifier.targets.port import Failed, Message, Sender
from mediabus.consumers.notifier.worker import utc_now
from mediabus.schemas import codec
from mediabus.schemas.docs.examples import example
from mediabus.schemas.events import EVENT_TYPES
from tests.notifier.test_recipes import SECRET, blocks, recipe
from tests.support.eventually import eventually
from tests.support.notifying import config_of
from tests.support.ports import free_port

HERE = Path(__file__).parent
OLD, NEW = (f"whsec_{base64.b64encode(bytes([n]) * 24).decode()}" for n in (1, 2))


async def test_the_receiver_of_the_recipe_verifies_in_node(node: str) -> None:
    (source,) = blocks(recipe(6), "js")
    port = free_port()
    source = f'const SECRET = "{SECRET}", PORT = {port};\n{source}'
    process = await asyncio.create_subprocess_exec(
        node, "--input-type=module", "-e", source, cwd=HERE, stdout=asyncio.subprocess.PIPE
    )
    config = config_of({"name": "it", "webhook": f"http://127.0.0.1:{port}/", "secret": SECRET})
    message = Message([example(EVENT_TYPES["download.failed"])], "", "", utc_now())

    async def is_sent(sender: Sender) -> str | None:
        with contextlib.suppress(Failed):  # Node does not listen yet
            return await sender.send(message)
        return None

    try:
        async with opened(config.targets[0], config) as sender:
            assert await eventually(lambda: is_sent(sender), within=30) == "HTTP 200"
    finally:
        process.kill()
        output, _ = await process.communicate()
    assert output.decode().split() == [message.id, "download.failed"]


def verified(node: str, secret: str, headers: dict[str, str], body: bytes) -> str:
    command = [node, "webhook.mjs", secret, json.dumps(headers)]
    done = subprocess.run(command, cwd=HERE, input=body, capture_output=True, check=False)
    return done.stdout.decode().strip() or done.stderr.decode()


def test_a_receiver_in_node_verifies_both_secrets_of_a_rotation(node: str) -> None:
    body = codec.encode(example(EVENT_TYPES["download.failed"]))
    now = int(datetime.datetime.now(datetime.UTC).timestamp())
    headers = signed([OLD, NEW], "0198c1f3", now, body)
    for secret in (OLD, NEW):
        assert verified(node, secret, headers, body) == "download.failed"
    assert "No matching signature" in verified(node, NEW, headers, body + b" ")
