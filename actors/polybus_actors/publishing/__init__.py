"""The side of NATS: one writer, a bounded backlog, the record, and what was lost on the way."""
