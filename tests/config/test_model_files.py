"""Which files count as models, and what they are called."""

from pathlib import Path

import pytest

from ai_proxy.config.model_files import ModelFile, fixed_part, ids, names, search


@pytest.fixture
def models(tmp_path: Path) -> Path:
    (tmp_path / "models").mkdir()
    return tmp_path / "models"


def touch(directory: Path, *files: str) -> None:
    for file in files:
        (directory / file).parent.mkdir(parents=True, exist_ok=True)
        (directory / file).touch()


def found(directory: Path, pattern: str = "*.gguf") -> list[tuple[str, str | None]]:
    return [(model.file, model.mmproj) for model in search(f"{directory}/{pattern}").models]


def test_every_file_is_a_model(models: Path) -> None:
    touch(models, "b.gguf", "a.gguf", "readme.md")
    assert found(models) == [("a.gguf", None), ("b.gguf", None)]


def test_directories_and_hidden_places_are_none(models: Path) -> None:
    touch(models, "dir.gguf/x.bin", ".cache/half.gguf", ".hidden.gguf")
    assert found(models) == []
    assert found(models, "**/*.gguf") == []


def test_a_link_to_a_file_is_a_model_under_its_own_name(models: Path) -> None:
    touch(models.parent, "blobs/5f3a")
    (models / "qwen.gguf").symlink_to("../blobs/5f3a")
    (models / "gone.gguf").symlink_to("../blobs/none")
    assert found(models) == [("qwen.gguf", None)]


def test_shards_are_one_model_by_their_first(models: Path) -> None:
    touch(models, "big-00001-of-00003.gguf", "big-00002-of-00003.gguf", "big-00003-of-00003.gguf")
    assert found(models) == [("big-00001-of-00003.gguf", None)]
    assert search(f"{models}/*.gguf").models[0].name == "big"


def test_a_pattern_may_name_the_first_shard_alone(models: Path) -> None:
    touch(models, "big-00001-of-00002.gguf", "big-00002-of-00002.gguf")
    assert found(models, "*-00001-of-*.gguf") == [("big-00001-of-00002.gguf", None)]


@pytest.mark.parametrize("there", [("00001", "00003"), ("00002", "00003"), ("00002",)])
def test_shards_that_are_not_all_there_are_no_model(models: Path, there: tuple[str, ...]) -> None:
    touch(models, *(f"big-{number}-of-00003.gguf" for number in there))
    result = search(f"{models}/*.gguf")
    assert result.models == ()
    assert len(result.incomplete) == 1
    assert "more of its shards" in result.incomplete[0]


def test_what_is_seen_from_the_fixed_part_fits_a_mount_of_it(models: Path) -> None:
    touch(models, "qwen/7b.gguf", "qwen/deep/er.gguf")
    assert found(models, "*/*.gguf") == [("qwen/7b.gguf", None)]
    assert found(models, "**/*.gguf") == [("qwen/7b.gguf", None), ("qwen/deep/er.gguf", None)]
    assert fixed_part(f"{models}/*/*.gguf") == models
    assert fixed_part(f"{models}/only.gguf") == models


@pytest.mark.parametrize(
    "projector",
    [
        "mmproj-gemma-3-12b-it-f16.gguf",
        "mmproj-gemma-3-12b-it.gguf",
        "gemma-3-12b-it-mmproj-BF16.gguf",
        "gemma-3-12b-it.mmproj-Q8_0.gguf",
    ],
)
def test_a_projector_goes_to_every_quantisation_of_the_model_in_its_name(models: Path, projector: str) -> None:
    touch(models, projector, "gemma-3-12b-it-Q4_K_M.gguf", "gemma-3-12b-it-UD-IQ4_XS.gguf", "qwen-Q4_K_M.gguf")
    assert found(models) == [
        ("gemma-3-12b-it-Q4_K_M.gguf", projector),
        ("gemma-3-12b-it-UD-IQ4_XS.gguf", projector),
        ("qwen-Q4_K_M.gguf", None),
    ]


@pytest.mark.parametrize("projector", ["mmproj-F16.gguf", "mmproj-model-f16.gguf"])
def test_a_projector_that_names_no_model_goes_to_the_only_one_beside_it(models: Path, projector: str) -> None:
    touch(models, f"g/{projector}", "g/gemma-Q4_0.gguf", "g/gemma-Q8_0.gguf", "q/qwen.gguf")
    assert found(models, "*/*.gguf") == [
        ("g/gemma-Q4_0.gguf", f"g/{projector}"),
        ("g/gemma-Q8_0.gguf", f"g/{projector}"),
        ("q/qwen.gguf", None),
    ]


def test_a_projector_that_names_no_model_goes_to_none_of_two(models: Path) -> None:
    touch(models, "mmproj-F16.gguf", "gemma-Q4_0.gguf", "qwen-Q4_0.gguf")
    assert found(models) == [("gemma-Q4_0.gguf", None), ("qwen-Q4_0.gguf", None)]


def test_ids_are_legal_unique_and_do_not_hang_on_the_order() -> None:
    files = ["a/x.gguf", "b/x.gguf", "b-x.gguf", "Ünicode!.gguf", f"{'long' * 30}.gguf", "-.gguf"]
    models = [ModelFile(Path("/m") / file, file) for file in files]
    given = ids(models)
    assert list(given.values()) == ["a-x", "b-x-2", "b-x", "nicode", ("long" * 30)[:63], "model"]
    assert ids(reversed(models)) == given


def test_names_tell_when_a_search_would_find_something_else(models: Path) -> None:
    touch(models, "big-00001-of-00002.gguf")
    pattern = f"{models}/*-00001-of-*.gguf"
    before = names(pattern)
    assert names(pattern) == before
    touch(models, "big-00002-of-00002.gguf")
    assert names(pattern) != before
