"""What can go wrong, sorted by whose fault it is."""


class PolybusError(Exception):
    """Base of all errors this package raises on purpose; its text is fit for a person to read."""


class SubjectError(PolybusError, ValueError):
    """A subject is not one of ours."""


class LocalProtocolError(PolybusError):
    """The caller asked for something the protocol does not allow; nothing was sent."""


class ControlError(PolybusError):
    """A control request cannot be served.

    Attributes:
        code: the service error code, with the meaning HTTP gives it (400, 401, 404, 408, 409, 422, 429, 503).
        field: the request's field that is to blame, or None.
        retry_after_s: seconds after which asking again makes sense (429, 503), or None.
    """

    def __init__(
        self, code: int, message: str, *, field: str | None = None, retry_after_s: float | None = None
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.field = field
        self.retry_after_s = retry_after_s
