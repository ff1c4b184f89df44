"""Where the config, the name and the state are."""

from pathlib import Path

import pytest

from ai_proxy.config.faults import ConfigError
from ai_proxy.config.models import Config
from ai_proxy.config.paths import find_config, proxy_name, state_dir

EMPTY = Config.model_validate({"services": {}})


def test_what_is_said_beats_the_environment_and_the_environment_the_places(tmp_path: Path) -> None:
    here = tmp_path / "ai-proxy.yaml"
    here.touch()
    environ = {"AI_PROXY_CONFIG": "/b.yaml"}
    assert find_config(Path("/a.yaml"), environ, tmp_path) == Path("/a.yaml")
    assert find_config(None, environ, tmp_path) == Path("/b.yaml")
    assert find_config(None, {"HOME": "/none"}, tmp_path) == here


def test_the_xdg_directory_comes_after_the_working_directory(tmp_path: Path) -> None:
    there = tmp_path / "xdg" / "ai-proxy" / "ai-proxy.yaml"
    there.parent.mkdir(parents=True)
    there.touch()
    assert find_config(None, {"XDG_CONFIG_HOME": str(tmp_path / "xdg")}, tmp_path) == there


def test_no_file_anywhere_names_every_place(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as raised:
        find_config(None, {"HOME": str(tmp_path / "home")}, tmp_path)
    message = str(raised.value)
    assert f"{tmp_path}/ai-proxy.yaml" in message
    assert f"{tmp_path}/home/.config/ai-proxy/ai-proxy.yaml" in message
    assert "give --config FILE" in message


def test_the_name_follows_the_real_path(tmp_path: Path) -> None:
    real, link = tmp_path / "a.yaml", tmp_path / "b.yaml"
    real.touch()
    link.symlink_to(real)
    assert proxy_name(real, EMPTY) == proxy_name(link, EMPTY)
    assert len(proxy_name(real, EMPTY)) == 8
    assert proxy_name(real, EMPTY) != proxy_name(tmp_path / "c.yaml", EMPTY)
    assert proxy_name(real, Config.model_validate({"services": {}, "name": "home"})) == "home"


def test_state_lives_under_the_name() -> None:
    named = Config.model_validate({"services": {}, "name": "home"})
    path = Path("/etc/a.yaml")
    assert state_dir(path, named, {"XDG_STATE_HOME": "/s"}) == Path("/s/ai-proxy/home")
    assert state_dir(path, named, {"HOME": "/h", "XDG_STATE_HOME": "relative"}) == Path("/h/.local/state/ai-proxy/home")
    said = Config.model_validate({"services": {}, "state_dir": "state"})
    assert state_dir(path, said, {}) == Path("/etc/state")
