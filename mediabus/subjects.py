"""NATS names: the subject of each event, filters over subjects, streams and the bucket."""

from mediabus.schemas.subjects import *  # noqa: F403 - all of them
