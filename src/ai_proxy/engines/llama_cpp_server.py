"""llama.cpp's `llama-server`: `/health` answers 503 while the model loads, 200 when it can serve.

A server of one model can't be told to sleep (`--sleep-idle-seconds` is its own timer, on which nobody can wait). A
router, which is a server that was given a directory or a preset of models, unloads each of them when asked and loads it
again at the next request.
"""

import json
from typing import Any

from ai_proxy.config.models import EngineType, ServiceConfig
from ai_proxy.engines.profile import Call, Dialect, EachOf, Profile, Question, SleepLevel

_ROUTER_FLAGS = ("--models-dir", "--models-preset")
_UNLOADED = frozenset({"unloaded", "downloading"})


def _any_slot_works(body: bytes) -> bool:
    """Read `GET /slots`: a list of slots, each with `is_processing`."""
    slots = json.loads(body)
    return isinstance(slots, list) and any(isinstance(slot, dict) and slot.get("is_processing") for slot in slots)


def is_router(service: ServiceConfig) -> bool:
    """Whether it serves many models, loading and unloading them.

    Example:
        >>> is_router(ServiceConfig(image="x", args=["--models-dir", "/models"]))
        True
    """
    return any(word.startswith(_ROUTER_FLAGS) for word in (*(service.command or ()), *service.args))


def _unload_each(body: bytes) -> tuple[Call, ...]:
    r"""Read `GET /models`: an object with `data`, each with an `id` and a `status` that has a `value`.

    Example:
        >>> _unload_each(b'{"data": [{"id": "a", "status": {"value": "loaded"}}]}')[0].body
        b'{"model": "a"}'
    """
    return tuple(Call("POST", "/models/unload", json.dumps({"model": name}).encode()) for name in _loaded(body))


def _loaded(body: bytes) -> list[str]:
    models = json.loads(body)
    listed = models.get("data") if isinstance(models, dict) else None
    if not isinstance(listed, list):
        raise ValueError("not a list of models")
    return [str(model["id"]) for model in listed if isinstance(model, dict) and "id" in model and _is_loaded(model)]


def _is_loaded(model: dict[str, Any]) -> bool:
    status = model.get("status")
    return isinstance(status, dict) and status.get("value") not in _UNLOADED


LLAMA_CPP_SERVER = Profile(
    type=EngineType.LLAMA_CPP_SERVER,
    port=8080,
    health_path="/health",
    dialects=frozenset({Dialect.OPENAI, Dialect.ANTHROPIC}),
    busy=Question("/slots", _any_slot_works),
    sleep=(
        SleepLevel(1, (EachOf("/models", _unload_each),), asleep=Question("/models", lambda body: not _loaded(body))),
    ),
    may_sleep=is_router,
)
