"""The pure core of polybus: what Polymarket says, what NATS consumers see, and nothing that does I/O."""

__version__ = "0.1.0"
