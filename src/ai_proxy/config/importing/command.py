"""What a command line says about the server in it: its words, the kind of engine, the GPUs that it wants.

Pure. Guesses only where a wrong guess costs nothing but a default.
"""

import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import PurePath

from ai_proxy.config.fields import Rejected

_SHELLS = frozenset({"bash", "dash", "sh", "zsh"})
_ENGINES = (
    ("llama-cpp-server", re.compile(r"llama-server|llama\.cpp|llama-cpp|llamacpp")),
    ("vllm", re.compile(r"vllm")),
    ("comfyui", re.compile(r"comfyui")),
    ("ollama", re.compile(r"ollama")),
    ("whisper", re.compile(r"speaches|faster-whisper-server")),
)
_DEVICE_VARIABLES = (
    "CUDA_VISIBLE_DEVICES",
    "NVIDIA_VISIBLE_DEVICES",
    "HIP_VISIBLE_DEVICES",
    "ROCR_VISIBLE_DEVICES",
)


def split(text: str) -> list[str]:
    r"""The words of a command of several lines; lines that begin with # are comments, a backslash at the end is none.

    Raises:
        Rejected: A quote is not closed.

    Example:
        >>> split("llama-server \\\n  # the model\n  -m 'my model.gguf'")
        ['llama-server', '-m', 'my model.gguf']
    """
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    kept = [line.rstrip().removesuffix("\\") if line.rstrip().endswith("\\") else line for line in lines]
    try:
        return shlex.split("\n".join(kept))
    except ValueError as error:
        raise Rejected(f"can't be split into words: {error}", "write the service by hand") from error


def engine_of(words: Sequence[str], image: str = "") -> str:
    """The kind of engine, `generic` if it is none that we know.

    Example:
        >>> engine_of(["/opt/llama-server", "-m", "vllm.gguf"]), engine_of([], "vllm/vllm-openai:v0.11.2")
        ('llama-cpp-server', 'vllm')
        >>> engine_of(["bash", "-c", "source x && vllm serve m"]), engine_of(["python", "server.py"])
        ('vllm', 'generic')
    """
    return next((kind for kind, pattern in _ENGINES if pattern.search(_program(words, image).lower())), "generic")


def _program(words: Sequence[str], image: str) -> str:
    """The part of a command that says what runs, without what it is told."""
    if image:
        return image.rsplit("@", 1)[0]
    if words and PurePath(words[0]).name in _SHELLS:
        return " ".join(words)
    said: list[str] = []
    for word in words[:4]:
        if word.startswith("-") and not (word == "-m" and said and "python" in said[-1]):
            break
        said.append(word)
    return " ".join(said)


def value_of(words: Sequence[str], *flags: str) -> str | None:
    """The value of the last of these flags, after a space or `=`.

    Example:
        >>> value_of(["-ngl", "99", "--gpu-layers=0"], "-ngl", "--gpu-layers")
        '0'
    """
    found = None
    for index, word in enumerate(words):
        name, equals, value = word.partition("=")
        if name in flags and equals:
            found = value
        elif word in flags and index + 1 < len(words):
            found = words[index + 1]
    return found


def gpus_of(engine: str, words: Sequence[str]) -> tuple[int, str] | None:
    """How many GPUs a command line asks for, and by which flag; None where it does not say.

    Example:
        >>> gpus_of("vllm", ["vllm", "serve", "m", "-tp", "2"])
        (2, 'tensor-parallel-size 2')
        >>> gpus_of("llama-cpp-server", ["llama-server", "-ngl", "0"])
        (0, 'gpu-layers 0')
    """
    if engine == "vllm":
        parallel = value_of(words, "--tensor-parallel-size", "-tp")
        return (int(parallel), f"tensor-parallel-size {parallel}") if parallel and parallel.isdecimal() else None
    if engine != "llama-cpp-server":
        return None
    if value_of(words, "-ngl", "--gpu-layers", "--n-gpu-layers") == "0":
        return 0, "gpu-layers 0"
    if value_of(words, "-dev", "--device") == "none":
        return 0, "device none"
    shares = re.split(r"[,/]", value_of(words, "-ts", "--tensor-split") or "")
    used = sum(share.strip() not in {"", "0"} for share in shares)
    return (used, "tensor-split") if used > 1 else None


def visible_devices(environment: Mapping[str, str]) -> tuple[dict[str, str], int | list[str] | None]:
    """The environment without what our placement sets, and the GPUs that it named; None where it named none.

    Example:
        >>> visible_devices({"CUDA_VISIBLE_DEVICES": "0,2", "CUDA_DEVICE_ORDER": "PCI_BUS_ID", "A": "1"})
        ({'A': '1'}, ['0', '2'])
        >>> visible_devices({"CUDA_VISIBLE_DEVICES": ""})
        ({}, 0)
    """
    ours = {*_DEVICE_VARIABLES, "CUDA_DEVICE_ORDER"}
    rest = {name: value for name, value in environment.items() if name not in ours}
    named = next((environment[name] for name in _DEVICE_VARIABLES if name in environment), None)
    return rest, None if named is None else device_list(named)


def device_list(text: str) -> int | list[str] | None:
    """GPUs as drivers and Docker list them; None for all of them.

    Example:
        >>> device_list("0, GPU-5d2c"), device_list("-1"), device_list("all")
        (['0', 'GPU-5d2c'], 0, None)
    """
    devices = [device.strip() for device in text.split(",")]
    if devices[0] in {"", "-1", "none", "void", "NoDevFiles"}:
        return 0
    return None if devices == ["all"] else [device for device in devices if device]
