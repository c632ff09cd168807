"""`polybus demo`: a nats-server, the simulator and a gateway as processes, and a consumer that watches and counts.

It shows that the whole way works and, in its closing summary, that nothing was lost on it.
"""

from polybus_services.demo.play import DemoOptions, Interrupted, play
from polybus_services.demo.processes import ChildFailed

__all__ = ["ChildFailed", "DemoOptions", "Interrupted", "play"]
