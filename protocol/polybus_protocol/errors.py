"""What can go wrong, sorted by whose fault it is."""


class PolybusError(Exception):
    """Base of all errors this package raises on purpose; its text is fit for a person to read."""


class SubjectError(PolybusError, ValueError):
    """A subject is not one of ours."""


class LocalProtocolError(PolybusError):
    """The caller asked for something the protocol does not allow; nothing was sent."""


CODES = {
    400: "the request is wrong; `field` and `message` say where and why",
    401: "the feed needs an account, and its credentials are not there; the message names the variables",
    404: "there is no such subscription, or none of that owner",
    408: "the request came after its `deadline`; nothing was done",
    409: "a subscription of that id stands, and wants something else",
    422: "a valid request that this gateway cannot serve",
    429: "too many requests of this verb are under way; `retry_after_s` says when to ask again",
    500: "the gateway failed; the message has an incident number to look for in its log",
    503: "the gateway is shutting down; `retry_after_s` says when to ask again",
}
"""The codes of a refusal, with the meaning HTTP gives them, and what each says here."""


class ControlError(PolybusError):
    """A control request cannot be served.

    Attributes:
        code: the service error code, one of `CODES`.
        field: the request's field that is to blame, or None.
        retry_after_s: seconds after which asking again makes sense (429, 503), or None.
    """

    def __init__(
        self, code: int, message: str, *, field: str | None = None, retry_after_s: float | None = None
    ) -> None:
        super().__init__(message)
        assert code in CODES, code
        self.code = code
        self.message = message
        self.field = field
        self.retry_after_s = retry_after_s
