"""Keys of NATS users, and what a server needs to know of them: nkeys, and JWTs as an operator signs them."""

import base64
import hashlib
import json
import os
from typing import Any

import nkeys


class Key:
    """One nkey: of 32 bytes that are given, or that nobody has had yet."""

    def __init__(self, prefix: int = nkeys.PREFIX_BYTE_USER, raw: bytes | None = None) -> None:
        self.seed = nkeys.encode_seed(raw or os.urandom(32), prefix).decode()  # type: ignore[no-untyped-call]
        self._pair = nkeys.from_seed(bytearray(self.seed, "ascii"))  # type: ignore[no-untyped-call]
        self.public: str = bytes(self._pair.public_key).decode()

    def sign(self, subject: str, name: str, claims: dict[str, Any]) -> str:
        """A JWT about `subject`, issued by this key."""
        body = {"iat": 1, "iss": self.public, "name": name, "sub": subject, "nats": {"version": 2, **claims}}
        digest = hashlib.sha256(json.dumps(body).encode()).digest()
        body["jti"] = base64.b32encode(digest).decode().rstrip("=")
        signed = f"{_encoded({'typ': 'JWT', 'alg': 'ed25519-nkey'})}.{_encoded(body)}"
        return f"{signed}.{_base64(self._pair.sign(signed.encode()))}"


class Operator:
    """An operator with one account, whose users log in with credentials files."""

    def __init__(self) -> None:
        self._key = Key(nkeys.PREFIX_BYTE_OPERATOR)
        self._account = Key(nkeys.PREFIX_BYTE_ACCOUNT)

    @property
    def config(self) -> str:
        """What the server is told."""
        unlimited = {
            "subs": -1,
            "data": -1,
            "payload": -1,
            "imports": -1,
            "exports": -1,
            "conn": -1,
            "leaf": -1,
        }
        operator = self._key.sign(self._key.public, "op", {"type": "operator"})
        account = self._key.sign(self._account.public, "acc", {"type": "account", "limits": unlimited})
        return (
            f"operator: {operator}\nresolver: MEMORY\n"
            f"resolver_preload: {{ {self._account.public}: {account} }}\n"
        )

    def creds(self) -> str:
        """The credentials file of a new user."""
        user = Key()
        jwt = self._account.sign(user.public, "user", {"type": "user", "subs": -1, "data": -1, "payload": -1})
        return creds_of(jwt, user.seed)


def creds_of(jwt: str, seed: str) -> str:
    """A credentials file."""
    return (
        f"-----BEGIN NATS USER JWT-----\n{jwt}\n------END NATS USER JWT------\n\n"
        "************************* IMPORTANT *************************\n"
        "  NKEY Seed printed below can be used to sign and prove identity.\n\n"
        f"-----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n\n"
    )


def _encoded(body: dict[str, Any]) -> str:
    return _base64(json.dumps(body).encode())


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")
