"""Addresses, HOST:PORT."""

from commonwatt.network.addresses import split_address


def test_address_is_split_at_its_last_colon() -> None:
    assert split_address("127.0.0.1:1883") == ("127.0.0.1", 1883)
    assert split_address("[::1]:9101") == ("::1", 9101)
