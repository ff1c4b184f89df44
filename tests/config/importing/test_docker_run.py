"""`docker run` in a command becomes the keys of a container."""

from typing import Any

import pytest

from ai_proxy.config.models import EngineType
from tests.config.importing.conftest import Import

IMAGE = "ghcr.io/ggml-org/llama.cpp:server-cuda"


def run(flags: str, *, proxy: str = "http://localhost:${PORT}", command: str = "-m /x.gguf") -> str:
    return f"""
models:
  m:
    proxy: {proxy}
    cmd: |
      docker run {flags}
        {IMAGE} {command}
"""


def test_the_image_its_words_and_the_engine_in_it(imported: Import) -> None:
    service = imported(run("--rm --init -d --name m")).service
    assert (service.image, service.command, service.type) == (
        IMAGE,
        ("-m", "/x.gguf"),
        EngineType.LLAMA_CPP_SERVER,
    )


@pytest.mark.parametrize("program", ["docker run", "sudo /usr/bin/docker run", "docker container run", "podman run"])
def test_it_is_known_however_it_is_called(program: str, imported: Import) -> None:
    assert imported(f"models: {{m: {{cmd: {program} -it --rm {IMAGE}}}}}").service.image == IMAGE


@pytest.mark.parametrize(
    ("flags", "key", "value"),
    [
        ("-v /m:/models:ro,z --volume=hf:/c", "volumes", ("/m:/models:ro", "hf:/c")),
        ("--mount type=bind,src=/m,dst=/models,readonly", "volumes", ("/m:/models:ro",)),
        ("-e A=1 --env B=x=y", "environment", {"A": "1", "B": "x=y"}),
        ("-eA=1", "environment", {"A": "1"}),
        ("--ipc=host", "ipc", "host"),
        ("--shm-size 8g", "shm_size", 8 << 30),
        ("--entrypoint /app/serve", "entrypoint", ("/app/serve",)),
        ("-u 1000:1000", "user", "1000:1000"),
        ("--workdir /app", "working_dir", "/app"),
        ("--add-host db:10.0.0.5", "extra_hosts", ("db:10.0.0.5",)),
        ("--cap-add SYS_NICE --cap-add=IPC_LOCK", "cap_add", ("SYS_NICE", "IPC_LOCK")),
        ("--security-opt seccomp=unconfined", "security_opt", ("seccomp=unconfined",)),
        ("-l team=ml", "labels", {"team": "ml"}),
        ("-m 16g", "mem_limit", 16 << 30),
        ("--cpus 1.5", "cpus", 1.5),
        ("--pull always", "pull_policy", "always"),
        ("--stop-timeout 90", "stop_grace_period", 90),
        ("--net backend", "networks", ("backend",)),
        ("--rm=false -dit --restart unless-stopped", "networks", ()),
    ],
)
def test_a_flag_is_a_key(flags: str, key: str, value: Any, imported: Import) -> None:
    assert getattr(imported(run(flags)).service, key) == value


def test_limits_keep_soft_and_hard(imported: Import) -> None:
    limits = imported(run("--ulimit memlock=-1 --ulimit nofile=1024:2048")).service.ulimits
    nofile: Any = limits["nofile"]
    assert limits["memlock"] == -1
    assert (nofile.soft, nofile.hard) == (1024, 2048)


@pytest.mark.parametrize(
    ("flags", "gpus"),
    [
        ("--gpus 2", 2),
        ("--gpus device=1", ("1",)),
        ("--gpus '\"device=0,2\"'", ("0", "2")),
        ("--device nvidia.com/gpu=0 --device nvidia.com/gpu=1", ("0", "1")),
        ("--runtime nvidia -e NVIDIA_VISIBLE_DEVICES=1", ("1",)),
        ("--gpus all", None),
        ("--device /dev/kfd --device /dev/dri", None),
    ],
)
def test_its_gpus_are_ours_to_give(flags: str, gpus: int | tuple[str, ...] | None, imported: Import) -> None:
    result = imported(run(flags))
    assert result.service.resources.gpus == gpus
    assert result.service.environment == {}
    assert result.left == []


def test_that_all_gpus_become_one_is_said(imported: Import) -> None:
    assert "# --gpus all there; here it gets one GPU unless" in imported(run("--gpus all")).text


@pytest.mark.parametrize(
    ("flags", "proxy", "port"),
    [
        ("-p ${PORT}:8080", "http://localhost:${PORT}", 8080),
        ("-p 127.0.0.1:9503:8000/tcp", "http://127.0.0.1:9503", 8000),
        ("-p 1:2 -p 9503:8000", "http://127.0.0.1:9503", 8000),
        ("-p 9503:8000", "http://m:8000", 8000),
        ("-p ${PORT}:${PORT}", "http://localhost:${PORT}", None),
        ("--network backend", "http://m:8123", 8123),
    ],
)
def test_its_port_is_the_containers(flags: str, proxy: str, port: int | None, imported: Import) -> None:
    result = imported(run(flags, proxy=proxy))
    assert (result.service.port, result.left) == (port, [])


def test_a_variable_that_is_passed_on_has_its_value_from_outside(imported: Import) -> None:
    result = imported(run("-e TOKEN -e OTHER") + "    env: [TOKEN=t, DOCKER_HOST=x]")
    assert result.service.environment == {"TOKEN": "t"}
    assert "OTHER: null" in result.text
    assert result.left == ["models.m.env: DOCKER_HOST was set for docker, not in the container; write environment"]


@pytest.mark.parametrize(
    ("flag", "said"),
    [
        ("--privileged", "--privileged has no counterpart"),
        ("--network host", "--network host is not possible"),
        ("--device /dev/video0", "--device /dev/video0 has no counterpart"),
        ("--cgroup-parent x", "--cgroup-parent x has no counterpart"),
        ("-v /data", "-v /data is a volume without a name"),
        ("--tmpfs /tmp", "--tmpfs /tmp has no counterpart"),
        ("--gpus capabilities=utility", "--gpus capabilities=utility can't be read"),
    ],
)
def test_what_has_no_counterpart_is_told(flag: str, said: str, imported: Import) -> None:
    result = imported(run(flag))
    assert [line.partition("; ")[0] for line in result.left] == [f"models.m.cmd: {said}"]
    assert result.service.image == IMAGE


def test_a_client_of_docker_that_runs_nothing_is_told(imported: Import) -> None:
    (left,) = imported("models: {m: {cmd: docker start -a m}}").left
    assert left.startswith("models.m.cmd: it only talks to Docker")
