"""The keys of the management plane and of CORS: their forms, their faults, what a change of them means."""

import pytest

from ai_proxy.config.diff import diff
from ai_proxy.config.models import Config
from tests.config.conftest import Faults

FAULTS = {
    "a host without a port": ("management: {host: 10.0.0.7}", "management: a host without a port; fix: add port"),
    "no port": ("management: {port: 70000}", "management.port: must be less than or equal to 65535"),
    "a scheme": (
        "management: {allowed_hosts: ['https://ai']}",
        "not a host's name: 'https://ai'; fix: write ai.example",
    ),
    "a wildcard": ("management: {allowed_hosts: ['*']}", "management.allowed_hosts.0: not a host's name: '*'"),
    "a host's port": ("management: {allowed_hosts: ['ai:80']}", "not a host's name: 'ai:80'"),
    "a path": (
        "management: {trusted_origins: ['https://ops/x']}",
        "not an origin: 'https://ops/x'; fix: write https://",
    ),
    "any page": ("management: {trusted_origins: ['*']}", "management.trusted_origins.0: not an origin: '*'"),
    "sandboxed pages": ("server: {cors: {allow_origins: ['null']}}", '"null" is the origin of every sandboxed page'),
    "no origin": ("server: {cors: {allow_origins: [chat.example]}}", "server.cors.allow_origins.0: not an origin"),
    "no field": ("server: {cors: {allow_origins: '*', allow_headers: ['a b']}}", "server.cors.allow_headers.0: "),
    "open to nobody": (
        "server: {cors: {allow_headers: [x-a]}}",
        "without effect while no origin is allowed; fix: add allow_ori",
    ),
    "the proxy's port": (
        "management: {port: 8000}",
        "management.port: the proxy listens on port 8000 already; fix: choose another, or remove it",
    ),
    "the proxy's port, on all": (
        "server: {host: 0.0.0.0, port: 9}\nmanagement: {port: 9}",
        "management.port: the proxy listens on port 9 already",
    ),
    "another place": ("cors: {}", "cors: unknown key; fix: move it to server.cors"),
}


@pytest.mark.parametrize(("text", "expected"), FAULTS.values(), ids=FAULTS)
def test_a_fault_names_its_key_and_its_fix(text: str, expected: str, faults_of: Faults) -> None:
    assert expected in "\n".join(faults_of(text + "\nservices: {a: {image: x}}"))


def test_hosts_and_origins_are_compared_as_browsers_write_them() -> None:
    config = Config.model_validate({
        "management": {"allowed_hosts": "AI.example.com", "trusted_origins": ["HTTPS://Ops.example:443"]},
        "services": {},
    })  # fmt: skip

    assert config.management.allowed_hosts == ("ai.example.com",)
    assert config.management.trusted_origins == ("https://ops.example",)


def test_another_listener_counts_from_the_next_start_who_may_come_at_once() -> None:
    old = Config.model_validate({"services": {}})
    new = Config.model_validate({"management": {"port": 8001, "allowed_hosts": ["ai"]}, "services": {}})

    change = diff(old, new)

    assert change.settings == ("management.allowed_hosts", "management.port")
    assert change.deferred == ("management.port",)
