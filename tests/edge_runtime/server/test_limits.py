"""Limits by address."""

from __future__ import annotations

from edge_runtime.server.limits import Connections, WrongTokens, group_of


def test_wrong_tokens_of_one_address_run_out_and_come_back_slowly() -> None:
    now = [0.0]
    wrong = WrongTokens(most=3, every_s=6.0, monotonic=lambda: now[0])
    for _ in range(3):
        assert wrong.wait_s("192.0.2.1") == 0
        wrong.failed("192.0.2.1")
    assert wrong.wait_s("192.0.2.1") == 6
    assert wrong.wait_s("192.0.2.2") == 0
    now[0] = 5.0
    assert wrong.wait_s("192.0.2.1") == 1
    now[0] = 6.0
    assert wrong.wait_s("192.0.2.1") == 0
    now[0] = 1e6
    for _ in range(3):
        assert wrong.wait_s("192.0.2.1") == 0
        wrong.failed("192.0.2.1")
    assert wrong.wait_s("192.0.2.1") > 0


def test_memory_of_addresses_is_bounded() -> None:
    wrong = WrongTokens()
    for number in range(10_000):
        wrong.failed(f"10.0.{number // 256}.{number % 256}")
    assert len(wrong._left) <= 4096


def test_a_household_of_ipv6_is_one_address() -> None:
    assert group_of("2001:db8::1") == group_of("2001:db8::ffff:1")
    assert group_of("2001:db8:0:1::1") != group_of("2001:db8::1")
    assert group_of("::ffff:192.0.2.1") == group_of("192.0.2.1")
    assert group_of("fe80::1%eth0") == group_of("fe80::2")


def test_connections_are_counted_in_all_and_each() -> None:
    connections = Connections(most=5, most_each=3)
    assert [connections.open("192.0.2.1") for _ in range(4)] == [True, True, True, False]
    assert [connections.open("192.0.2.2") for _ in range(3)] == [True, True, False]
    connections.close("192.0.2.1")
    assert connections.open("192.0.2.2")
    assert len(connections) == 5
