"""What every process runs on: settings, logs, servers, signals."""

from service.runtime import backport as backport
