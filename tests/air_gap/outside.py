"""Does anything of ours try to leave this machine? Not while this looks on.

    PYTHONPATH=tests/air_gap python -m pytest -p no_way_out …

Python tells an audit hook of every connection and every look-up before it is made. Those that lead further
than loopback fail as if the network were off, and are written down, so that code which catches the error is
found out all the same: the test during which it happened fails. Python processes that a test starts inherit
the hook (`sitecustomize`, beside this file). Libraries that open sockets without Python are out of its sight:
a network namespace without a network shows what they do.

Names and addresses that are reserved for documentation and tests lead nowhere: they fail, and are no attempt.
"""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
import sys
from pathlib import Path
from typing import Any

VARIABLE = "EVALKIT_AIR_GAP"
"""The file that attempts are written to, one a line."""

NOWHERE = tuple(
    map(ipaddress.ip_network, ("192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24", "2001:db8::/32"))
)
RESERVED = (".invalid", ".test", ".example", "example.com", "example.org", "example.net")
NO_NAME = "socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyname_ex", "socket.gethostbyaddr"
NO_WAY = "socket.connect", "socket.sendto", "socket.sendmsg"


def watch() -> None:
    """Look on from now until this process ends: an audit hook cannot be taken away."""
    sys.addaudithook(_hook)


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    if event in NO_NAME:
        host = _text(arguments[0])
        if host and not _is_here(host):
            _write_down(event, host, host)
            raise socket.gaierror(socket.EAI_NONAME, "the network is off")
    elif event in NO_WAY:
        connection, address = arguments[0], arguments[1]
        if address is None or connection.family not in (socket.AF_INET, socket.AF_INET6):
            return
        if not _is_here(host := _text(address[0])):
            _write_down(event, host, f"{host}:{address[1]}")
            raise OSError(errno.ENETUNREACH, "the network is off")


def _text(host: Any) -> str:
    return host.decode("utf-8", "replace") if isinstance(host, bytes) else str(host or "")


def _is_here(host: str) -> bool:
    if host in ("", "localhost", "ip6-localhost", socket.gethostname()) or host.endswith(".localhost"):
        return True
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return address.is_loopback or address.is_unspecified


def _leads_nowhere(host: str) -> bool:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host.rstrip(".").endswith(RESERVED)
    return any(address in network for network in NOWHERE)


def _write_down(event: str, host: str, where: str) -> None:
    path = os.environ.get(VARIABLE)
    if path is None or _leads_nowhere(host):
        return
    who = " ".join(" ".join(sys.orig_argv).split())[:200]
    with Path(path).open("a", encoding="utf-8") as file:
        file.write(f"{event} {where} by {who}\n")


def attempts() -> list[str]:
    """What was written down until now."""
    path = os.environ.get(VARIABLE)
    return Path(path).read_text("utf-8").splitlines() if path and Path(path).exists() else []
