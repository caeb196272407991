"""Run a command where the network is loopback only, and say so.

    python tests/air_gap/alone.py make test

The command gets a network namespace of its own (`man 7 network_namespaces`): it has one interface, loopback,
and no way out, for Python and for everything else. Linux lets root do that. Elsewhere the command runs on the
network that there is, which is said, too; `outside` can watch it there.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import socket
import struct
import sys

NEW_NETWORK = 0x40000000  # CLONE_NEWNET of <sched.h>
READ_FLAGS, WRITE_FLAGS = 0x8913, 0x8914  # SIOCGIFFLAGS, SIOCSIFFLAGS of <linux/sockios.h>
UP = 0x1  # IFF_UP of <net/if.h>
INTERFACE = struct.Struct("16sh22x")  # `struct ifreq` with its flags


def leave() -> None:
    """Leave the network for one with nothing but loopback. Raises `OSError` where that is not allowed."""
    library = ctypes.CDLL(None, use_errno=True)
    if not hasattr(library, "unshare"):
        raise OSError("there are no namespaces on this system")
    if library.unshare(NEW_NETWORK):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    with socket.socket(type=socket.SOCK_DGRAM) as any_socket:
        found = fcntl.ioctl(any_socket, READ_FLAGS, INTERFACE.pack(b"lo", 0))
        name, flags = INTERFACE.unpack(found)
        fcntl.ioctl(any_socket, WRITE_FLAGS, INTERFACE.pack(name, flags | UP))


def main(command: list[str]) -> None:
    """Become that command."""
    try:
        leave()
    except OSError as error:
        print(f"network: as it is, for no namespace of its own can be had here ({error})", flush=True)
    else:
        print("network: loopback only, in a namespace of its own", flush=True)
    os.execvp(command[0], command)


if __name__ == "__main__":
    main(sys.argv[1:])
