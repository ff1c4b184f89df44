"""Requests that hide another one from one reader and show it to the next: what engines are asked, judged by two others.

Every row carries a request for `/smuggled` in its body or where a body may be, and is followed by a canary. Either
nothing of it reaches an engine, or exactly one request does, which h11 and llhttp see as well, body and all; and
however its bytes are cut (`tests.fuzz.requests.check`).
"""

import pytest

from tests.fuzz.judges import Message
from tests.fuzz.requests import check, world

CANARY = b"GET /files/canary HTTP/1.1\r\nHost: canary\r\nConnection: close\r\n\r\n"
HIDDEN = b"GET /files/smuggled HTTP/1.1\r\nHost: a\r\n\r\n"
POST = b"POST /files/x HTTP/1.1\r\nHost: a\r\n"
GET = b"GET /files/x HTTP/1.1\r\nHost: a\r\n"
AFTER_LAST = b"0\r\n\r\n" + HIDDEN
IN_CHUNK = b"%x\r\n%b\r\n0\r\n\r\n" % (len(HIDDEN), HIDDEN)

CODINGS = {
    "plain": b"Transfer-Encoding: chunked",
    "in capitals": b"TRANSFER-ENCODING: CHUNKED",
    "space before the colon": b"Transfer-Encoding : chunked",
    "tab before the colon": b"Transfer-Encoding\t: chunked",
    "vertical tab before the value": b"Transfer-Encoding: \x0bchunked",
    "form feed before the value": b"Transfer-Encoding: \x0cchunked",
    "vertical tab after the value": b"Transfer-Encoding: chunked\x0b",
    "no space": b"Transfer-Encoding:chunked",
    "tab as space": b"Transfer-Encoding:\tchunked",
    "tab after the value": b"Transfer-Encoding: chunked\t",
    "xchunked": b"Transfer-Encoding: xchunked",
    "chunk": b"Transfer-Encoding: chunk",
    "quoted": b'Transfer-Encoding: "chunked"',
    "single quotes": b"Transfer-Encoding: 'chunked'",
    "identity": b"Transfer-Encoding: identity",
    "identity, chunked": b"Transfer-Encoding: identity, chunked",
    "chunked, identity": b"Transfer-Encoding: chunked, identity",
    "gzip, chunked": b"Transfer-Encoding: gzip, chunked",
    "chunked twice": b"Transfer-Encoding: chunked, chunked",
    "empty": b"Transfer-Encoding: ",
    "comma before": b"Transfer-Encoding: ,chunked",
    "comma after": b"Transfer-Encoding: chunked,",
    "parameter": b"Transfer-Encoding: chunked;q=0",
    "NUL after": b"Transfer-Encoding: chunked\0",
    "NUL in the name": b"Transfer-\0Encoding: chunked",
    "high byte after": b"Transfer-Encoding: chunked\xff",
    "no-break space before": b"Transfer-Encoding: \xa0chunked",
    "next line before": b"Transfer-Encoding: \x85chunked",
    "folded": b"Transfer-Encoding:\r\n chunked",
    "folded by tab": b"Transfer-Encoding:\r\n\tchunked",
    "folded after": b"Transfer-Encoding: chunked\r\n , identity",
    "hidden by LF": b"X: y\nTransfer-Encoding: chunked",
    "hidden by CR": b"X: y\rTransfer-Encoding: chunked",
    "ended by LF": b"Transfer-Encoding: chunked\nX: y",
    "CR CR LF": b"Transfer-Encoding: chunked\r",
    "space before the name": b" Transfer-Encoding: chunked",
    "tab before the name": b"X: y\r\n\tTransfer-Encoding: chunked",
    "two fields": b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
    "two that differ": b"Transfer-Encoding: identity\r\nTransfer-Encoding: chunked",
    "two that differ, the other way": b"Transfer-Encoding: chunked\r\nTransfer-Encoding: cow",
    "two spellings": b"Transfer-Encoding: chunked\r\ntransfer-encoding: identity",
    "encoded word": b"Transfer-Encoding: =?iso-8859-1?B?Y2h1bmtlZA==?=",
}
# Names that a reader which normalises names might take for the real one; for any other they are just fields.
LOOK_ALIKES = {
    "underscore": b"Transfer_Encoding: chunked",
    "dot": b"Transfer.Encoding: chunked",
    "prefix": b"X-Transfer-Encoding: chunked",
    "doubled dash": b"Transfer--Encoding: chunked",
    "in a value": b"X: Transfer-Encoding: chunked",
    "plural": b"Transfer-Encodings: chunked",
    "Content-Encoding": b"Content-Encoding: chunked",
    "TE": b"TE: chunked",
}
LENGTHS = {
    "plus": b"Content-Length: +%d",
    "minus": b"Content-Length: -%d",
    "minus nothing": b"Content-Length: -0",
    "hexadecimal": b"Content-Length: 0x%x",
    "underscore": b"Content-Length: %d_0",
    "fraction": b"Content-Length: %d.0",
    "exponent": b"Content-Length: %de0",
    "list": b"Content-Length: %d, %d",
    "list that differs": b"Content-Length: %d, 0",
    "semicolon": b"Content-Length: %d;",
    "letter after": b"Content-Length: %da",
    "space within": b"Content-Length: %d 0",
    "tab within": b"Content-Length: %d\t0",
    "vertical tab": b"Content-Length: \x0b%d",
    "NUL after": b"Content-Length: %d\0",
    "superscript": b"Content-Length: %d\xb2",
    "arabic digits": b"Content-Length: \xd9\xa3",
    "empty": b"Content-Length: ",
    "64 bits and a bit": b"Content-Length: 184467440737095516%d",
    "64 bits": b"Content-Length: 18446744073709551615",
    "63 bits": b"Content-Length: 9223372036854775807",
    "endless": b"Content-Length: " + b"9" * 400,
    "endless zeros": b"Content-Length: " + b"0" * 400 + b"%d",
    "space before the colon": b"Content-Length : %d",
    "folded": b"Content-Length:\r\n %d",
    "folded after": b"Content-Length: %d\r\n 0",
    "twice": b"Content-Length: %d\r\nContent-Length: %d",
    "two that differ": b"Content-Length: %d\r\nContent-Length: 0",
    "two that differ, the other way": b"Content-Length: 0\r\nContent-Length: %d",
    "two spellings": b"Content-Length: %d\r\ncontent-length: 0",
    "hidden by LF": b"X: y\nContent-Length: %d",
    "hidden by CR": b"X: y\rContent-Length: %d",
    "ended by LF": b"Content-Length: %d\nX: y",
}
CHUNKS = {
    "no size": b"\r\n%b",
    "minus": b"-%x\r\n%b\r\n0\r\n\r\n",
    "plus": b"+%x\r\n%b\r\n0\r\n\r\n",
    "0x": b"0x%x\r\n%b\r\n0\r\n\r\n",
    "underscore": b"0_%x\r\n%b\r\n0\r\n\r\n",
    "space before": b" %x\r\n%b\r\n0\r\n\r\n",
    "tab after": b"%x\t\r\n%b\r\n0\r\n\r\n",
    "vertical tab after": b"%x\x0b\r\n%b\r\n0\r\n\r\n",
    "NUL after": b"%x\0\r\n%b\r\n0\r\n\r\n",
    "comma": b"%x,0\r\n%b\r\n0\r\n\r\n",
    "64 bits around": b"100000000000000%02x\r\n%b\r\n0\r\n\r\n",
    "32 bits around and a letter": b"1000000%02xg\r\n%b\r\n0\r\n\r\n",
    "size ended by LF": b"%x\n%b\r\n0\r\n\r\n",
    "size ended by CR": b"%x\r%b\r\n0\r\n\r\n",
    "size ended by CR CR LF": b"%x\r\r\n%b\r\n0\r\n\r\n",
    "data ended by LF": b"%x\r\n%b\n0\r\n\r\n",
    "data ended by CR": b"%x\r\n%b\r0\r\n\r\n",
    "data not ended": b"%x\r\n%b0\r\n\r\n",
    "data ended by spaces": b"%x\r\n%b  0\r\n\r\n",
    "LF in an extension": b"%x;a\nb\r\n%b\r\n0\r\n\r\n",
    "CR in an extension": b"%x;a\rb\r\n%b\r\n0\r\n\r\n",
    "LF in a quoted extension": b'%x;a="\n"\r\n%b\r\n0\r\n\r\n',
    "NUL in an extension": b"%x;a=\0\r\n%b\r\n0\r\n\r\n",
    "LF after the last": b"%x\r\n%b\r\n0\n\r\n",
    "LF as the end": b"%x\r\n%b\r\n0\r\n\n",
    "LF in a trailer": b"%x\r\n%b\r\n0\r\nX: y\nZ: z\r\n\r\n",
    "folded trailer": b"%x\r\n%b\r\n0\r\nX: y\r\n z\r\n\r\n",
    "length as a trailer": b"%x\r\n%b\r\n0\r\nContent-Length: 5\r\n\r\n",
    "coding as a trailer": b"%x\r\n%b\r\n0\r\nTransfer-Encoding: chunked\r\n\r\n",
    "space in a trailer's name": b"%x\r\n%b\r\n0\r\nX : y\r\n\r\n",
}
TAKEN_CHUNKS = {
    "as it should be": b"%x\r\n%b\r\n0\r\n\r\n",
    "capitals and zeros": b"000%X\r\n%b\r\n000\r\n\r\n",
    "extension": b"%x;a=b;c\r\n%b\r\n0;d\r\n\r\n",
    "quoted extension": b'%x;a="b;c\\"d"\r\n%b\r\n0\r\n\r\n',
    "trailer": b"%x\r\n%b\r\n0\r\nX: y\r\n\r\n",
    "host as a trailer": b"%x\r\n%b\r\n0\r\nHost: b\r\nAuthorization: Bearer x\r\n\r\n",
}
HEADS = {
    "two hosts": GET + b"Host: b\r\n\r\n",
    "two hosts alike": GET + b"host: a\r\n\r\n",
    "no host": b"GET /files/x HTTP/1.1\r\n\r\n",
    "empty host": b"GET /files/x HTTP/1.1\r\nHost:\r\n\r\n",
    "host with a space before the colon": GET + b"Host : b\r\n\r\n",
    "host with a path": b"GET /files/x HTTP/1.1\r\nHost: a/b\r\n\r\n",
    "host with a user": b"GET /files/x HTTP/1.1\r\nHost: a@b\r\n\r\n",
    "list of hosts": b"GET /files/x HTTP/1.1\r\nHost: a, b\r\n\r\n",
    "host folded": b"GET /files/x HTTP/1.1\r\nHost: a\r\n b\r\n\r\n",
    "first field folded": b"GET /files/x HTTP/1.1\r\n X: y\r\nHost: a\r\n\r\n",
    "absolute with a user": b"GET http://a@b/files/x HTTP/1.1\r\nHost: b\r\n\r\n",
    "absolute without host": b"GET http:///files/x HTTP/1.1\r\nHost: a\r\n\r\n",
    "another scheme": b"GET ftp://b/files/x HTTP/1.1\r\nHost: b\r\n\r\n",
    "authority form": b"CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\n",
    "neither form": b"GET files/x HTTP/1.1\r\nHost: a\r\n\r\n",
    "request in the target": b"GET /files/x HTTP/1.1 /y HTTP/1.1\r\nHost: a\r\n\r\n",
    "CR in the target": b"GET /files/x\rX: y HTTP/1.1\r\nHost: a\r\n\r\n",
    "NUL in the target": b"GET /files/\0 HTTP/1.1\r\nHost: a\r\n\r\n",
    "tab in the target": b"GET /files/\t HTTP/1.1\r\nHost: a\r\n\r\n",
    "fragment": b"GET /files/x#y HTTP/1.1\r\nHost: a\r\n\r\n",
    "no version": b"GET /files/x\r\nHost: a\r\n\r\n",
    "HTTP/1.2": b"GET /files/x HTTP/1.2\r\nHost: a\r\n\r\n",
    "HTTP/1.10": b"GET /files/x HTTP/1.10\r\nHost: a\r\n\r\n",
    "only LF": b"GET /files/x HTTP/1.1\nHost: a\n\n",
    "LF at the end": GET + b"\n",
    "LF CR LF at the end": GET + b"X: y\n\r\n",
    "CR alone at the end": GET + b"\r\r\n",
    "NUL in a field": GET + b"X: a\0b\r\n\r\n",
    "empty name": GET + b": y\r\n\r\n",
    "no colon": GET + b"Content-Length\r\n\r\n",
    "HTTP/1.0 with chunks": b"POST /files/x HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + AFTER_LAST,
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + HIDDEN,
}  # fmt: skip


def judged(data: bytes) -> tuple[list[Message], bytes]:
    """What engines are asked before the canary, and what the client is told; cut or whole, as all judges read it."""
    check(data + CANARY)
    talk = world().talk([data + CANARY])
    return talk.asked, talk.answered


def expect_refused(data: bytes) -> None:
    asked, answered = judged(data)
    assert asked == []
    assert answered.startswith((b"HTTP/1.1 4", b"HTTP/1.1 501 ", b"HTTP/1.1 505 ")), answered
    assert b"HTTP/1.1 200" not in answered


def expect_one(data: bytes, body: bytes) -> None:
    asked, answered = judged(data)
    assert [(message.target, message.body) for message in asked] == [(b"/x", body), (b"/canary", b"")]
    assert answered.endswith(b"/canary")


@pytest.mark.parametrize("coding", CODINGS.values(), ids=CODINGS.keys())
def test_b20_b23_cl_te_no_coding_stands_beside_a_length(coding: bytes) -> None:
    """RFC 9112 §6.1, §6.3."""
    expect_refused(POST + b"Content-Length: %d\r\n%b\r\n\r\n%b" % (len(AFTER_LAST), coding, AFTER_LAST))


@pytest.mark.parametrize("coding", CODINGS.values(), ids=CODINGS.keys())
def test_b20_b23_te_cl_nor_the_other_way_round(coding: bytes) -> None:
    """RFC 9112 §6.1, §6.3."""
    expect_refused(POST + b"%b\r\nContent-Length: 4\r\n\r\n%b" % (coding, IN_CHUNK))


@pytest.mark.parametrize("name", CODINGS)
def test_b23_te_te_alone_a_coding_is_exactly_chunked_or_refused(name: str) -> None:
    """RFC 9112 §6.1, §7."""
    data = POST + CODINGS[name] + b"\r\n\r\n" + IN_CHUNK
    if name in {"plain", "in capitals", "no space", "tab as space"}:
        expect_one(data, HIDDEN)
    else:
        expect_refused(data)


@pytest.mark.parametrize("field", LOOK_ALIKES.values(), ids=LOOK_ALIKES.keys())
def test_b27_what_only_looks_like_a_coding_frames_nothing(field: bytes) -> None:
    """RFC 9112 §6.3."""
    expect_one(POST + b"%b\r\nContent-Length: %d\r\n\r\n%b" % (field, len(AFTER_LAST), AFTER_LAST), AFTER_LAST)


@pytest.mark.parametrize("length", LENGTHS.values(), ids=LENGTHS.keys())
def test_b21_b22_a_length_is_one_number_of_digits(length: bytes) -> None:
    """RFC 9110 §8.6, RFC 9112 §6.3."""
    field = length % ((len(HIDDEN),) * length.count(b"%"))
    expect_refused(POST + field + b"\r\n\r\n" + HIDDEN)


@pytest.mark.parametrize("chunks", CHUNKS.values(), ids=CHUNKS.keys())
def test_b24_b28_chunks_have_one_form(chunks: bytes) -> None:
    """RFC 9112 §7.1."""
    values = (len(HIDDEN), HIDDEN)[-chunks.count(b"%") :]
    expect_refused(POST + b"Transfer-Encoding: chunked\r\n\r\n" + chunks % values)


@pytest.mark.parametrize("chunks", TAKEN_CHUNKS.values(), ids=TAKEN_CHUNKS.keys())
def test_b28_b29_what_chunks_may_carry_besides_goes_no_further(chunks: bytes) -> None:
    """RFC 9112 §7.1.1, §7.1.2."""
    expect_one(POST + b"Transfer-Encoding: chunked\r\n\r\n" + chunks % (len(HIDDEN), HIDDEN), HIDDEN)


@pytest.mark.parametrize("head", HEADS.values(), ids=HEADS.keys())
def test_b24_b25_b26_a_head_in_doubt_is_refused(head: bytes) -> None:
    """RFC 9112 §2.2, §3.2, §5."""
    expect_refused(head)


@pytest.mark.parametrize(
    "option", [b"Content-Length", b"Transfer-Encoding", b"Host", b"close, Content-Length"], ids=repr
)
def test_b17_connection_takes_no_framing_away(option: bytes) -> None:
    """RFC 9110 §7.6.1."""
    asked, _ = judged(POST + b"Connection: %b\r\nContent-Length: %d\r\n\r\n%b" % (option, len(HIDDEN), HIDDEN))
    assert asked[0] == Message(b"POST", b"/x", HIDDEN)
    assert b"/smuggled" not in [message.target for message in asked]


@pytest.mark.parametrize("method", [b"GET", b"HEAD", b"DELETE", b"OPTIONS"], ids=bytes.decode)
def test_a_body_belongs_to_any_method(method: bytes) -> None:
    """RFC 9112 §6.3."""
    asked, _ = judged(method + POST[4:] + b"Content-Length: %d\r\n\r\n%b" % (len(HIDDEN), HIDDEN))
    assert asked == [Message(method, b"/x", HIDDEN), Message(b"GET", b"/canary")]


def test_b42_an_absolute_target_is_one_host_for_all() -> None:
    """RFC 9112 §3.2.2."""
    talk = world().talk([b"GET http://b:81/files/x HTTP/1.1\r\nHost: a\r\n\r\n"])
    heard = bytes(talk.engines[0].heard)
    assert heard.startswith(b"GET /x HTTP/1.1\r\n")
    assert b"\r\nHost: b:81\r\n" in heard
    assert b"\r\nHost: a" not in heard


@pytest.mark.parametrize("protocol", [b"websocket", b"h2c", b"x"], ids=bytes.decode)
@pytest.mark.parametrize("framing", [b"Content-Length: %d" % len(IN_CHUNK), b"Transfer-Encoding: chunked"], ids=repr)
def test_the_body_of_a_request_that_asks_for_another_protocol_is_its_own(protocol: bytes, framing: bytes) -> None:
    """RFC 9110 §7.8."""
    asked, _ = judged(POST + b"Connection: Upgrade\r\nUpgrade: %b\r\n%b\r\n\r\n%b" % (protocol, framing, IN_CHUNK))
    body = IN_CHUNK if framing.startswith(b"C") else HIDDEN
    assert asked in ([], [Message(b"POST", b"/x", body)], [Message(b"POST", b"/x", body), Message(b"GET", b"/canary")])


def test_an_unfinished_body_holds_back_what_it_seems_to_end_with() -> None:
    """RFC 9112 §6.3."""
    talk = world().talk([POST + b"Content-Length: %d\r\n\r\n%b" % (len(HIDDEN) + 1, HIDDEN)])
    assert talk.asked == []
