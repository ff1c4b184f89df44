"""Keys in a config: what an entry may say, and that no fault shows more of one than its name."""

# ruff: noqa: E501  # a table of cases reads best with one case a line

from base64 import b64encode
from hashlib import sha256

import pytest

from ai_proxy.config.keyring import Keyring, read_credentials
from ai_proxy.config.keys import KeyConfig
from tests.config.conftest import Faults, Load

HASH = sha256(b"the key").hexdigest()
SECRET = "sk-aip-not-to-be-shown"
CREATE = "fix: `ai-proxy key create NAME` makes a key and its entry"
SERVICES = "\nservices: {chat: {image: x, models: [chat, gpt-4o]}, embed: {image: x, models: ['bge-*']}}\n"
ENTRIES = {
    "a plain key for the hash": (f"{{name: a, hash: {SECRET}}}", f"keys.0.hash: not the SHA-256 of a key (64 hexadecimal digits); {CREATE}"),
    "a hash that is too short": ("{name: a, hash: abc}", "keys.0.hash: not the SHA-256 of a key"),
    "a plain key for an entry": (SECRET, f"keys.0: not an entry {{name: …, hash: …}}; {CREATE}"),
    "no hash": ("{name: a}", "keys.0.hash: this key is required"),
    "a bad name": (f"{{name: a b, hash: {HASH}}}", "keys.0.name: not a key's name; fix: use letters"),
    "an unknown model": (f"{{name: a, hash: {HASH}, models: [gpt-4]}}", "keys.0.models.0: no service offers 'gpt-4'; fix: write gpt-4o"),
    "no model": (f"{{name: a, hash: {HASH}, models: []}}", "keys.0.models: a key for no model; fix: write names"),
    "an unknown class": (f"{{name: a, hash: {HASH}, priority: hi}}", "keys.0.priority: unknown value: 'hi'"),
    "no request at once": (f"{{name: a, hash: {HASH}, max_in_flight: 0}}", "keys.0.max_in_flight: must be greater than 0"),
    "more a minute than are counted": (f"{{name: a, hash: {HASH}, requests_per_minute: 2000000}}", "must be less than or equal to 1000000"),
    "the key under a name of its own": (f"{{name: a, hash: {HASH}, key: {SECRET}}}", "keys.0.key: unknown key; fix: "),
    "a limit on management": (f"{{name: a, hash: {HASH}, management: true, may_swap: false}}", "keys.0: may_swap: without effect on a key for management alone"),
}  # fmt: skip


@pytest.mark.parametrize(("entry", "expected"), ENTRIES.values(), ids=ENTRIES.keys())
def test_a_bad_entry_gives_one_fault_that_shows_no_key(faults_of: Faults, entry: str, expected: str) -> None:
    found = faults_of(f"keys:\n  - {entry}{SERVICES}")
    assert len(found) == 1, found
    assert expected in found[0]
    assert found[0].startswith("ai-proxy.yaml:2: keys.0")
    assert SECRET not in found[0]


def test_a_lone_key_in_place_of_the_list_is_not_shown(faults_of: Faults) -> None:
    (fault,) = faults_of(f"keys: {SECRET}{SERVICES}")
    assert "keys: not a list of keys; fix: `ai-proxy key create" in fault
    assert SECRET not in fault


def test_a_key_or_a_name_that_is_there_twice_is_a_fault_however_it_is_written(faults_of: Faults) -> None:
    same = f"sha256:{HASH.upper()}"
    found = faults_of(
        f"keys: [{{name: a, hash: {HASH}}}, {{name: b, hash: '{same}'}}, {{name: a, hash: {'0' * 64}}}]{SERVICES}"
    )
    assert [line.split(": ", 1)[1] for line in found] == [
        "keys.1.hash: another key has the same hash; fix: give each its own, or remove one",
        "keys.2.name: another key has the same name; fix: give each its own, or remove one",
    ]


def test_a_key_may_name_models_services_and_patterns(load_text: Load) -> None:
    names = ["gpt-4o", "embed", "bge-m3", "of-later-*", "*"]
    config = load_text(f"keys: [{{name: a, hash: '${{H}}', models: {names}}}]{SERVICES}", {"H": f"sha256:{HASH}"})
    assert config.keys[0].models == tuple(names)
    assert config.keys[0].hash == HASH


@pytest.mark.parametrize(
    ("given", "opens"),
    [
        ({}, (True, False)),
        ({"management": True}, (False, True)),
        ({"management": True, "models": ["*"]}, (True, True)),
    ],
    ids=["a key", "for management", "for both"],
)
def test_a_key_for_management_opens_models_only_if_it_names_some(
    given: dict[str, object], opens: tuple[bool, bool]
) -> None:
    ring = Keyring([KeyConfig.model_validate({"name": "a", "hash": HASH} | given)])
    assert (ring.data, ring.management) == opens


def test_an_entry_does_not_show_its_hash() -> None:
    key = KeyConfig(name="a", hash=HASH)
    assert HASH not in repr(key) + str(key) + repr(Keyring([key]))


PRESENTED = {
    "bearer": ({b"authorization": b"Bearer the key"}, b"the key"),
    "bearer in any case": ({b"authorization": b"bEARER  k "}, b"k"),
    "anthropic's": ({b"x-api-key": b"k"}, b"k"),
    "azure's": ({b"api-key": b"k"}, b"k"),
    "basic": ({b"authorization": b"Basic " + b64encode(b"me:the:key")}, b"the:key"),
    "basic without a password": ({b"authorization": b"Basic " + b64encode(b"k:")}, b"k"),
    "basic without a colon": ({b"authorization": b"Basic " + b64encode(b"k")}, b"k"),
    "two": ({b"x-api-key": b"second", b"authorization": b"Bearer first"}, b"first"),
    "another scheme beside": ({b"x-api-key": b"k", b"authorization": b"Digest abc"}, b"k"),
    "no scheme": ({b"authorization": b"k"}, None),
    "not base64": ({b"authorization": b"Basic ***"}, None),
    "nothing in it": ({b"authorization": b"Bearer", b"x-api-key": b" "}, None),
    "another field": ({b"cookie": b"key=k"}, None),
}  # fmt: skip


@pytest.mark.parametrize(("fields", "secret"), PRESENTED.values(), ids=PRESENTED.keys())
def test_a_key_is_read_where_clients_put_it(fields: dict[bytes, bytes], secret: bytes | None) -> None:
    assert read_credentials(fields) == secret


@pytest.mark.parametrize("secret", [b"", b"the ke", b"the key ", b"\xff", HASH.encode()])
def test_what_is_not_a_key_finds_nobody(secret: bytes) -> None:
    ring = Keyring([KeyConfig(name="a", hash=HASH)])
    assert ring.find(b"the key") is not None
    assert ring.find(secret) is None
