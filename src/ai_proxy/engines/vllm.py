"""vLLM's OpenAI server: `/health` answers once the engine is up, `/metrics` says how many requests run and wait.

The sleep calls exist where it runs with `--enable-sleep-mode` and `VLLM_SERVER_DEV_MODE=1`; elsewhere they answer 404.
"""

from ai_proxy.config.models import EngineType
from ai_proxy.engines.profile import BusyProbe, Call, Dialect, Profile

_GAUGES = (b"vllm:num_requests_running", b"vllm:num_requests_waiting")


def _any_request(body: bytes) -> bool:
    """Read `GET /metrics`: gauges of running and waiting requests, one line for each engine core and model."""
    lines = (line for line in body.splitlines() if line.startswith(_GAUGES))
    return any(float(line.rpartition(b" ")[2]) > 0 for line in lines)


VLLM = Profile(
    type=EngineType.VLLM,
    port=8000,
    health_path="/health",
    start_timeout_s=1800,
    cpu=False,
    dialects=frozenset({Dialect.OPENAI, Dialect.ANTHROPIC}),
    busy=BusyProbe("/metrics", _any_request),
    sleep=(Call("POST", "/sleep?level=1"),),
    wake=(Call("POST", "/wake_up"),),
)
