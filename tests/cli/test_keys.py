"""Keys on the command line: made once, told by their hashes."""

import io
import sys
from hashlib import sha256
from pathlib import Path

import pytest
import yaml

from ai_proxy.config.keyring import Keyring
from ai_proxy.config.keys import KeyConfig
from tests.cli.shell import run


def entry_in(text: str) -> KeyConfig:
    """The only key in what was printed."""
    _, found, lines = text.partition("keys:\n")
    assert found
    (entry,) = yaml.safe_load(f"keys:\n{lines}")["keys"]
    return KeyConfig.model_validate(entry)


def test_a_new_key_is_shown_alone_on_standard_output_beside_an_entry_that_knows_it(tmp_path: Path) -> None:
    wishes = ("--models", "chat, gpt-*", "--no-swap", "--priority", "high", "--max-in-flight", "3")
    said = run(tmp_path, "key", "create", "ci", *wishes, "--requests-per-minute", "60")
    key, entry = said.out.strip(), entry_in(said.err)
    assert (said.status, key[:7], len(key)) == (0, "sk-aip-", 50)
    assert Keyring([entry]).find(key.encode()) is entry
    assert key not in said.err
    assert entry == KeyConfig.model_validate(
        {
            "name": "ci",
            "hash": sha256(key.encode()).hexdigest(),
            "models": ["chat", "gpt-*"],
            "may_swap": False,
            "priority": "high",
            "max_in_flight": 3,
            "requests_per_minute": 60,
        }
    )


def test_each_key_is_another(tmp_path: Path) -> None:
    assert len({run(tmp_path, "key", "create", "ops", "--management").out for _ in range(5)}) == 5


def test_a_key_of_one_s_own_is_read_from_standard_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key = b"one-that-was-there-before-and-is-long-enough"
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(key + b"\n")))
    said = run(tmp_path, "key", "hash", "old")
    assert Keyring([entry_in(said.out)]).find(key) is not None
    assert (said.status, said.err, key.decode() in said.out) == (0, "", False)


def test_a_short_key_is_warned_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"letmein")))
    assert "7 characters only: whoever reads its hash may guess it" in run(tmp_path, "key", "hash", "old").err


@pytest.mark.parametrize("given", [b"", b"two words", b"x" * 5000], ids=["nothing", "two", "too long"])
def test_what_is_no_key_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(given)))
    said = run(tmp_path, "key", "hash", "old")
    assert (said.status, said.err) == (1, "standard input holds no key: one word is wanted\n")


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("a b",), "not a key's name; use letters"),
        (("ops", "--management", "--no-swap"), "may_swap: without effect on a key for management alone"),
        (("none", "--models", ""), "a key for no model"),
    ],
    ids=["name", "limits on management", "no model"],
)
def test_an_entry_that_a_config_would_refuse_is_not_printed(tmp_path: Path, words: tuple[str, ...], why: str) -> None:
    said = run(tmp_path, "key", "create", *words)
    assert (said.status, said.out) == (1, "")
    assert said.err.startswith(why)
