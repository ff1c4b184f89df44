"""ComfyUI: `POST /prompt` answers at once and the render goes on without an open request; its queue must be asked."""

import json

from ai_proxy.config.models import EngineType
from ai_proxy.engines.profile import BusyProbe, Call, Profile


def _any_job(body: bytes) -> bool:
    """Read `GET /queue`: two lists, running and pending."""
    queue = json.loads(body)
    return isinstance(queue, dict) and bool(queue.get("queue_running") or queue.get("queue_pending"))


COMFYUI = Profile(
    type=EngineType.COMFYUI,
    port=8188,
    health_path="/system_stats",
    dialects=frozenset(),
    busy=BusyProbe("/queue", _any_job),
    # It answers before anything is freed: only the device tells when. It loads again by itself, so nothing wakes it.
    sleep=(Call("POST", "/free", b'{"unload_models": true, "free_memory": true}'),),
)
