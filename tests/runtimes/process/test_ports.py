"""Ports for engines: free now, and not ours by accident a moment later."""

import socket

from ai_proxy.runtimes.process.ports import free_port, is_free


def test_a_port_with_a_server_is_not_free() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert not is_free(server.getsockname()[1])


def test_a_port_whose_server_has_just_ended_is_free_though_a_connection_of_it_lingers() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with socket.create_connection(server.getsockname()) as client:
            server.accept()[0].close()
            assert client.recv(1) == b""
    assert is_free(port)


def test_a_free_port_can_be_bound() -> None:
    port = free_port(avoid=())
    with socket.create_server(("127.0.0.1", port)):
        assert not is_free(port)


def test_a_port_to_avoid_is_never_chosen() -> None:
    avoid = {free_port(avoid=()) for _ in range(100)}
    assert free_port(avoid) not in avoid


def test_where_every_preferred_port_is_taken_the_kernel_chooses() -> None:
    class All:
        """Every port: then the kernel chooses."""

        def __contains__(self, port: object) -> bool:
            return True

    assert free_port(avoid=All()) > 0


def test_a_chosen_port_is_outside_the_range_of_outgoing_connections() -> None:
    outgoing = []
    with socket.create_server(("127.0.0.1", 0)) as server:
        for _ in range(20):
            with socket.create_connection(server.getsockname()) as client:
                outgoing.append(client.getsockname()[1])
    assert free_port(avoid=()) < min(outgoing)
