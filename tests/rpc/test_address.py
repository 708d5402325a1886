"""Addresses that are typed, and which of them let the world in."""

import pytest

from tvm_bnn.errors import DeviceError, InputError
from tvm_bnn.rpc.address import Address, check_exposure, parse_address


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("127.0.0.1:9090", "127.0.0.1", 9090),
        ("pi4.local:1", "pi4.local", 1),
        ("[::1]:65535", "::1", 65535),
        ("[fe80::1%eth0]:9090", "fe80::1%eth0", 9090),
    ],
)
def test_address_is_read_and_written_back(text, host, port):
    assert parse_address(text) == Address(host, port)
    assert str(parse_address(text)) == text


@pytest.mark.parametrize(
    "text",
    ["localhost", ":9090", "::1:9090", "host:", "host:port", "host:0", "host:65536", "tcp://host:1", "a b:1", ""],
)
def test_what_is_no_address_is_told_the_form(text):
    with pytest.raises(InputError, match=r"HOST:PORT is needed, with a port from 1 to 65535"):
        parse_address(text)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "127.1"])
def test_programs_of_this_machine_need_no_warning(host):
    assert check_exposure(host, False, "it") is None


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "", "0", "0x0"])
def test_every_network_has_to_be_asked_for(host):
    with pytest.raises(InputError, match=r"is every network of this machine.*--expose-to-network"):
        check_exposure(host, False, "it")
    assert "runs any code as this user" in (check_exposure(host, True, "it") or "")


def test_another_interface_is_warned_of():
    assert "TVM's RPC executes whatever it is sent" in (check_exposure("192.0.2.7", False, "it") or "")


def test_unknown_host():
    with pytest.raises(DeviceError, match=r"cannot listen at 'nowhere\.invalid'"):
        check_exposure("nowhere.invalid", False, "it")
