"""llama.cpp's `llama-server`: `/health` answers 503 while the model loads, 200 when it can serve."""

import json

from ai_proxy.config.models import EngineType
from ai_proxy.engines.profile import BusyProbe, Dialect, Profile


def _any_slot_works(body: bytes) -> bool:
    """Read `GET /slots`: a list of slots, each with `is_processing`."""
    slots = json.loads(body)
    return isinstance(slots, list) and any(isinstance(slot, dict) and slot.get("is_processing") for slot in slots)


LLAMA_CPP_SERVER = Profile(
    type=EngineType.LLAMA_CPP_SERVER,
    port=8080,
    health_path="/health",
    dialects=frozenset({Dialect.OPENAI, Dialect.ANTHROPIC}),
    busy=BusyProbe("/slots", _any_slot_works),
)
