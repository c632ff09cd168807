"""What proves to the venue who we are."""

from typing import Any

import msgspec


class Credentials(msgspec.Struct, frozen=True):
    """The CLOB API credentials of one account ("L2"; builder keys are not accepted).

    Encoded as the user feed and PolyBolt want them in the body of a message; shown as nothing at all,
    since whatever can be printed is some day logged.
    """

    api_key: str = msgspec.field(name="apiKey")
    secret: str
    passphrase: str

    def __repr__(self) -> str:
        return "Credentials(...)"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return []
