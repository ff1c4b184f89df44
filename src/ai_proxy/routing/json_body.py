"""Find the model in a JSON body, and put another name in its place without touching another byte.

One typed partial decode gives the name and checks the whole body; where the name stands is searched only when it must
be replaced.
"""

import re
from collections.abc import Iterable
from itertools import islice
from typing import Final

import msgspec

from ai_proxy.errors import MalformedRequest

_BOM: Final = b"\xef\xbb\xbf"


class JsonFinder:
    """Finds the model in a JSON body, which it needs whole; satisfies `ModelFinder`.

    Args:
        declared: The content type says JSON; else only a body that starts with `{` is.
    """

    def __init__(self, *, declared: bool) -> None:
        self.name: str | None = None
        self._is_json = declared
        self._chunks: list[bytes] = []

    def __repr__(self) -> str:
        return f"<JsonFinder {len(self._chunks)} chunks, name={self.name!r}>"

    def feed(self, chunk: bytes) -> bool:
        """Keep the chunk; True if the body turns out to be no JSON."""
        self._chunks.append(chunk)
        if not self._is_json:
            start = chunk.removeprefix(_BOM).lstrip()
            self._is_json = start.startswith(b"{")
            return bool(start) and not self._is_json
        return False

    def finish(self) -> None:
        """Read the whole body; an empty one names no model."""
        if self._has_json:
            self.name = model_in_json(self._join())

    def take(self, rename: str | None = None) -> bytes:
        """Hand over the body, renamed if asked."""
        body = self._join()
        self._chunks = []
        return body if rename is None or self.name is None else rename_in_json(body, self.name, rename)

    def beginning(self, size: int) -> bytes:
        """The first bytes of what was fed and is not taken yet."""
        return self._join()[:size]

    def asks_for_stream(self) -> bool:
        """Whether the whole body, not taken yet, says `stream: true`."""
        return self._has_json and stream_in_json(self._join())

    def has_rivals(self) -> bool:
        """Whether the whole body, not taken yet, has keys that some engines take for `model`."""
        return self._has_json and rivals_in_json(self._join())

    @property
    def _has_json(self) -> bool:
        return self._is_json and any(self._chunks)

    def _join(self) -> bytes:
        if len(self._chunks) != 1:
            self._chunks = [b"".join(self._chunks)]
        return self._chunks[0]


class _Body(msgspec.Struct, gc=False):
    model: object = None


class _Wish(msgspec.Struct, gc=False):
    stream: object = None


_decode = msgspec.json.Decoder(_Body).decode
_decode_wish = msgspec.json.Decoder(_Wish).decode
_decode_keys = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_decode_text = msgspec.json.Decoder(str).decode


def model_in_json(body: bytes) -> str | None:
    """Read the top-level `model` of a JSON object; of several the last counts, as in every JSON library.

    The whole body is checked, strictly: RFC 8259 in UTF-8, no NaN, no lone surrogates (OpenAI refuses them too), at
    most about a thousand levels. A byte order mark in front is skipped, as engines do.

    Returns:
        The name; None where it is missing, null or empty.

    Raises:
        MalformedRequest: Not JSON, not an object, or the model is not a string.

    Example:
        >>> model_in_json(b'{"messages": [{"model": "decoy"}], "model": "chat"}')
        'chat'
        >>> model_in_json(b'{"prompt": "hi"}') is None
        True
    """
    try:
        if not body.isascii():
            str(body, "utf-8")
            body = body.removeprefix(_BOM)
        model = _decode(body).model
    except msgspec.ValidationError as error:
        raise MalformedRequest("the body must be a JSON object with a `model`") from error
    except msgspec.DecodeError as error:
        raise MalformedRequest(f"the body is not valid JSON: {_reason(error)}") from error
    except UnicodeDecodeError as error:
        raise MalformedRequest(f"the body is not valid UTF-8 (byte {error.start}); send JSON as UTF-8") from error
    except RecursionError as error:
        raise MalformedRequest("the body is nested too deeply; send fewer levels") from error
    if isinstance(model, str):
        return model or None
    if model is None:
        return None
    raise MalformedRequest(f"`model` must be a string, not {_json_type(model)}", param="model")


def stream_in_json(body: bytes) -> bool:
    """Whether a body in which `model_in_json` found a model says `stream: true`.

    Example:
        >>> stream_in_json(b'{"stream": true}'), stream_in_json(b'{"stream": 1, "x": {"stream": true}}')
        (True, False)
    """
    return _decode_wish(body.removeprefix(_BOM)).stream is True


def rivals_in_json(body: bytes) -> bool:
    """Whether a body in which `model_in_json` looked has `model` in another case, which is the same to engines in Go.

    Example:
        >>> rivals_in_json(b'{"model": "a", "Model": "b"}'), rivals_in_json(b'{"model": "a", "models": ["b"]}')
        (True, False)
    """
    return any(key != "model" and key.lower() == "model" for key in _decode_keys(body.removeprefix(_BOM)))


def _reason(error: msgspec.DecodeError) -> str:
    return str(error).removeprefix("JSON is malformed: ").replace("Input data was truncated", "it ends too early")


def _json_type(value: object) -> str:
    match value:
        case bool():
            return "a boolean"
        case dict():
            return "an object"
        case list():
            return "an array"
        case _:
            return "a number"


def _letter(code: int) -> bytes:
    return b"(?:%c|\\\\u00(?i:%02x))" % (code, code)


# Each costs about a microsecond, in which nobody else is served.
_MOST_KEYS: Final = 20_000
_KEY: Final = b'"model"'
_ESCAPED_KEY: Final = re.compile(b'"' + b"".join(map(_letter, b"model")) + b'"')
_ESCAPED_LETTER: Final = b"\\u006"
_VALUE: Final = re.compile(rb'[ \t\r\n]*:[ \t\r\n]*("(?:[^"\\]|\\.)*")', re.DOTALL)


def rename_in_json(body: bytes, old: str, new: str) -> bytes:
    """Replace the one `model` value that counts; all other bytes stay.

    Candidates are the pairs spelled `"model": <old>`, at any depth; most bodies have one, and it is the one. Among
    several, each is given a name of its own: the one that the body then decodes to tells which counts.

    Args:
        body: A body in which `model_in_json` found `old`.
        old: The name as decoded.
        new: The name to put there.

    Raises:
        MalformedRequest: There are so many candidates that the search would hold others up.

    Example:
        >>> rename_in_json(b'{"x": [{"model": "a"}], "model" : "a"}', "a", "b")
        b'{"x": [{"model": "a"}], "model" : "b"}'
    """
    if new == old:
        return body
    values = (_VALUE.match(body, end) for end in _keys(body))
    spans = [value.span(1) for value in values if value and _decode_text(value[1]) == old]
    if len(spans) > 1:
        marked = _splice(body, spans, (b'"%d"' % index for index in range(len(spans))))
        spans = [spans[int(model_in_json(marked) or 0)]]
    return _splice(body, spans, [msgspec.json.encode(new)])


def _keys(body: bytes) -> list[int]:
    """Where keys `model` end. Escapes in the key are rare, and of all searches `rfind` is the fastest."""
    if body.rfind(_ESCAPED_LETTER) >= 0:
        ends = [found.end() for found in islice(_ESCAPED_KEY.finditer(body), _MOST_KEYS + 1)]
    else:
        ends = []
        at = body.rfind(_KEY)
        while at >= 0 and len(ends) <= _MOST_KEYS:
            ends.append(at + len(_KEY))
            at = body.rfind(_KEY, 0, at)
        ends.reverse()
    if len(ends) > _MOST_KEYS:
        raise MalformedRequest(f"the body has more than {_MOST_KEYS} keys `model`; send fewer", param="model")
    return ends


def _splice(body: bytes, spans: list[tuple[int, int]], tokens: Iterable[bytes]) -> bytes:
    parts: list[bytes] = []
    at = 0
    for (start, end), token in zip(spans, tokens, strict=True):
        parts += body[at:start], token
        at = end
    return b"".join((*parts, body[at:]))
