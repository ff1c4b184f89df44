"""ComfyUI: `POST /prompt` answers at once and the render goes on without an open request; its queue must be asked."""

import json

from ai_proxy.config.models import EngineType
from ai_proxy.engines.profile import Call, Profile, Question, SleepLevel


def _any_job(body: bytes) -> bool:
    """Read `GET /queue`: two lists, running and pending."""
    queue = json.loads(body)
    return isinstance(queue, dict) and bool(queue.get("queue_running") or queue.get("queue_pending"))


COMFYUI = Profile(
    type=EngineType.COMFYUI,
    port=8188,
    health_path="/system_stats",
    dialects=frozenset(),
    busy=Question("/queue", _any_job),
    # It answers before anything is freed, so only the device tells when. The next prompt loads again what it needs.
    sleep=(SleepLevel(1, (Call("POST", "/free", b'{"unload_models": true, "free_memory": true}'),), keeps_mb=512),),
)
