import socket

from sandbox.ports import FIRST, LAST, LOOPBACK, free_port, is_free


def test_a_free_port_can_be_listened_on() -> None:
    port = free_port()
    assert FIRST <= port <= LAST
    with socket.socket() as server:
        server.bind((LOOPBACK, port))
        server.listen()
        assert not is_free(port)
