"""vLLM's OpenAI server: `/health` answers once the engine is up, `/metrics` says how many requests run and wait.

The sleep calls exist where it runs with `--enable-sleep-mode` and `VLLM_SERVER_DEV_MODE=1`; elsewhere they answer 404.
`/health` answers 200 in sleep too.
"""

import json

from ai_proxy.config.models import EngineType, ServiceConfig
from ai_proxy.engines.profile import Call, Dialect, Profile, Question, SleepLevel

_GAUGES = (b"vllm:num_requests_running", b"vllm:num_requests_waiting")
_FLAGS = ("--enable-sleep-mode", "--enable_sleep_mode")
_DEV_MODE = "VLLM_SERVER_DEV_MODE"


def _any_request(body: bytes) -> bool:
    """Read `GET /metrics`: gauges of running and waiting requests, one line for each engine core and model."""
    lines = (line for line in body.splitlines() if line.startswith(_GAUGES))
    return any(float(line.rpartition(b" ")[2]) > 0 for line in lines)


def _is_sleeping(body: bytes) -> bool:
    """Read `GET /is_sleeping`."""
    said = json.loads(body)
    if not isinstance(said, dict) or "is_sleeping" not in said:
        raise ValueError("not a word on sleep")
    return said["is_sleeping"] is True


def has_sleep_mode(service: ServiceConfig) -> bool:
    """Whether it was started so that it can be told to sleep.

    Example:
        >>> keys = {"image": "x", "command": "--model m --enable-sleep-mode"}
        >>> has_sleep_mode(ServiceConfig.model_validate(keys))
        False
        >>> has_sleep_mode(ServiceConfig.model_validate({**keys, "environment": {"VLLM_SERVER_DEV_MODE": "1"}}))
        True
    """
    said = " ".join((*(service.entrypoint or ()), *(service.command or ()), *service.args))
    told = service.environment.get(_DEV_MODE, "0") not in {"", "0"} or f"{_DEV_MODE}=1" in said
    return told and any(flag in said for flag in _FLAGS)


_ASLEEP = Question("/is_sleeping", _is_sleeping)
_KEEPS_MB = 2560  # seen: 774 MiB on one device, 2,440 MiB on each of two

VLLM = Profile(
    type=EngineType.VLLM,
    port=8000,
    health_path="/health",
    start_timeout_s=1800,
    cpu=False,
    dialects=frozenset({Dialect.OPENAI, Dialect.ANTHROPIC}),
    busy=Question("/metrics", _any_request),
    sleep=(
        SleepLevel(
            1,
            (Call("POST", "/sleep?level=1"),),
            (Call("POST", "/wake_up"),),
            asleep=_ASLEEP,
            keeps_mb=_KEEPS_MB,
            moves=True,
        ),
        # Not by default: for some models and quantizations, the weights that it reads again are not those it had, and
        # its answers are garbage without any error.
        SleepLevel(
            2,
            (Call("POST", "/sleep?level=2"),),
            (
                Call("POST", "/wake_up?tags=weights"),
                Call("POST", "/collective_rpc", b'{"method": "reload_weights"}'),
                Call("POST", "/wake_up?tags=kv_cache"),
                Call("POST", "/reset_prefix_cache"),
            ),
            asleep=_ASLEEP,
            keeps_mb=_KEEPS_MB,
            by_default=False,
        ),
    ),
    may_sleep=has_sleep_mode,
)
