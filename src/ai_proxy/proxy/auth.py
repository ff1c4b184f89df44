"""Who may use the data plane, for what, and how much: keys as requests present them, and what is in use of each.

A few dict look-ups a request, no await. What a key has in use lives as long as the key stays in the
config, over all reloads. How a refusal looks is `replies`' business; no message shows more of a key than its name.
"""

from collections import deque
from collections.abc import Mapping, Sequence
from typing import Final

from ai_proxy.config.keyring import CREDENTIAL_FIELDS, Keyring, secret_of
from ai_proxy.config.keys import KeyConfig
from ai_proxy.config.naming import LONGEST_MATCHED, pattern_of
from ai_proxy.errors import (
    Forbidden,
    MalformedRequest,
    ProxyError,
    RateLimited,
    Unauthorized,
    UnknownModel,
    UnknownPath,
)
from ai_proxy.metrics import CLIENT_CLOSED_REQUEST, KeyUse
from ai_proxy.routing.nearest import shown

type Headers = Sequence[tuple[bytes, bytes]]

_MISSING: Final = "an API key is needed: send `Authorization: Bearer KEY`, or the key as `x-api-key`"
_WRONG: Final = "the API key is not one of those that this proxy knows"
_KNOWN_KEPT: Final = 1024
_MINUTE_S: Final = 60.0
_BUSY_RETRY_S: Final = 1.0


class Holder:
    """Whoever holds a key, as far as the data plane is concerned.

    Args:
        key: The key.

    Attributes:
        key: The key, as the config has it now.
        name: By which logs and lists speak of it.
        priority: Rank of its requests' class; None: that of the service.
        may_swap: A service may be started, and others be made to leave, for its sake.
        opens_all: It may use every model.
        in_flight: Its requests in the house.
        responses: Its requests that ended, by the hundreds of their status.
    """

    def __init__(self, key: KeyConfig) -> None:
        self._arrivals: deque[float] = deque()
        self.in_flight = 0
        self.responses = [0] * 10
        self.configure(key)

    def __repr__(self) -> str:
        return f"<Holder of {self.name}: {self.in_flight} in flight>"

    def configure(self, key: KeyConfig) -> None:
        """Go by another entry for the same key; what is in use stays in use."""
        names = key.models
        self.key = key
        self.name = key.name
        self.priority = None if key.priority is None else key.priority.rank
        self.may_swap = key.may_swap
        self.opens_all = names is None
        self._opens_models = key.opens_models
        self._exact = None if names is None else frozenset(name for name in names if "*" not in name)
        self._patterns = tuple(pattern_of(name).match for name in names or () if "*" in name)
        self._most_in_flight = key.max_in_flight
        self._arrivals = deque(self._arrivals, key.requests_per_minute or 0)

    def allows(self, name: str) -> bool:
        """Whether it may use what a client calls so."""
        if self._exact is None or name in self._exact:
            return True
        return len(name) <= LONGEST_MATCHED and any(match(name) for match in self._patterns)

    def require(self, name: str) -> None:
        """Let it use what a client calls so.

        Raises:
            Forbidden: It may not.
        """
        if not self.allows(name):
            raise Forbidden(
                f"the key {self.name!r} does not open {shown(name)}; GET /v1/models lists what it opens", param="model"
            )

    def discreet(self, error: ProxyError) -> ProxyError:
        """An error as its holder may see it: advice that names what others may use becomes plain."""
        if self.opens_all or not isinstance(error, UnknownModel | UnknownPath):
            return error
        return type(error)("there is nothing of that name; GET /v1/models lists what your key opens", param=error.param)

    def enter(self, now: float) -> None:
        """Count a request in; whoever did that counts it out again.

        Args:
            now: Monotonic seconds.

        Raises:
            Forbidden: The key is for management alone.
            RateLimited: It has as many in flight, or had as many within a minute, as it may.
        """
        if not self._opens_models:
            raise self._counted(Forbidden(f"the key {self.name!r} opens the management API alone"))
        if self._most_in_flight is not None and self.in_flight >= self._most_in_flight:
            message = f"the key {self.name!r} has {self.in_flight} requests in flight, as many as it may"
            raise self._counted(RateLimited(message, retry_after_s=_BUSY_RETRY_S))
        arrivals = self._arrivals
        if arrivals.maxlen:
            if len(arrivals) == arrivals.maxlen and (rest_s := arrivals[0] + _MINUTE_S - now) > 0:
                message = f"the key {self.name!r} had {arrivals.maxlen} requests within a minute, as many as it may"
                raise self._counted(RateLimited(message, retry_after_s=rest_s))
            arrivals.append(now)
        self.in_flight += 1

    def leave(self, status: int) -> None:
        """Count a request out that was counted in.

        Args:
            status: What its client was told; 0 if it left before.
        """
        self.in_flight -= 1
        self.responses[(status or CLIENT_CLOSED_REQUEST) // 100] += 1

    def _counted(self, refusal: ProxyError) -> ProxyError:
        """Count a request that never came in."""
        self.responses[refusal.status // 100] += 1
        return refusal


class Auth:
    """Everybody who has a key.

    Args:
        keys: The config's.

    Attributes:
        is_on: There are keys; else `find` need not be called.
    """

    def __init__(self, keys: Sequence[KeyConfig]) -> None:
        self._holders: dict[str, Holder] = {}
        self.configure(keys)

    def __repr__(self) -> str:
        return f"<Auth of {len(self._holders)} keys>"

    def configure(self, keys: Sequence[KeyConfig]) -> None:
        """Go by other keys; what is in use of one that stays, under its name, is still in use."""
        former = self._holders
        self._keyring = Keyring(keys)
        self._holders = {}
        self._known: dict[tuple[bytes, bytes], Holder] = {}
        for key in keys:
            holder = former.get(key.name)
            if holder is None or holder.key.hash != key.hash:
                holder = Holder(key)
            else:
                holder.configure(key)
            self._holders[key.name] = holder
        self._is_open = not self._keyring.data
        self.is_on = bool(keys)

    def find(self, fields: Mapping[bytes, bytes], headers: Headers) -> tuple[Holder | None, frozenset[bytes]]:
        """Find out who asks.

        A client may bring a key for an upstream beside its own: the first that is known counts, others are let be.

        Args:
            fields: The request's fields, names in lower case.
            headers: The same as a list, duplicates among them.

        Returns:
            Who asks (None where no key is needed), and the names of the fields with a key of this proxy's, which are
            not to go upstream.

        Raises:
            Unauthorized: No key, or none that is known.
            MalformedRequest: Two fields of one name claim to have the key.
        """
        holder: Holder | None = None
        withheld = []
        is_given = False
        for name in CREDENTIAL_FIELDS:
            value = fields.get(name)
            if value is not None:
                is_given = True
                found = self._known.get((name, value)) or self._find(name, value)
                if found is not None:
                    withheld.append(name)
                    holder = holder or found
        if len(fields) != len(headers):
            _refuse_repeated(headers)
        if self._is_open:
            return None, frozenset(withheld)
        if holder is None:
            raise Unauthorized(_WRONG if is_given else _MISSING)
        return holder, frozenset(withheld)

    def uses(self) -> dict[str, KeyUse]:
        """What came with each key, by its name; nothing of those that were not used."""
        return {
            name: KeyUse(tuple(holder.responses), holder.in_flight)
            for name, holder in self._holders.items()
            if holder.in_flight or any(holder.responses)
        }

    def _find(self, name: bytes, value: bytes) -> Holder | None:
        """Look a field up that was not seen before; remembered only if it is right, so that no stranger fills it."""
        secret = secret_of(name, value)
        key = None if secret is None else self._keyring.find(secret)
        if key is None:
            return None
        if len(self._known) >= _KNOWN_KEPT:
            self._known.clear()
        holder = self._known[name, value] = self._holders[key.name]
        return holder


def _refuse_repeated(headers: Headers) -> None:
    """The second of two would go upstream unseen."""
    names = [name for name, _ in headers]
    for name in CREDENTIAL_FIELDS:
        if names.count(name) > 1:
            raise MalformedRequest(f"the request has more than one field {name.decode().title()}")
