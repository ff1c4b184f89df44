"""Who is measured: nobody in between, nginx, and ai-proxy as `ai-proxy serve` runs it; and what they relay to."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.load.processes import proxy_command

BODY = '{"id":"c","object":"chat.completion","choices":[{"index":0,"message":{"content":"' + "a" * 520 + '"}}]}'

_NGINX = """
worker_processes 1; daemon off; pid {folder}/{name}.pid; error_log {folder}/{name}.err;
events {{ worker_connections 4096; }}
http {{
  access_log {access_log}; keepalive_requests 1000000000; keepalive_timeout 600;
  client_body_temp_path {folder}/{name}; proxy_temp_path {folder}/{name};
  fastcgi_temp_path {folder}/{name}; scgi_temp_path {folder}/{name}; uwsgi_temp_path {folder}/{name};
  upstream json {{ server 127.0.0.1:{upstream}; keepalive 512; keepalive_requests 1000000000; }}
  upstream events {{ server 127.0.0.1:{events}; keepalive 1024; keepalive_requests 1000000000; }}
  server {{ listen 127.0.0.1:{port} backlog=4096; default_type application/json;
    {locations}
  }}
}}
"""
_ANSWER = "location / {{ return 200 '{body}'; }}"
_RELAY = (
    "proxy_http_version 1.1; proxy_set_header Connection ''; proxy_set_header Host $host; proxy_buffering off; "
    "location / { proxy_pass http://json; } location /events/ { proxy_pass http://events; }"
)


@dataclass(frozen=True, slots=True)
class Ports:
    """Where everybody listens."""

    upstream: int
    events: int
    nginx: int
    ai_proxy: int


@dataclass(frozen=True, slots=True)
class Contestant:
    """One way from the client to the upstream.

    Attributes:
        name: In the report.
        command: How it is run; None where there is nothing to run.
        port: Where the client connects for JSON.
        events_port: Where it connects for events.
    """

    name: str
    command: Sequence[str] | None
    port: int
    events_port: int


def upstream_command(folder: Path, ports: Ports) -> Sequence[str]:
    """An nginx that answers by itself."""
    return _nginx(folder, "upstream", ports.upstream, ports, _ANSWER.format(body=BODY), access_log="off")


def contestants(folder: Path, ports: Ports, services: int) -> list[Contestant]:
    """All of them, configured in `folder`."""
    log = str(folder / "nginx-access.log")
    nginx = _nginx(folder, "nginx", ports.nginx, ports, _RELAY, access_log=log)
    return [
        Contestant("direct", None, ports.upstream, ports.events),
        Contestant("nginx", nginx, ports.nginx, ports.nginx),
        Contestant("ai-proxy", _ai_proxy(folder, ports, services), ports.ai_proxy, ports.ai_proxy),
    ]


def _nginx(folder: Path, name: str, port: int, ports: Ports, locations: str, *, access_log: str) -> Sequence[str]:
    (folder / name).mkdir()
    config = folder / f"{name}.conf"
    where = {"port": port, "upstream": ports.upstream, "events": ports.events}
    config.write_text(_NGINX.format(folder=folder, name=name, access_log=access_log, locations=locations, **where))
    return ["nginx", "-p", str(folder), "-c", str(config)]


def _ai_proxy(folder: Path, ports: Ports, services: int) -> Sequence[str]:
    others = {f"other-{n}": {"url": f"http://127.0.0.1:{ports.upstream}"} for n in range(services - 2)}
    measured = {
        name: {"url": f"http://127.0.0.1:{port}"} for name, port in (("chat", ports.upstream), ("events", ports.events))
    }
    return proxy_command(folder, "ai-proxy", ports.ai_proxy, {**others, **measured})
