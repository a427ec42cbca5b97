"""XDP on an interface: what its driver can, from the kernel's `netdev` generic netlink family (Linux 6.3 and later),
and what is attached, from its routing family.

Source: the kernel's Documentation/netlink/specs/netdev.yaml, include/uapi/linux/netdev.h, genetlink.h and if_link.h.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Iterator
from typing import NamedTuple

__all__ = ["XdpFeatures", "attributes", "xdp_features", "xdp_program"]

_NETLINK_GENERIC = 16
_GENL_ID_CTRL = 16
_CTRL_CMD_GETFAMILY, _CTRL_ATTR_FAMILY_ID, _CTRL_ATTR_FAMILY_NAME = 3, 1, 2
_NETDEV_CMD_DEV_GET, _NETDEV_A_DEV_IFINDEX = 1, 1
_NETDEV_A_DEV_XDP_FEATURES, _NETDEV_A_DEV_XDP_RX_METADATA = 3, 5
_RTM_GETLINK, _IFINFOMSG_BYTES = 18, 16
_IFLA_XDP, _IFLA_XDP_PROG_ID = 43, 4
_NLM_F_REQUEST, _NLMSG_ERROR = 1, 2
_HEADER = struct.Struct("=IHHII")  # nlmsghdr: length, type, flags, sequence, port
_ERROR = struct.Struct("=i")
_ATTRIBUTE = struct.Struct("=HH")
_TIMEOUT_SECONDS = 0.5


class XdpFeatures(NamedTuple):
    """What a driver can do with XDP."""

    features: int
    """NETDEV_XDP_ACT_*: 1 native programs, 2 redirect, 8 zero-copy AF_XDP, 32 frames in several buffers."""
    metadata: int = 0
    """NETDEV_XDP_RX_METADATA_*: 1 hardware time stamps, 2 hash, 4 VLAN tag."""

    @property
    def is_native(self) -> bool:
        """Whether the driver itself runs programs."""
        return bool(self.features & 1)

    @property
    def is_zero_copy(self) -> bool:
        """Whether frames may be received into user memory by the card."""
        return bool(self.features & 8)

    @property
    def has_timestamps(self) -> bool:
        """Whether a program may read the card's receive time."""
        return bool(self.metadata & 1)


def xdp_features(ifindex: int) -> XdpFeatures:
    """Asks the kernel. Raises OSError; ENOENT or EOPNOTSUPP from a kernel that does not tell."""
    with _connect(_NETLINK_GENERIC) as connection:
        name = _attribute(_CTRL_ATTR_FAMILY_NAME, b"netdev\0")
        family = attributes(_ask(connection, _GENL_ID_CTRL, _generic(_CTRL_CMD_GETFAMILY, name))[4:])
        number = int.from_bytes(family[_CTRL_ATTR_FAMILY_ID], "little" if _is_little() else "big")
        which = _attribute(_NETDEV_A_DEV_IFINDEX, struct.pack("=I", ifindex))
        found = attributes(_ask(connection, number, _generic(_NETDEV_CMD_DEV_GET, which))[4:])
    return XdpFeatures(_u64(found.get(_NETDEV_A_DEV_XDP_FEATURES)), _u64(found.get(_NETDEV_A_DEV_XDP_RX_METADATA)))


def xdp_program(ifindex: int) -> int:
    """The number of the XDP program on an interface, whoever put it there; 0 for none. Raises OSError."""
    with _connect(socket.NETLINK_ROUTE) as connection:
        body = struct.pack("=BxHiII", socket.AF_UNSPEC, 0, ifindex, 0, 0)
        found = attributes(_ask(connection, _RTM_GETLINK, body)[_IFINFOMSG_BYTES:])
    number = attributes(found.get(_IFLA_XDP, b"")).get(_IFLA_XDP_PROG_ID, b"")
    return struct.unpack("=I", number)[0] if len(number) == 4 else 0


def _connect(family: int) -> socket.socket:
    connection = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, family)
    connection.settimeout(_TIMEOUT_SECONDS)
    connection.bind((0, 0))
    return connection


def _generic(command: int, body: bytes) -> bytes:
    """A generic family's header before its attributes."""
    return struct.pack("=BBH", command, 1, 0) + body


def _is_little() -> bool:
    return struct.pack("=H", 1) == b"\1\0"


def _u64(value: bytes | None) -> int:
    return struct.unpack("=Q", value)[0] if value is not None and len(value) == 8 else 0


def _attribute(kind: int, value: bytes) -> bytes:
    length = _ATTRIBUTE.size + len(value)
    return _ATTRIBUTE.pack(length, kind) + value + bytes(-length % 4)


def _ask(connection: socket.socket, kind: int, body: bytes) -> bytes:
    """What the one answer to one request holds behind the message's header."""
    connection.send(_HEADER.pack(_HEADER.size + len(body), kind, _NLM_F_REQUEST, 1, 0) + body)
    answer = connection.recv(65536)
    if len(answer) < _HEADER.size + _ERROR.size:
        raise OSError(errno.EBADMSG, os.strerror(errno.EBADMSG))
    length, answered, *_ = _HEADER.unpack_from(answer)
    if answered == _NLMSG_ERROR:
        code = -_ERROR.unpack_from(answer, _HEADER.size)[0]
        raise OSError(code, os.strerror(code))
    return answer[_HEADER.size : length]


def attributes(data: bytes) -> dict[int, bytes]:
    """Netlink attributes by their number; what is cut off or makes no sense ends the list."""
    return dict(_walk(data))


def _walk(data: bytes) -> Iterator[tuple[int, bytes]]:
    offset = 0
    while offset + _ATTRIBUTE.size <= len(data):
        length, kind = _ATTRIBUTE.unpack_from(data, offset)
        if length < _ATTRIBUTE.size or offset + length > len(data):
            return
        yield kind & 0x3FFF, data[offset + _ATTRIBUTE.size : offset + length]
        offset += (length + 3) & ~3
