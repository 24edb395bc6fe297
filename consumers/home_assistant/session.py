"""One connection to the broker: publishes what changed, and receives commands."""

import asyncio
import contextlib
import logging
import secrets
import time
from collections.abc import AsyncIterator, Mapping
from typing import Final

import aiomqtt

from mediabus.consumers.home_assistant.board import Board
from mediabus.consumers.home_assistant.commands import Commands
from mediabus.consumers.home_assistant.discovery import APP_TOPICS, CLIENT_TOPICS, discovery
from mediabus.consumers.home_assistant.library import Library
from mediabus.consumers.home_assistant.settings import MqttConfig
from mediabus.consumers.home_assistant.states import shown_apps, shown_clients, speeds, states
from mediabus.runtime import metrics

log: Final = logging.getLogger("mediabus.mqtt")

ONLINE: Final = b"online"
OFFLINE: Final = b"offline"
DELETED: Final = b""
UNKNOWN: Final = b"?"
"""Stands for a retained message whose payload does not matter, because it differs from ours."""

PUBLISH_EVERY: Final = 1.0
"""Seconds between two looks at the states, at least."""

ANSWER_WITHIN: Final = 10.0
GOODBYE_WITHIN: Final = 2.0
KEEPALIVE: Final = 20
"""Seconds. The broker publishes the last will after 1.5 times as many."""

MAX_INCOMING: Final = 10_000
"""Messages that wait here; the broker sends one retained message for each client at the start."""


@contextlib.asynccontextmanager
async def session(
    config: MqttConfig, library: Library, board: Board, commands: Commands
) -> AsyncIterator["Session"]:
    """Connect to the broker. At the end, mark the entities as unavailable.

    Raises:
        MqttError: the broker is unreachable, refuses the login, or the connection is lost.
    """
    client = aiomqtt.Client(
        config.host,
        config.port,
        username=config.user,
        password=config.password,
        tls_context=config.tls,
        identifier=f"mediabus-{secrets.token_hex(6)}",
        will=aiomqtt.Will(config.topics.availability, OFFLINE, qos=1, retain=True),
        timeout=ANSWER_WITHIN,
        keepalive=KEEPALIVE,
        max_queued_incoming_messages=MAX_INCOMING,
        logger=logging.getLogger("mediabus.mqtt.client"),
    )
    async with client:
        opened = Session(client, config, library, board, commands)
        try:
            yield opened
        finally:
            await opened.say_goodbye()


class Session:
    """A connection to the broker, and what it has published over it."""

    def __init__(
        self,
        client: aiomqtt.Client,
        config: MqttConfig,
        library: Library,
        board: Board,
        commands: Commands,
    ) -> None:
        self._client = client
        self._config = config
        self._topics = config.topics
        self._library = library
        self._board = board
        self._commands = commands
        self._published: dict[str, bytes] = {}
        """The retained messages of the broker that are ours, by topic."""
        self._found_apps: set[str] = set()
        self._speeds: dict[str, bytes] = {}
        self._speeds_at = -config.speed_interval

    async def run(self) -> None:
        """Publish and receive until cancelled. Raises MqttError if the connection is lost."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._receive(), name="mqtt receive")
            tasks.create_task(self._publish_states(), name="mqtt states")
            tasks.create_task(self._publish_events(), name="mqtt events")

    async def say_goodbye(self) -> None:
        """Mark the entities as unavailable. A clean end does not trigger the last will."""
        with contextlib.suppress(aiomqtt.MqttError, ValueError):
            await self._client.publish(
                self._topics.availability, OFFLINE, qos=1, retain=True, timeout=GOODBYE_WITHIN
            )

    async def _receive(self) -> None:
        topics = self._topics
        subscriptions = (
            topics.birth,
            topics.availability,
            topics.of_client("+", "connected"),
            topics.of_app("+", "connected"),
            topics.of_client("+", "set"),
        )
        await self._client.subscribe([(topic, 1) for topic in subscriptions])
        async for message in self._client.messages:
            payload = message.payload if isinstance(message.payload, bytes) else b""
            self._handle(message.topic.value, payload, is_retained=message.retain)

    def _handle(self, topic: str, payload: bytes, *, is_retained: bool) -> None:
        topics = self._topics
        if topic == topics.birth:
            if payload == ONLINE and not is_retained:
                log.info("Home Assistant started, publishing everything again")
                self._published = dict.fromkeys(self._published, UNKNOWN)
        elif topic == topics.availability:
            if payload == OFFLINE:  # by another process, or the will of an earlier connection
                self._published[topic] = OFFLINE
        elif client_id := topics.client_in(topic, "set"):
            self._command(client_id, payload, is_retained=is_retained)
        elif is_retained and payload and (client_id := topics.client_in(topic, "connected")):
            kept = [topics.of_client(client_id, key) for key in CLIENT_TOPICS]
            self._remember(*kept, topics.discovery(client_id))
        elif is_retained and payload and (app_id := topics.app_in(topic, "connected")):
            self._found_apps.add(app_id)
        self._board.change()

    def _command(self, client_id: str, payload: bytes, *, is_retained: bool) -> None:
        """Start a command. A retained one is ignored: it would run again at every connection."""
        if is_retained:
            log.warning("retained command ignored", extra={"client": client_id})
        else:
            self._commands.start(client_id, payload)

    def _remember(self, *topics: str) -> None:
        """Note messages that an earlier process published.

        They are published again, or deleted if their client is gone.
        """
        for topic in topics:
            self._published.setdefault(topic, UNKNOWN)

    def _remember_apps(self) -> None:
        """Do the same for applications, once they are known."""
        for app_id in self._found_apps:
            kept = [self._topics.of_app(app_id, key) for key in APP_TOPICS]
            self._remember(*kept, self._topics.app_discovery(app_id))
        self._found_apps.clear()

    async def _publish_states(self) -> None:
        while True:
            if self._board.figures.apps is not None:
                self._remember_apps()
            if self._board.is_complete:
                await self._publish(self._wanted())
            await asyncio.gather(
                asyncio.sleep(PUBLISH_EVERY), self._board.changed(self._config.speed_interval)
            )

    def _wanted(self) -> dict[str, bytes]:
        """Return all retained messages. The availability is the last, so that states precede it."""
        statuses, topics = self._library.statuses, self._topics
        if time.monotonic() - self._speeds_at >= self._config.speed_interval:
            self._speeds_at = time.monotonic()
            self._speeds = speeds(topics, statuses)
        figures = self._board.figures
        shown = states(topics, statuses, figures, self._config.stalled_after)
        messages = discovery(topics, shown_clients(statuses), shown_apps(figures)) | shown
        new = speeds(topics, statuses)
        messages |= {topic: self._speeds.get(topic, value) for topic, value in new.items()}
        return messages | {topics.availability: ONLINE if self._library.is_connected else OFFLINE}

    async def _publish(self, wanted: Mapping[str, bytes]) -> None:
        """Publish the messages that differ from the published ones, and delete those gone."""
        gone = [topic for topic in self._published if topic not in wanted]
        for topic in sorted(gone, key=self._is_marker):
            await self._retain(topic, DELETED)
            del self._published[topic]
        for topic, payload in wanted.items():
            if self._published.get(topic) != payload:
                self._published[topic] = payload
                await self._retain(topic, payload)

    def _is_marker(self, topic: str) -> bool:
        """Return whether a later process recognizes a client or an application by this topic.

        It is deleted last: if this process ends before, the later one deletes the rest.
        """
        topics = self._topics
        return bool(topics.client_in(topic, "connected") or topics.app_in(topic, "connected"))

    async def _retain(self, topic: str, payload: bytes) -> None:
        await self._client.publish(topic, payload, qos=1, retain=True)
        metrics.MQTT_PUBLISHED.labels("state").inc()

    async def _publish_events(self) -> None:
        while True:
            message = await self._board.next_event()
            await self._client.publish(self._topics.event, message, qos=1)
            self._board.event_sent(message)
            metrics.MQTT_PUBLISHED.labels("event").inc()
