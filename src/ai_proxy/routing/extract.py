"""Find the model that a request names, and put another name in its place.

Owns the choice among the places where a name may stand: the JSON body (`json_body.py`), the multipart form
(`multipart.py`), the query. A body that names a model counts before the query. What is not the name stays byte for
byte. Reading, deadlines and size limits are the caller's; it must not know what a name means (`table.py` does).
"""

from typing import Protocol
from urllib.parse import quote, unquote_to_bytes

from ai_proxy.errors import MalformedRequest
from ai_proxy.routing.json_body import JsonFinder
from ai_proxy.routing.multipart import MultipartFinder, boundary_of


class ModelFinder(Protocol):
    """Reads a body as it arrives until it knows the model.

    `feed` until it says True or the body ends, then `finish` if it ended; then `name`, then `take`.
    """

    name: str | None
    """The model that the body names; None while unknown, and where it names none."""

    def feed(self, chunk: bytes) -> bool:
        """Read on; True: `name` is final, nothing more is needed.

        Raises:
            MalformedRequest: What arrived can't be what its content type says.
        """
        ...

    def finish(self) -> None:
        """The body has ended; `name` is final.

        Raises:
            MalformedRequest: It is broken or ends too early.
        """
        ...

    def take(self, rename: str | None = None) -> bytes:
        """Hand over all that was fed, in order, once; with `rename` in the place of `name`."""
        ...


def finder_for(content_type: bytes | None) -> ModelFinder:
    """Choose how to read a body.

    `multipart/form-data` is read as a form. Everything else is read as JSON: what is declared as JSON must be JSON;
    a body of any other type, or of none (`curl -d` says it is a form), counts as JSON if it starts with `{` and
    names no model otherwise.

    Args:
        content_type: The header's value; None if there is none.

    Raises:
        MalformedRequest: A form without a usable boundary.
    """
    if content_type == b"application/json":
        return JsonFinder(declared=True)
    kind = (content_type or b"").partition(b";")[0].strip().lower()
    if kind == b"multipart/form-data":
        return MultipartFinder(boundary_of(content_type or b""))
    return JsonFinder(declared=kind == b"application/json" or kind.endswith(b"+json"))


def model_in_query(query: bytes) -> str | None:
    """Read `model` in a raw query.

    Raises:
        MalformedRequest: It occurs twice with different values (engines disagree on which counts), or is not UTF-8.

    Example:
        >>> model_in_query(b"a=1&model=Qwen%2FQwen3-8B"), model_in_query(b"a=1;model=x")
        ('Qwen/Qwen3-8B', None)
    """
    if b"model" not in query and b"%" not in query:
        return None
    names = {_unquote(value) for key, value in _pairs(query) if _unquote(key) == b"model"}
    if len(names) > 1:
        raise MalformedRequest("the query names more than one `model`; send one", param="model")
    try:
        return names.pop().decode() or None if names else None
    except UnicodeDecodeError as error:
        raise MalformedRequest("`model` in the query is not UTF-8", param="model") from error


def rename_in_query(query: bytes, new: str) -> bytes:
    """Replace the value of every `model` pair; all other bytes stay.

    Example:
        >>> rename_in_query(b"a=%20&model=x&b", "Qwen/Qwen3-8B")
        b'a=%20&model=Qwen%2FQwen3-8B&b'
    """
    value = quote(new, safe="").encode()
    return b"&".join(
        pair.partition(b"=")[0] + b"=" + value if _unquote(pair.partition(b"=")[0]) == b"model" else pair
        for pair in query.split(b"&")
    )


def _pairs(query: bytes) -> list[tuple[bytes, bytes]]:
    return [(key, value) for key, _, value in (pair.partition(b"=") for pair in query.split(b"&"))]


def _unquote(value: bytes) -> bytes:
    return unquote_to_bytes(value.replace(b"+", b" "))
