"""Request bodies that are read for their model: as other parsers read them, whole or cut, and renamed nowhere else.

The first byte of an input says what it is: JSON or a form with the boundary `b`.
"""

import json

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import FormParser

from ai_proxy.errors import MalformedRequest
from ai_proxy.routing.extract import ModelFinder
from ai_proxy.routing.json_body import JsonFinder
from ai_proxy.routing.multipart import MultipartFinder
from tests.fuzz.cutting import cuts
from tests.fuzz.judges import Finding

_NEW = 'other/näme"\\'


def check(data: bytes) -> None:
    """Check what must hold of a body.

    Raises:
        Finding: It does not.
    """
    body = data[1:]
    if not body:
        return
    if data[0] % 2:
        _check_json(body)
    else:
        _check_form(body)


def _check_json(body: bytes) -> None:
    name = _name(JsonFinder(declared=True), [body])
    if name != _name(JsonFinder(declared=True), cuts(body)):
        raise Finding("cut, it names another model")
    if name is None:
        return
    said = json.loads(body.removeprefix(b"\xef\xbb\xbf"))
    if said.get("model") != name:
        raise Finding(f"{said.get('model')!r} is the model, not {name!r}")
    finder = JsonFinder(declared=True)
    finder.feed(body)
    finder.finish()
    renamed = json.loads(finder.take(_NEW).removeprefix(b"\xef\xbb\xbf"))
    if renamed != said | {"model": _NEW}:
        raise Finding(f"renamed, {said} became {renamed}")


def _check_form(body: bytes) -> None:
    finder, cut = MultipartFinder(b"b"), MultipartFinder(b"b")
    name = _name(finder, [body])
    if name != _name(cut, cuts(body)):
        raise Finding("cut, it names another model")
    if name is None:
        return
    if finder.take() != body:
        raise Finding("what was read is not what is sent on")
    fields: list[tuple[bytes | None, bytes | None]] = []
    files: list[bytes | None] = []
    parser = FormParser(
        "multipart/form-data",
        lambda field: fields.append((field.field_name, field.value)),
        lambda file: files.append(file.field_name),
        boundary=b"b",
    )
    try:
        parser.write(body)
        parser.finalize()
    except FormParserError:
        return
    models = [value for field, value in fields if field == b"model"]
    if models[:1] != [name.encode()] or b"model" in files:
        raise Finding(f"{models} {files} are the models, not {name!r}")


def _name(finder: ModelFinder, pieces: list[bytes]) -> str | None:
    """The name that is found; None also for a body that is refused."""
    try:
        for at, piece in enumerate(pieces):
            if finder.feed(piece):
                for more in pieces[at + 1 :]:
                    # A second model is looked for while the rest is sent on.
                    finder.feed(more)
                break
        finder.finish()
    except MalformedRequest:
        return None
    return finder.name
