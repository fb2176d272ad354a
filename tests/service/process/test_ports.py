import socket

import pytest

from service.errors import CannotListen
from service.process.ports import bind_socket, hold_address, url_of


def test_an_address_where_a_server_listens_is_refused_even_if_that_would_share_it() -> None:
    for shared in (False, True):
        with bind_socket("127.0.0.1", 0, shared=shared) as server:
            server.listen()
            port = server.getsockname()[1]
            with pytest.raises(CannotListen, match=str(port)):
                bind_socket("127.0.0.1", port)
            with pytest.raises(CannotListen, match=str(port)), hold_address("127.0.0.1", port):
                pass


def test_a_held_address_is_for_those_that_share_it() -> None:
    with hold_address("127.0.0.1", 0) as holder:
        port = holder.getsockname()[1]
        one = bind_socket("127.0.0.1", port, shared=True)
        other = bind_socket("127.0.0.1", port, shared=True)
        with one, other:
            one.listen()
            other.listen()
            with socket.create_connection(("127.0.0.1", port)):
                pass
        with pytest.raises(ConnectionRefusedError):  # the holder itself takes no connection
            socket.create_connection(("127.0.0.1", port))


def test_an_address_of_another_machine_is_refused() -> None:
    with pytest.raises(CannotListen, match=r"192\.0\.2\.1"):
        bind_socket("192.0.2.1", 0)


def test_the_url_of_a_socket_names_its_port_and_brackets_ipv6() -> None:
    with bind_socket("127.0.0.1", 0) as listener:
        assert url_of(listener) == f"http://127.0.0.1:{listener.getsockname()[1]}"
    if socket.has_ipv6:
        with bind_socket("::1", 0) as listener:
            assert url_of(listener) == f"http://[::1]:{listener.getsockname()[1]}"


@pytest.mark.skipif(not socket.has_ipv6, reason="this machine has no IPv6")
def test_every_interface_of_ipv6_is_every_one_of_ipv4_too_and_another_address_is_not() -> None:
    for host, reached in (("::", True), ("::1", False)):
        with bind_socket(host, 0) as listener:
            listener.listen()
            port = listener.getsockname()[1]
            socket.create_connection(("::1", port)).close()
            if reached:
                socket.create_connection(("127.0.0.1", port)).close()
            else:
                with pytest.raises(ConnectionRefusedError):
                    socket.create_connection(("127.0.0.1", port))
