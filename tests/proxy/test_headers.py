"""Header fields across the proxy, numbered as the promised behaviours."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ai_proxy.errors import MalformedRequest
from ai_proxy.proxy.headers import RequestHead, SetFields, inbound, is_request_id, outbound, peer_lines

type Pairs = list[tuple[bytes, bytes]]

HOST = (b"Host", b"ai.local:8000")
OURS = [
    b"X-Forwarded-For: 10.0.0.9",
    b"X-Forwarded-Proto: http",
    b"Via: 1.1 ai-proxy",
    b'Forwarded: for=10.0.0.9;proto=http;host="ai.local:8000"',
    b"X-Forwarded-Host: ai.local:8000",
    b"X-Request-Id: r-1",
]


def send(
    fields: Pairs,
    *,
    host: bytes | None = None,
    content_length: int | None = None,
    setting: dict[str, str] | None = None,
    peer: str = "10.0.0.9",
    method: bytes = b"POST",
    target: bytes = b"/v1/x",
    request_id: bytes = b"r-1",
) -> RequestHead:
    return outbound(
        method,
        target,
        fields,
        peer=peer_lines(peer, "http"),
        request_id=request_id,
        host=host,
        content_length=content_length,
        setting=SetFields.of(setting or {}),
    )


def lines(fields: Pairs, setting: dict[str, str] | None = None) -> list[bytes]:
    """The lines of the head without the request line and without what we always add."""
    data = send([HOST, *fields], setting=setting).data
    first, *rest, end, after = data.split(b"\r\n")
    assert (first, end, after) == (b"POST /v1/x HTTP/1.1", b"", b"")
    return [line for line in rest if line not in OURS and line != b"Host: ai.local:8000"]


def answer(*fields: tuple[bytes, bytes]) -> Pairs:
    *kept, request_id, service = inbound(fields, request_id=b"r-1", service=b"chat")
    assert (request_id, service) == ((b"x-request-id", b"r-1"), (b"x-ai-proxy-service", b"chat"))
    return kept


class TestRequests:
    def test_a_whole_head(self) -> None:
        head = send([HOST, (b"Content-Type", b"application/json"), (b"Content-Length", b"12")])
        assert head.data.split(b"\r\n") == [
            b"POST /v1/x HTTP/1.1",
            b"Content-Type: application/json",
            b"Content-Length: 12",
            b"Host: ai.local:8000",
            *OURS,
            b"",
            b"",
        ]
        assert head.chunked is False

    @pytest.mark.parametrize(
        "name", [b"Keep-Alive", b"PROXY-CONNECTION", b"upgrade", b"Proxy-Authorization", b"HTTP2-Settings", b"Expect"]
    )
    def test_b16_hop_by_hop_fields_are_removed(self, name: bytes) -> None:
        assert lines([(name, b"x"), (b"Accept", b"*/*")]) == [b"Accept: */*"]

    @pytest.mark.parametrize("order", [1, -1])
    def test_b17_fields_named_in_connection_are_removed_wherever_they_stand(self, order: int) -> None:
        fields = [(b"X-Hop", b"1"), (b"Connection", b"close, x-hop ,X-Other"), (b"x-other", b"2"), (b"X-Stay", b"3")]
        assert lines(fields[::order]) == [b"X-Stay: 3"]

    def test_b17_connection_can_not_strip_what_a_request_needs(self) -> None:
        named = b"content-length, host, authorization, content-type, via, x-forwarded-for, forwarded, x-request-id"
        kept = [(b"Content-Length", b"1"), (b"Authorization", b"Bearer k"), (b"Content-Type", b"text/plain")]
        data = send([HOST, (b"Connection", named), *kept]).data
        for line in (b"Host: ai.local:8000", *OURS, *(b"%b: %b" % field for field in kept)):
            assert data.count(b"\r\n" + line + b"\r\n") == 1

    @pytest.mark.parametrize("value", [b"", b"keep-alive", b"Keep-Alive", b"close", b",", b" , ", b"KEEP-ALIVE"])
    def test_b18_an_empty_or_plain_connection_strips_nothing(self, value: bytes) -> None:
        assert lines([(b"Connection", value), (b"X-Stay", b"1")]) == [b"X-Stay: 1"]

    @pytest.mark.parametrize(
        ("value", "kept"), [(b"trailers", [b"TE: trailers"]), (b"gzip, Trailers;q=1", [b"TE: trailers"]), (b"gzip", [])]
    )
    def test_b19_only_trailers_pass_in_te(self, value: bytes, kept: list[bytes]) -> None:
        assert lines([(b"te", value)]) == kept

    def test_b19_trailers_pass_though_connection_names_te(self) -> None:
        assert lines([(b"Connection", b"TE"), (b"TE", b"trailers")]) == [b"TE: trailers"]

    def test_b20_length_with_transfer_encoding_is_refused(self) -> None:
        with pytest.raises(MalformedRequest, match="both Content-Length and Transfer-Encoding"):
            send([HOST, (b"Content-Length", b"1"), (b"Transfer-Encoding", b"chunked")])

    @pytest.mark.parametrize("value", [b"1, 1", b"+1", b" 1", b"0x1", b"1_0", b"", b"-1", "١".encode()])
    def test_b22_a_length_that_is_no_number_is_refused(self, value: bytes) -> None:
        with pytest.raises(MalformedRequest, match="Content-Length is repeated or has no valid value"):
            send([HOST, (b"Content-Length", value)])

    def test_b21_two_lengths_are_refused(self) -> None:
        with pytest.raises(MalformedRequest, match="content-length is repeated"):
            send([HOST, (b"Content-Length", b"1"), (b"content-length", b"1")])

    @pytest.mark.parametrize("value", [b"chunked, identity", b"xchunked", b"gzip, chunked", b"\tchunked", b""])
    def test_b23_a_coding_other_than_chunked_is_refused(self, value: bytes) -> None:
        with pytest.raises(MalformedRequest, match="Transfer-Encoding is repeated or has no valid value"):
            send([HOST, (b"Transfer-Encoding", value)])

    @pytest.mark.parametrize("byte", [*range(9), *range(10, 32), 127])
    def test_b26_control_bytes_are_refused_everywhere(self, byte: int) -> None:
        bad = b"a%cb" % byte
        for fields in ([(b"Accept", bad)], [(b"X-Any", bad)], [(b"Host", bad)]):
            with pytest.raises(MalformedRequest, match="control characters"):
                send([*fields, (b"Accept", b"*/*")])
        for method, target, request_id in ((bad, b"/", b"r"), (b"GET", bad, b"r"), (b"GET", b"/", bad)):
            with pytest.raises(MalformedRequest, match="control characters"):
                send([HOST], method=method, target=target, request_id=request_id)

    @pytest.mark.parametrize("value", [b"a\r\nX-Evil: 1", b"a\r\n\r\nGET /evil HTTP/1.1\r\n\r\n"])
    def test_b26_a_value_can_not_break_out_of_its_line(self, value: bytes) -> None:
        with pytest.raises(MalformedRequest):
            send([HOST, (b"X-Any", value)])

    @pytest.mark.parametrize("name", [b"", b"X Y", b"X:Y", b"X\t", b"X\r\nY", b"\xff", b"X(", b'"X"'])
    def test_b26_a_name_that_is_no_token_is_refused(self, name: bytes) -> None:
        with pytest.raises(MalformedRequest, match="header name"):
            send([HOST, (name, b"1")])

    def test_two_hosts_are_refused(self) -> None:
        with pytest.raises(MalformedRequest, match="Host is repeated"):
            send([HOST, HOST])

    @pytest.mark.parametrize("host", [b'a"b', b"a\\b", b'a";for=evil;x="'])
    def test_a_host_can_not_break_out_of_its_quotes(self, host: bytes) -> None:
        with pytest.raises(MalformedRequest, match="Host"):
            send([(b"Host", host)])

    def test_b27_twins_by_underscore_are_not_merged(self) -> None:
        fields = [(b"Content_Length", b"9"), (b"Content-Length", b"1"), (b"X_Forwarded_For", b"2")]
        assert sorted(lines(fields)) == [b"Content-Length: 1", b"Content_Length: 9", b"X_Forwarded_For: 2"]

    def test_b28_chunked_stays_chunked(self) -> None:
        head = send([HOST, (b"transfer-encoding", b"Chunked")])
        assert head.chunked is True
        assert b"\r\ntransfer-encoding: Chunked\r\n" in head.data

    def test_b29_trailers_of_a_request_are_not_announced(self) -> None:
        assert lines([(b"Trailer", b"X-Sum")]) == []

    @pytest.mark.parametrize("framing", [(b"Content-Length", b"12"), (b"Transfer-Encoding", b"chunked")])
    def test_b30_a_body_that_was_rewritten_has_its_own_length_and_no_other(self, framing: tuple[bytes, bytes]) -> None:
        head = send([HOST, framing], content_length=34)
        assert head.chunked is False
        assert head.data.lower().count(b"content-length: 34\r\n") == 1
        assert head.data.lower().count(b"content-length") == 1
        assert b"transfer-encoding" not in head.data.lower()

    def test_b38_duplicates_keep_their_order(self) -> None:
        assert lines([(b"X-A", b"1"), (b"Cookie", b"a=1"), (b"x-a", b"2"), (b"Cookie", b"b=2")]) == [
            b"X-A: 1",
            b"Cookie: a=1",
            b"x-a: 2",
            b"Cookie: b=2",
        ]

    def test_b39_case_and_high_bytes_are_kept(self) -> None:
        assert lines([(b"x-CaSe", b"\xff\xc3\xa9\t"), (b"AUTHORIZATION", b"x")]) == [
            b"x-CaSe: \xff\xc3\xa9\t",
            b"AUTHORIZATION: x",
        ]

    def test_b40_b41_the_target_is_sent_as_it_is(self) -> None:
        head = send([HOST], target=b"//a%2Fb/../c;d?a=1;b=2&\xff")
        assert head.data.startswith(b"POST //a%2Fb/../c;d?a=1;b=2&\xff HTTP/1.1\r\n")

    @pytest.mark.parametrize("target", [b"/a b", b"/ HTTP/1.1"])
    def test_a_target_with_a_space_is_refused(self, target: bytes) -> None:
        with pytest.raises(MalformedRequest, match="space"):
            send([HOST], target=target)

    @pytest.mark.parametrize(
        "name",
        [b"Via", b"Forwarded", b"X-Forwarded-For", b"x-forwarded-proto", b"X-Forwarded-Host", b"X-FORWARDED-PORT",
         b"X-Forwarded-Prefix", b"X-Real-IP", b"X-Request-ID"],
    )  # fmt: skip
    def test_b43_what_a_client_says_of_its_origin_is_replaced(self, name: bytes) -> None:
        assert lines([(name, b"evil")]) == []

    def test_b43_an_address_of_ipv6_is_bracketed_and_quoted(self) -> None:
        data = send([HOST], peer="2001:db8::1").data
        assert b"\r\nX-Forwarded-For: 2001:db8::1\r\n" in data
        assert b'\r\nForwarded: for="[2001:db8::1]";proto=http;host="ai.local:8000"\r\n' in data

    def test_b44_the_clients_host_is_kept_unless_another_is_named(self) -> None:
        data = send([HOST], host=b"llm.example.com").data
        assert b"\r\nHost: llm.example.com\r\n" in data
        assert b"\r\nX-Forwarded-Host: ai.local:8000\r\n" in data
        assert data.count(b"\nHost:") == 1

    def test_a_request_without_host_gets_an_empty_one(self) -> None:
        data = send([]).data
        assert b"\r\nHost: \r\n" in data
        assert data.endswith(b"\r\nForwarded: for=10.0.0.9;proto=http\r\nX-Request-Id: r-1\r\n\r\n")

    def test_b45_no_user_agent_is_invented(self) -> None:
        assert b"user-agent" not in send([HOST]).data.lower()

    @pytest.mark.parametrize("name", [b"X-AI-Proxy-Service", b"x-ai-proxy-max-wait", b"X-Ai-Proxy-Anything"])
    def test_fields_to_the_proxy_are_never_forwarded(self, name: bytes) -> None:
        assert lines([(name, b"chat")]) == []


class TestSetFields:
    def test_a_configured_field_replaces_the_clients_in_any_case(self) -> None:
        fields = [(b"AUTHORIZATION", b"Bearer client"), (b"X-Org", b"1"), (b"x-org", b"2")]
        assert lines(fields, setting={"Authorization": "Bearer k", "x-org": "日"}) == [
            b"Authorization: Bearer k",
            "x-org: 日".encode(),
        ]

    def test_a_configured_host_is_the_only_one(self) -> None:
        data = send([HOST], setting={"host": "inner"}).data
        assert data.lower().count(b"\nhost:") == 1
        assert b"\r\nhost: inner\r\n" in data

    def test_connection_can_not_strip_a_configured_field(self) -> None:
        assert lines([(b"Connection", b"x-key")], setting={"X-Key": "1"}) == [b"X-Key: 1"]

    @pytest.mark.parametrize(
        ("name", "value"), [("X Y", "1"), ("", "1"), ("X", "a\r\nb"), ("X", "\0"), ("日", "1"), ("X", "\x7f")]
    )
    def test_what_http_can_not_carry_is_a_config_fault(self, name: str, value: str) -> None:
        with pytest.raises(ValueError, match="HTTP can't carry"):
            SetFields.of({name: value})

    @pytest.mark.parametrize(
        "name", ["Content-Length", "transfer-encoding", "Connection", "Via", "X-Request-Id", "TE", "Upgrade",
                 "X-AI-Proxy-Service", "X-Forwarded-For", "Forwarded", "Expect"]
    )  # fmt: skip
    def test_what_the_proxy_sets_itself_is_a_config_fault(self, name: str) -> None:
        with pytest.raises(ValueError, match="set by the proxy itself"):
            SetFields.of({name: "1"})

    def test_a_field_set_twice_is_a_config_fault(self) -> None:
        with pytest.raises(ValueError, match="two spellings"):
            SetFields.of({"X-Key": "1", "x-key": "2"})


class TestResponses:
    def test_b16_hop_by_hop_fields_are_removed(self) -> None:
        hops = [b"Connection", b"KEEP-ALIVE", b"Transfer-Encoding", b"Upgrade", b"Proxy-Authenticate", b"te"]
        assert answer(*((name, b"x") for name in hops), (b"Content-Type", b"text/plain")) == [
            (b"Content-Type", b"text/plain")
        ]

    def test_b17_fields_named_in_connection_are_removed(self) -> None:
        fields = [(b"X-Hop", b"1"), (b"Connection", b"X-Hop, content-length"), (b"Content-Length", b"5")]
        assert answer(*fields) == [(b"Content-Length", b"5")]

    def test_b38_b39_everything_else_stays_in_order_and_spelling(self) -> None:
        fields = [
            (b"Set-Cookie", b"a=1; Expires=Thu, 01 Jan 2026 00:00:00 GMT"),
            (b"set-cookie", b"b=2"),
            (b"Access-Control-Allow-Origin", b"*"),
            (b"Content-Length", b"5"),
            (b"Content-Encoding", b"gzip"),
            (b"X-\xc3\xa9", b"\xff"),
            (b"Server", b"llama.cpp"),
            (b"Trailer", b"X-Sum"),
        ]
        assert answer(*fields) == fields

    def test_an_engine_can_not_speak_for_the_proxy(self) -> None:
        assert answer((b"X-Request-ID", b"theirs"), (b"X-AI-Proxy-Service", b"evil")) == []


@pytest.mark.parametrize("value", [b"", b"a b", b"a\n", b"\xff", b'"', b"a" * 129, b"<script>"])
def test_a_request_id_that_is_not_harmless_is_not_taken_over(value: bytes) -> None:
    assert not is_request_id(value)


NAMES = st.sampled_from([b"Host", b"Connection", b"Via", b"Accept", b"Content-Length", b"Transfer-Encoding", b"TE"])
BYTES = st.binary(max_size=12)


@pytest.mark.slow
@given(st.lists(st.tuples(NAMES | BYTES, BYTES | st.sampled_from([b"1", b"chunked", b"close"])), max_size=6), BYTES)
def test_whatever_a_client_sends_a_head_is_one_head(fields: Pairs, target: bytes) -> None:
    try:
        head = send([(name, value) for name, value in fields], target=b"/" + target)
    except MalformedRequest:
        return
    first, *rest = head.data.removesuffix(b"\r\n\r\n").split(b"\r\n")
    assert first == b"POST /" + target + b" HTTP/1.1"
    names = [line.partition(b":")[0].lower() for line in rest]
    assert b"" not in names
    assert {b"\r", b"\n", b"\0"}.isdisjoint(head.data.replace(b"\r\n", b""))
    assert names.count(b"host") == names.count(b"via") == names.count(b"forwarded") == 1
    assert names.count(b"content-length") + names.count(b"transfer-encoding") <= 1
    assert head.chunked is (b"transfer-encoding" in names)
    assert b"connection" not in names
