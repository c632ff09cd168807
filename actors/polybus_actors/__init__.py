"""Actors: each owns one thing (a socket, the NATS client, the subscriptions) and has one bounded mailbox.

All names in here are internal: they change without notice.
"""
