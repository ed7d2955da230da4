"""What an output takes over from its source beside mode and times."""

from __future__ import annotations

import errno
import os
import struct

import pytest
from byte_chains import file_item, publish, run_item
from mpp_stages.write import WriteStage
from mpp_stages.zstd import ZstdStage


def set_or_skip(path: str, name: str, value: bytes) -> None:
    try:
        os.setxattr(path, name, value)
    except OSError as ex:
        if ex.errno in (errno.EOPNOTSUPP, errno.EPERM):
            pytest.skip(f"{name} cannot be set here")
        raise


def copied(folder, name: str, value: bytes) -> dict[str, bytes]:
    """The attributes of the output of a file that has this one."""
    (folder / "x").write_bytes(b"data")
    set_or_skip(folder / "x", name, value)
    item = file_item(folder / "x", folder / "y")
    run_item([ZstdStage(), WriteStage()], item, serial=True)
    publish(item)
    return {found: os.getxattr(folder / "y", found) for found in os.listxattr(folder / "y")}


def test_attributes_of_users_are_kept(tmp_path):
    """With any bytes in them."""
    assert copied(tmp_path, "user.origin", b"\0\xff")["user.origin"] == b"\0\xff"


def test_capabilities_are_not_given_to_other_content(tmp_path):
    """They are for the program that the source is."""
    capability = struct.pack("<IIIII", 0x02000001, 1 << 10, 0, 0, 0)
    assert "security.capability" not in copied(tmp_path, "security.capability", capability)


def test_an_access_control_list_is_kept_with_its_owner(tmp_path):
    """User 4242 may read the output as the source."""
    undefined = 0xFFFFFFFF
    entries = [(1, 6, undefined), (2, 4, 4242), (4, 0, undefined), (16, 4, undefined), (32, 0, undefined)]
    acl = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)
    assert copied(tmp_path, "system.posix_acl_access", acl)["system.posix_acl_access"] == acl
