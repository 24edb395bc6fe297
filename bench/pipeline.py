"""Where ``bench.monitor`` looks for its servers."""

from bench.servers import stack

__all__ = ["stack"]
