"""XDP features of an interface, from the kernel's `netdev` generic netlink family (Linux 6.3 and later).

Source: the kernel's Documentation/netlink/specs/netdev.yaml, include/uapi/linux/netdev.h and genetlink.h.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Iterator
from typing import NamedTuple

__all__ = ["XdpFeatures", "attributes", "xdp_features"]

_NETLINK_GENERIC = 16
_GENL_ID_CTRL = 16
_CTRL_CMD_GETFAMILY, _CTRL_ATTR_FAMILY_ID, _CTRL_ATTR_FAMILY_NAME = 3, 1, 2
_NETDEV_CMD_DEV_GET, _NETDEV_A_DEV_IFINDEX = 1, 1
_NETDEV_A_DEV_XDP_FEATURES, _NETDEV_A_DEV_XDP_RX_METADATA = 3, 5
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
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_GENERIC) as connection:
        connection.settimeout(_TIMEOUT_SECONDS)
        connection.bind((0, 0))
        name = _attribute(_CTRL_ATTR_FAMILY_NAME, b"netdev\0")
        family = attributes(_ask(connection, _GENL_ID_CTRL, _CTRL_CMD_GETFAMILY, name))
        number = int.from_bytes(family[_CTRL_ATTR_FAMILY_ID], "little" if _is_little() else "big")
        which = _attribute(_NETDEV_A_DEV_IFINDEX, struct.pack("=I", ifindex))
        found = attributes(_ask(connection, number, _NETDEV_CMD_DEV_GET, which))
    return XdpFeatures(_u64(found.get(_NETDEV_A_DEV_XDP_FEATURES)), _u64(found.get(_NETDEV_A_DEV_XDP_RX_METADATA)))


def _is_little() -> bool:
    return struct.pack("=H", 1) == b"\1\0"


def _u64(value: bytes | None) -> int:
    return struct.unpack("=Q", value)[0] if value is not None and len(value) == 8 else 0


def _attribute(kind: int, value: bytes) -> bytes:
    length = _ATTRIBUTE.size + len(value)
    return _ATTRIBUTE.pack(length, kind) + value + bytes(-length % 4)


def _ask(connection: socket.socket, family: int, command: int, body: bytes) -> bytes:
    """The attributes of the one answer to one request."""
    payload = struct.pack("=BBH", command, 1, 0) + body
    connection.send(_HEADER.pack(_HEADER.size + len(payload), family, _NLM_F_REQUEST, 1, 0) + payload)
    answer = connection.recv(65536)
    if len(answer) < _HEADER.size + _ERROR.size:
        raise OSError(errno.EBADMSG, os.strerror(errno.EBADMSG))
    length, kind, *_ = _HEADER.unpack_from(answer)
    if kind == _NLMSG_ERROR:
        code = -_ERROR.unpack_from(answer, _HEADER.size)[0]
        raise OSError(code, os.strerror(code))
    return answer[_HEADER.size + 4 : length]


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
