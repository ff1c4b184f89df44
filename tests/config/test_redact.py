"""No secret leaves in a dump, and everything else does."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ai_proxy.config.models import Config
from ai_proxy.config.redact import HIDDEN, redacted


def shown(**service: object) -> dict[str, object]:
    config = Config.model_validate({"services": {"a": {"image": "x"} | service}})
    services = redacted(config)["services"]
    assert isinstance(services, dict)
    return dict(services["a"])


@given(st.text("0123456789abcdef", min_size=12, max_size=20))
def test_a_secret_is_hidden_wherever_it_stands(secret: str) -> None:
    dump = shown(
        environment={"ANY": secret},
        headers={"x-any": secret},
        command=["serve", "--api-key", secret, f"--token={secret}", f"hf_{secret}", f"Bearer {secret}"],
        labels={"api_key": secret},
    )
    assert secret not in json.dumps(dump)


@pytest.mark.parametrize("word", ["--ctx-size", "8192", "--alias", "a=b", "--max-tokens", "task-1", "{port}"])
def test_ordinary_words_stay(word: str) -> None:
    assert shown(command=["serve", word])["command"] == ["serve", word]


def test_a_flag_after_a_secret_flag_stays() -> None:
    assert shown(command=["--api-key-file", "--port", "1"])["command"] == ["--api-key-file", "--port", "1"]


def test_names_of_variables_and_the_rest_stay() -> None:
    dump = shown(environment={"HF_TOKEN": "abc"}, port=80, models=["m"])
    assert dump["environment"] == {"HF_TOKEN": HIDDEN}
    assert (dump["image"], dump["port"], dump["models"]) == ("x", 80, {"m": None})


def test_of_a_key_all_but_its_hash_is_shown() -> None:
    config = Config.model_validate({"keys": [{"name": "ops", "hash": "ab" * 32}], "services": {"a": {"image": "x"}}})
    shown_keys = redacted(config)["keys"]
    assert isinstance(shown_keys, list)
    assert (shown_keys[0]["name"], shown_keys[0]["hash"]) == ("ops", HIDDEN)
