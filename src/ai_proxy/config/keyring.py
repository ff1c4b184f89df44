"""How a key is presented on a request, and whose it is.

Pure. Keys are 256 random bits, so that one SHA-256 hides them well enough and finding one is a look-up by digest; the
comparison after it takes the same time whatever differs. Query parameters are never read: they end up in logs.
"""

import hashlib
from base64 import b64decode
from binascii import Error as NotBase64
from collections.abc import Iterable, Mapping
from hmac import compare_digest
from typing import Final

from ai_proxy.config.keys import KeyConfig

CREDENTIAL_FIELDS: Final = (b"authorization", b"x-api-key", b"api-key")
"""The fields in which a key may come, in the order in which they count."""


def read_credentials(fields: Mapping[bytes, bytes]) -> bytes | None:
    """Find the key that a request presents.

    Args:
        fields: The request's fields, names in lower case.

    Returns:
        The first there is of `Authorization: Bearer`, the password of `Authorization: Basic` (the user name where that
        is empty), `x-api-key` and `api-key`; None where there is none.

    Example:
        >>> read_credentials({b"authorization": b"Bearer k"}), read_credentials({b"x-api-key": b"k"})
        (b'k', b'k')
        >>> read_credentials({b"authorization": b"Basic dXNlcjpr"})
        b'k'
    """
    for name in CREDENTIAL_FIELDS:
        value = fields.get(name)
        if value is not None and (secret := secret_of(name, value)) is not None:
            return secret
    return None


def secret_of(name: bytes, value: bytes) -> bytes | None:
    """Read the key out of one of `CREDENTIAL_FIELDS`; None where it has none."""
    if name != b"authorization":
        return value.strip() or None
    scheme, _, rest = value.strip().partition(b" ")
    rest = rest.strip()
    match scheme.lower():
        case b"bearer":
            return rest or None
        case b"basic":
            return _password(rest)
        case _:
            return None


def _password(encoded: bytes) -> bytes | None:
    try:
        user, _, password = b64decode(encoded, validate=True).partition(b":")
    except NotBase64:
        return None
    return password or user or None


class Keyring:
    """The keys of a config; immutable.

    Args:
        keys: They, no two with one hash.
    """

    def __init__(self, keys: Iterable[KeyConfig]) -> None:
        self._by_digest = {bytes.fromhex(key.hash): key for key in keys}
        held = self._by_digest.values()
        self.data = any(key.opens_models for key in held)
        """Whether the data plane is for those with a key only."""
        self.management = any(key.management for key in held)
        """Whether management is for those with a key only."""

    def __repr__(self) -> str:
        return f"<Keyring of {len(self._by_digest)}>"

    def find(self, secret: bytes) -> KeyConfig | None:
        """Find whose key this is.

        Example:
            >>> key = KeyConfig(name="ops", hash=hashlib.sha256(b"k").hexdigest())
            >>> Keyring([key]).find(b"k").name, Keyring([key]).find(b"x")
            ('ops', None)
        """
        digest = hashlib.sha256(secret).digest()
        key = self._by_digest.get(digest)
        if key is None or not compare_digest(bytes.fromhex(key.hash), digest):
            return None
        return key
