"""`mediabus backup` and `mediabus restore`: PostgreSQL and the streams of NATS in one file.

You can make a backup while mediabus runs. It copies the stream of events first, then PostgreSQL.
PostgreSQL has the events that are stored between the two, and a restore republishes them. Events
that are not stored yet are in the outbox, or in the stream and unacknowledged by the persister.
"""
