"""Ports that services have for themselves, and the network of containers: forms, faults, what a change means."""

import pytest

from ai_proxy.config.diff import diff
from ai_proxy.config.models import Config
from tests.config.conftest import Faults, Load

FAULTS = {
    "no port": ("{listen: 127.0.0.1}", "services.a.listen: not an address and a port: '127.0.0.1'; fix: write 127"),
    "a name": ("{listen: 'gpu.example:80'}", "not an address and a port: 'gpu.example:80'"),
    "no address": ("{listen: '999.0.0.1:80'}", "not an address and a port: '999.0.0.1:80'"),
    "no such port": ("{listen: '[::1]:70000'}", "not an address and a port: '[::1]:70000'"),
    "the proxy's": ("{listen: '127.0.0.1:8000'}", "services.a.listen: the proxy listens on 127.0.0.1:8000 already"),
    "the proxy's, on all": ("{listen: '0.0.0.0:8000'}", "services.a.listen: the proxy listens on 0.0.0.0:8000 already"),
    "management's": ("{listen: 'localhost:8001'}", "services.a.listen: management listens on localhost:8001 already"),
    "another service's": ("{listen: '127.0.0.1:9'}", "services.a.listen: service first listens on 127.0.0.1:9 already"),
}  # fmt: skip


@pytest.mark.parametrize(("service", "expected"), FAULTS.values(), ids=FAULTS)
def test_a_fault_names_its_key_and_its_fix(service: str, expected: str, faults_of: Faults) -> None:
    first = "first: {url: 'http://x', listen: '0.0.0.0:9'}"
    keys = service.strip("{}")
    found = faults_of(f"management: {{port: 8001}}\nservices:\n  {first}\n  a: {{url: 'http://y', {keys}}}\n")
    assert len(found) == 1, found
    assert expected in found[0]


def test_any_free_port_may_be_asked_for_more_than_once(load_text: Load) -> None:
    config = load_text(
        "server: {port: 0}\nservices: {a: {url: 'http://x', listen: '127.0.0.1:0'}, b: {url: 'http://x', "
        "listen: '127.0.0.1:0'}, c: {url: 'http://x', listen: '127.0.0.1:8000'}}"
    )
    assert config.services["a"].listen == config.services["b"].listen is not None


def test_another_network_of_the_containers_counts_from_the_next_start() -> None:
    change = diff(Config(services={}), Config.model_validate({"services": {}, "docker": {"network": "engines"}}))
    assert change.settings == change.deferred == ("docker.network",)
