"""`polybus doctor`: looks at what lies between the gateway, the venue and NATS, and says what to do about it.

Every check is one question with a verdict, has a deadline of its own, and runs beside the others.  Nothing is changed
and no event is published: permissions are asked for, not tried.
"""

from .examination import examine
from .finding import Finding, exit_status

__all__ = ["Finding", "examine", "exit_status"]
