"""What the engine is told of a container, and what labels give back."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ai_proxy.config.models import ServiceConfig
from ai_proxy.devices import Device, Placement, Vendor
from ai_proxy.runtimes.base import Instance, InstanceSpec
from ai_proxy.runtimes.docker.spec import create_body, instance_of, labels_of
from ai_proxy.runtimes.docker.state import ContainerState, cause_of, read_state

GPU = Device("0", "GPU-a", 24576, "RTX 4090")


def spec_of(placement: Placement | None = None, **keys: Any) -> InstanceSpec:
    config = ServiceConfig(**{"image": "x", **keys})
    return InstanceSpec(service="chat", config=config, placement=placement or Placement(), spec_hash="h")


def body_of(placement: Placement | None = None, *, publish: bool = False, **keys: Any) -> dict[str, Any]:
    return create_body(spec_of(placement, **keys), {"ai-proxy.name": "home"}, 8080, network="bridge", publish=publish)


def running(labels: dict[str, str], **changes: Any) -> ContainerState:
    network = {"Networks": {"bridge": {"IPAddress": "172.17.0.2"}}}
    answer = {"Id": "c1", "Name": "/n", "State": {"Status": "running"}, "Config": {"Labels": labels}}
    return read_state({**answer, "NetworkSettings": network, **changes})


def test_a_bare_service_leaves_the_image_as_it_is() -> None:
    assert body_of() == {
        "Image": "x",
        "Env": ["NVIDIA_VISIBLE_DEVICES=void"],
        "Labels": {"ai-proxy.name": "home"},
        "StopTimeout": 30,
        "HostConfig": {
            "NetworkMode": "bridge",
            "RestartPolicy": {"Name": "no"},
            "AutoRemove": False,
            "LogConfig": {"Type": "json-file", "Config": {"max-size": "50m", "max-file": "2"}},
        },
    }


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"shm_size": "8g"}, {"ShmSize": 8 << 30}),
        ({"ipc": "host"}, {"IpcMode": "host"}),
        ({"mem_limit": "16g"}, {"Memory": 16 << 30}),
        ({"cpus": 1.5}, {"NanoCpus": 1_500_000_000}),
        ({"extra_hosts": ["db:10.0.0.5"]}, {"ExtraHosts": ["db:10.0.0.5"]}),
        ({"cap_add": ["SYS_NICE"]}, {"CapAdd": ["SYS_NICE"]}),
        ({"security_opt": ["seccomp=unconfined"]}, {"SecurityOpt": ["seccomp=unconfined"]}),
        (
            {"ulimits": {"memlock": -1, "nofile": {"soft": 1, "hard": 2}}},
            {"Ulimits": [{"Name": "memlock", "Soft": -1, "Hard": -1}, {"Name": "nofile", "Soft": 1, "Hard": 2}]},
        ),
        (
            {"volumes": ["/srv/models:/models:ro", "cache:/cache"]},
            {
                "Mounts": [
                    {"Type": "bind", "Source": "/srv/models", "Target": "/models", "ReadOnly": True},
                    {"Type": "volume", "Source": "cache", "Target": "/cache", "ReadOnly": False},
                ]
            },
        ),
    ],
)
def test_container_keys_mean_what_they_mean_in_compose(keys: dict[str, Any], expected: dict[str, Any]) -> None:
    host = body_of(**keys)["HostConfig"]
    assert {key: host[key] for key in expected} == expected


def test_program_user_and_folder_replace_the_images() -> None:
    body = body_of(command="-m x", entrypoint=["/bin/server"], user="1000:1000", working_dir="/app")
    told = {key: body[key] for key in ("Cmd", "Entrypoint", "User", "WorkingDir")}
    assert told == {"Cmd": ["-m", "x"], "Entrypoint": ["/bin/server"], "User": "1000:1000", "WorkingDir": "/app"}


def test_an_empty_entrypoint_is_an_entrypoint() -> None:
    assert body_of(entrypoint=[])["Entrypoint"] == []


def test_placeholders_are_filled_in_command_args_and_environment() -> None:
    body = body_of(
        Placement((GPU, GPU), vram_mb=12288),
        command="--port {port} --tp {gpu_count} {json}",
        args=["{vram_fraction}", "{size}"],
        vars={"size": "7b"},
        environment={"ID": "{id}"},
    )
    assert body["Cmd"] == ["--port", "8080", "--tp", "2", "{json}", "0.5", "7b"]
    assert body["Env"] == ["ID=chat"]


def test_gpus_are_asked_for_by_uuid() -> None:
    requests = body_of(Placement((GPU,)))["HostConfig"]["DeviceRequests"]
    assert requests == [{"Driver": "nvidia", "DeviceIDs": ["GPU-a"], "Capabilities": [["gpu"]]}]


def test_amds_gpus_come_with_their_device_files_and_by_name() -> None:
    amd = Device("amd0", "GPU-7c2b", 24560, vendor=Vendor.AMD), Device("amd1", "0000:0b:00.0", 12272, vendor=Vendor.AMD)
    body = body_of(Placement(amd))
    assert body["Env"] == ["ROCR_VISIBLE_DEVICES=GPU-7c2b,1", "NVIDIA_VISIBLE_DEVICES=void"]
    assert [device["PathOnHost"] for device in body["HostConfig"]["Devices"]] == ["/dev/kfd", "/dev/dri"]
    assert "DeviceRequests" not in body["HostConfig"]


def test_a_port_is_published_on_loopback_only_when_it_must_be() -> None:
    body = body_of(publish=True)
    assert body["ExposedPorts"] == {"8080/tcp": {}}
    assert body["HostConfig"]["PortBindings"] == {"8080/tcp": [{"HostIp": "127.0.0.1", "HostPort": ""}]}


def test_our_labels_win_over_the_users() -> None:
    assert body_of(labels={"team": "ml", "ai-proxy.name": "other"})["Labels"] == {"team": "ml", "ai-proxy.name": "home"}


devices = st.builds(Device, st.text(), st.text(), st.integers(1, 10**6), st.text(), st.sampled_from(Vendor))
custom = st.dictionaries(st.text(), st.integers(1, 10**6)).map(lambda it: tuple(it.items()))
sizes = st.integers(0, 10**6)
placements = st.builds(Placement, st.lists(devices).map(tuple), sizes, sizes, custom)


@given(placements, st.integers(0, 9), st.integers(1, 65535))
def test_labels_alone_rebuild_the_instance(placement: Placement, replica: int, port: int) -> None:
    config = ServiceConfig(image="x")
    spec = InstanceSpec(service="chat", config=config, placement=placement, spec_hash="h", replica=replica)
    expected = Instance("c1", "chat", "172.17.0.2", port, placement, "h", replica)
    assert instance_of(running(labels_of("home", spec, port, "s"))) == expected


@pytest.mark.parametrize("broken", ["replica", "port", "devices", "reserved-vram-mb", "service"])
def test_labels_that_can_not_be_read_give_no_instance(broken: str) -> None:
    labels = labels_of("home", spec_of(), 8080, "s")
    missing = {name: value for name, value in labels.items() if name != f"ai-proxy.{broken}"}
    assert instance_of(running(missing)) is None
    if broken != "service":
        assert instance_of(running(labels | {f"ai-proxy.{broken}": "?"})) is None


def test_a_published_port_comes_before_the_address_and_no_address_is_no_instance() -> None:
    labels = labels_of("home", spec_of(), 8080, "s")
    published = {"Ports": {"8080/tcp": [{"HostIp": "127.0.0.1", "HostPort": "49153"}], "9/tcp": None}}
    instance = instance_of(running(labels, NetworkSettings=published))
    assert instance is not None
    assert (instance.host, instance.port) == ("127.0.0.1", 49153)
    assert instance_of(running(labels, NetworkSettings={"Networks": None})) is None


@pytest.mark.parametrize(
    ("reason", "cause"),
    [
        ("Bind for 0.0.0.0:80 failed: port is already allocated", "a port is taken on the host"),
        ("device error: 7: unknown device", "does not know a device"),
        ("something new", "the Docker engine refused: something new"),
    ],
)
def test_refusals_are_said_in_words(reason: str, cause: str) -> None:
    assert cause in cause_of(reason)
