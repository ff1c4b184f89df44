"""The promises themselves: a number, what is promised, and where the requirement comes from."""

from typing import Final, NamedTuple


class Promise(NamedTuple):
    """One row.

    Attributes:
        number: `b` or `l`, and two digits.
        text: What is promised, for a table of Markdown.
        source: Sections of RFCs, or whose behaviour it is.
    """

    number: str
    text: str
    source: str


BEHAVIOURS: Final = tuple(
    Promise(f"b{number:02d}", text, source)
    for number, (text, source) in enumerate(
        [
            # Client and stream
            ("A client that leaves before the answer's head has its engine's connection closed at once", "nginx, Go"),
            ("The same in the middle of a stream and of an upload, also while the client is not being read",
             "nginx, Go"),
            ("A client that leaves while it waits, leaves the queue; a start that nobody waits for is dropped", "ours"),
            ("With `on_disconnect: drain` the engine is read to the end instead, and the rest thrown away",
             "llama-swap #980"),
            ("A slow reader holds the engine back, in bounded memory", "RFC 9110 §3.3, Envoy"),
            ("A slow engine holds the uploading client back, in bounded memory", "RFC 9110 §3.3, Envoy"),
            ("A piece of the answer is passed on when it arrives", "RFC 9112 §7.1, Go `FlushInterval: -1`"),
            ("The answer's head is sent before its first body byte has come", "Go"),
            ("An engine that dies within a chunked body: no last chunk, connection closed", "RFC 9112 §8"),
            ("An engine that dies short of its Content-Length: connection closed", "RFC 9112 §8"),
            ("A body that ends with its connection is relayed; a reset is no end", "RFC 9112 §6.3 (8), §8"),
            ("A stream of events that breaks says why in one event, never `[DONE]`, and is broken off", "OpenAI's SSE"),
            ("An answer during the upload reaches the client; what is left of the upload is drained, within bounds",
             "RFC 9112 §9.5, §9.6"),
            ("A client's FIN means that it left; with `half_close: keep` only a reset or a failed write does",
             "RFC 9112 §9.6, nginx"),
            ("Pipelined requests are answered in order, and who leaves is noticed all the same", "RFC 9112 §9.3.2"),
            # Framing and fields
            ("Hop-by-hop fields end here, both ways", "RFC 9110 §7.6.1"),
            ("So do fields that `Connection` names, but never those a request needs, nor our own", "RFC 9110 §7.6.1"),
            ("An empty `Connection` is tolerated", "RFC 9110 §5.6.1.2"),
            ("Of `TE` only `trailers` passes", "RFC 9110 §10.1.4"),
            ("Content-Length beside Transfer-Encoding in a request: 400 and close", "RFC 9112 §6.1, §6.3 (3)"),
            ("Two Content-Lengths: 400", "RFC 9112 §6.3 (5)"),
            ("A Content-Length that is not only digits: 400", "RFC 9110 §8.6, RFC 9112 §6.3 (5)"),
            ("A Transfer-Encoding that is not exactly `chunked`: 400", "RFC 9112 §6.1, §6.3 (4)"),
            ("Bare LF or CR, and line ends within chunk extensions: 400", "RFC 9112 §2.2, §7.1.1"),
            ("Obsolete line folding: 400", "RFC 9112 §5.2"),
            ("Control bytes in a value, a name that is no token: 400", "RFC 9110 §5.1, §5.5, RFC 9112 §5.1"),
            ("Fields that differ by dash and underscore are never merged", "RFC 9110 §5.1"),
            ("Chunked request bodies are chunked anew, their extensions dropped", "RFC 9112 §7.1.1"),
            ("Trailers never become header fields, and none that frames, routes or authenticates passes",
             "RFC 9110 §6.5.1"),
            ("A known Content-Length is kept; never both framings", "RFC 9112 §6.2"),
            ("The answer to HEAD keeps its Content-Length and has no body", "RFC 9110 §9.3.2, RFC 9112 §6.3 (1)"),
            ("204 and 304 have no body; bytes after one close the connection",
             "RFC 9110 §15.3.5, §15.4.5, RFC 9112 §6.3 (1)"),
            ("Doubled or conflicting framing in a response: 502", "RFC 9112 §6.1, §6.3 (3, 5)"),
            ("Bytes after a body are passed to nobody, and end the connection", "RFC 9112 §9.2"),
            ("A head over the limit: 431 if it is the client's, 502 if the engine's", "RFC 6585 §5, RFC 9110 §5.4"),
            ("So many fields, and no more", "RFC 6585 §5"),
            ("A target over the limit: 414", "RFC 9110 §15.5.15, RFC 9112 §3"),
            ("Duplicates, each `Set-Cookie` among them, keep their order", "RFC 9110 §5.3"),
            ("Names keep their spelling, values every byte", "RFC 9110 §5.1, §5.5"),
            ("The raw path goes on unchanged and is never decoded twice", "RFC 9110 §7.7, RFC 3986 §2.4"),
            ("So does the query", "RFC 3986 §3.4"),
            ("An absolute target decides the Host and no address; CONNECT: 405; `OPTIONS *` is answered",
             "RFC 9112 §3.2.2–§3.2.4, RFC 9110 §9.3.6, §9.3.7"),
            ("Via, Forwarded and X-Forwarded-… are written anew, or appended to if the peer is trusted",
             "RFC 9110 §7.6.3, RFC 7239"),
            ("The Host is the client's for our own engines and the URL's for those elsewhere; `headers.host` sets it",
             "RFC 9110 §7.2"),
            ("No User-Agent is invented", "RFC 9110 §10.1.5, Go"),
            ("`Expect: 100-continue` is answered once the body is wanted; a final status comes instead where it is not",
             "RFC 9110 §10.1.1"),
            ("Other 1xx never end a response", "RFC 9110 §15.2, RFC 8297"),
            ("A flood of 1xx is capped", "Go, Envoy"),
            ("A 101 that nobody asked for: 502", "RFC 9110 §15.2.2, §7.8"),
            ("Trailers of a chunked response are passed on, announced or not", "RFC 9110 §6.5, RFC 9112 §7.1.2"),
            ("Content codings are never touched", "RFC 9110 §8.4, §7.7"),
            # Pool, deadlines, status
            ("A request on a stale connection is sent once more only if that can do no harm; a POST never",
             "RFC 9112 §9.3.1, RFC 9110 §9.2.2"),
            ("Our idle connections expire before the engines' do", "RFC 9112 §9.5"),
            ("Connect refused: 502; connect deadline: 504; a service that is starting is waited for",
             "RFC 9110 §15.6.3, §15.6.5"),
            ("The first byte has a deadline of its own", "RFC 9110 §15.6.5"),
            ("So has the silence between two reads", "RFC 9112 §9.5"),
            ("So has what the client sends: 408", "RFC 9110 §15.5.9"),
            ("A restarted replica sees no connection of its former life", "ours"),
            ("At the cap of connections one waits, with a deadline, then 503 and Retry-After",
             "RFC 9110 §15.6.4, §10.2.3"),
            ("Errors have the API's shape and a code, and show no address of an engine", "OpenAI's API, RFC 9110 §17"),
            ("502 broken engine, 503 not ready or overloaded, 504 deadline; 499 only in logs", "RFC 9110 §15.6, nginx"),
            ("A graceful end: nothing new, streams finished up to a deadline, then broken off; at once if told twice",
             "RFC 9112 §9.6"),
            # Upgrades
            ("An upgrade happens only if both sides agree, and then bytes pass as they are",
             "RFC 9110 §7.8, RFC 6455 §4"),
            ("Any other answer to an upgrade passes as it is", "RFC 6455 §4.2.2"),
            ("The management plane checks the Origin of what browsers send; it has no WebSocket", "RFC 6455 §10.2"),
            ("One access line a request: bytes, durations, and why it ended", "nginx, Envoy"),
        ],
        1,
    )
)  # fmt: skip

FAULTS: Final = tuple(
    Promise(f"l{number:02d}", text, source)
    for number, (text, source) in enumerate(
        [
            ("The Docker engine restarts, with or without its containers: found by inspection, served or started again",
             "dockerd, live-restore"),
            ("It is not there, or may not be asked: the proxy starts, what runs is served, management says degraded",
             "dockerd's socket"),
            ("It hangs: each call has its deadline, the data path does not notice, a late answer starts nothing twice",
             "dockerd, paused"),
            ("A replica is killed, or runs out of memory: streams are broken off, the cause is told",
             "kernel's OOM killer"),
            ("It exits at once, again and again: back-off, its last words to who waits, an operator may try at once",
             "crash loops"),
            ("It is never ready, or not yet: a deadline, waiters told, nothing left", "engines that hang in loading"),
            ("Its port is taken: another, or a clear error, and nothing left", "port races"),
            ("Its image is missing or can't be pulled, its name is taken: the cause; only what is ours is removed",
             "registries, name conflicts"),
            ("A start is answered with an error, or cut, after the engine did it: found by inspection, no second one",
             "dockerd's API"),
            ("The proxy is killed: its containers are adopted, its processes end, and a second one does not start",
             "kill -9"),
            ("What was left behind is adopted or gone before anything is scheduled in its place", "orphans"),
            ("Many first requests at once are one start", "thundering herds"),
            ("Orders that cross each other are carried out one by one; the last one stands",
             "stop during start, reload"),
            ("A request in the moment of an idle stop waits for the next life", "idle races"),
            ("A replica that ignores SIGTERM is killed after its grace, and its room is free only then",
             "stubborn engines"),
            ("A disk that is full or read-only, a state file that is spoilt: serving goes on", "disks"),
            ("A faulty config: refused with line and key; at a reload the old one stays", "typing errors"),
            ("Clock jumps, too many files, thousands of idle clients: monotonic timers, bounded use",
             "operating systems"),
            ("Floods of log lines are bounded and hold nobody up; a cut stream is told", "chatty engines"),
            ("A GPU that is gone is told, and not tried for ever", "drivers"),
            ("Events that come twice, late, cut or as nonsense are only hints", "dockerd's event stream"),
            ("A port that somebody else took over is asked nothing", "port reuse"),
        ],
        1,
    )
)  # fmt: skip
