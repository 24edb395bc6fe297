"""The adapter for Transmission 3.x and 4.x, over the RPC protocol that all of them support.

The behavior described here was observed on 3.00 and 4.1.0-beta.2. The project's docs/rpc-spec.md
describes the RPC. 4.1 also supports JSON-RPC 2.0, which is not used here.
"""

from mediabus.service.clients.transmission.session import TransmissionSettings

__all__ = ["TransmissionSettings"]
