"""`GET /v1/models` and `/v1/models/{name}`: what may be asked for, and whether it is loaded.

Answered from the config and the states as they are: listing starts nothing and waits for nothing. Pure.
"""

from collections.abc import Callable, Iterable
from typing import Any, Final

import msgspec

from ai_proxy.routing.names import ListedModel

type States = Callable[[str], str]
"""State of a service in llama.cpp's words: unloaded, loading, loaded, sleeping, failed."""

_encode: Final = msgspec.json.Encoder().encode


def model_list(models: Iterable[ListedModel], states: States) -> bytes:
    """Write the list.

    Example:
        >>> model_list([ListedModel("a", "chat")], lambda service: "loaded")[:51]
        b'{"object":"list","data":[{"id":"a","object":"model"'
    """
    return _encode({"object": "list", "data": [_entry(model.name, model.service, states) for model in models]})


def one_model(name: str, service: str, states: States) -> bytes:
    """Write one entry."""
    return _encode(_entry(name, service, states))


def _entry(name: str, service: str, states: States) -> dict[str, Any]:
    return {
        "id": name,
        "object": "model",
        "created": 0,
        "owned_by": "ai-proxy",
        "service": service,
        "status": {"value": states(service)},
    }
