"""Which files a command names, on the host and through a container's volumes."""

import os
from pathlib import Path
from typing import Any

import pytest

from ai_proxy.config.models import ServiceConfig
from ai_proxy.services.weights import MIN_BYTES, weights_of


def large(path: Path, size: int = MIN_BYTES) -> Path:
    """A file that has that size and takes no room."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.truncate(size)
    return path


def names(root: Path, **keys: Any) -> list[str]:
    config = ServiceConfig.model_validate(keys)
    return [str(path.relative_to(root)) for path in weights_of("chat", config)]


@pytest.mark.parametrize(
    "keys",
    [
        {"command": "-m /models/a.gguf"},
        {"command": ["--model=/models/a.gguf"]},
        {"command": "sh -c 'exec llama-server -m /models/a.gguf --port 80'"},
        {"args": ["-m", "/models/{id}.gguf"]},
        {"command": "-m a.gguf", "working_dir": "/models"},
        {"environment": {"LLAMA_ARG_MODEL": "/models/a.gguf"}},
        {"entrypoint": ["llama-server", "-m", "/models/a.gguf"]},
    ],
    ids=["word", "flag=word", "shell", "placeholder", "relative", "environment", "entrypoint"],
)
def test_a_containers_model_is_found_through_its_volume(tmp_path: Path, keys: dict[str, Any]) -> None:
    large(tmp_path / "a.gguf")
    config = {"image": "x", "volumes": ["cache:/cache", f"{tmp_path}:/models:ro"], **keys}
    found = weights_of("a", ServiceConfig.model_validate(config))
    assert found == (tmp_path / "a.gguf",)


def test_a_path_of_the_host_means_nothing_in_a_container(tmp_path: Path) -> None:
    assert names(tmp_path, image="x", command=f"-m {large(tmp_path / 'a.gguf')}") == []


def test_a_volume_that_is_one_file_is_followed(tmp_path: Path) -> None:
    file = large(tmp_path / "a.gguf")
    assert names(tmp_path, image="x", command="-m /model.gguf", volumes=[f"{file}:/model.gguf"]) == ["a.gguf"]


def test_a_process_reads_what_it_names_from_where_it_works(tmp_path: Path) -> None:
    large(tmp_path / "a.gguf")
    large(tmp_path / "b.gguf")
    command = f"serve -m a.gguf --draft {tmp_path}/b.gguf"
    assert names(tmp_path, command=command, working_dir=str(tmp_path)) == ["a.gguf", "b.gguf"]


def test_the_shards_of_a_split_model_follow_its_first_each_once(tmp_path: Path) -> None:
    shards = [large(tmp_path / f"m-0000{n}-of-00003.gguf") for n in (1, 2, 3)]
    command = f"serve -m {shards[0]} {shards[1]}"
    assert names(tmp_path, command=command) == [shard.name for shard in shards]


def test_a_directory_counts_where_it_is_one_model(tmp_path: Path) -> None:
    large(tmp_path / "model" / "a.safetensors")
    large(tmp_path / "model" / "b.safetensors", MIN_BYTES - 1)
    large(tmp_path / "store" / "c.gguf")
    (tmp_path / "model" / "config.json").write_text("{}")
    assert names(tmp_path, command=f"serve {tmp_path}/model {tmp_path}/store") == ["model/a.safetensors"]


def test_what_is_small_or_no_regular_file_or_not_there_is_left_alone(tmp_path: Path) -> None:
    large(tmp_path / "small.gguf", MIN_BYTES - 1)
    os.mkfifo(tmp_path / "pipe")
    command = f"serve {tmp_path}/small.gguf {tmp_path}/pipe {tmp_path}/none /dev/zero --flag '' {'x' * 5000}"
    assert names(tmp_path, command=command) == []


def test_a_service_that_runs_elsewhere_names_nothing(tmp_path: Path) -> None:
    assert names(tmp_path, url="http://10.0.0.7:8000") == []
