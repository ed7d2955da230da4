"""What a file has beside its content, mode and times: extended attributes, access control lists among them."""

from __future__ import annotations

import errno
import os
from typing import Final

#: An access control list is about the owner and the group too, so it is right only for a file that has got both.
_ACL: Final = ("system.posix_acl_access", "system.nfs4_acl")
#: Of others, what users set. Not ``security.``: labels are the system's to give, and capabilities and signatures are
#: for the source's content, not for what has been made of it.
_PREFIXES: Final = ("user.", "trusted.")
#: The target's file system has no such thing, or no room for it, or we may not. The data are none the worse for it.
_REFUSALS: Final = (
    errno.EOPNOTSUPP,
    errno.EPERM,
    errno.EACCES,
    errno.ENOSYS,
    errno.EINVAL,
    errno.E2BIG,
    errno.ERANGE,
    errno.ENOSPC,
    errno.EDQUOT,
)


def copy_extended_attributes(source_path: str, source: os.stat_result, descriptor: int) -> None:
    """Give a file the source's extended attributes, as far as its file system takes them.

    Args:
        source: Says whose the source is; the file has its final owner and mode already.

    Raises:
        OSError: The source cannot be asked, or the file is in trouble.
    """
    try:
        names = os.listxattr(source_path)
    except OSError as ex:
        if ex.errno in _REFUSALS:
            return
        raise
    for name in names:
        if name.startswith(_PREFIXES) or (name in _ACL and _has_owner_of(source, descriptor)):
            try:
                os.setxattr(descriptor, name, os.getxattr(source_path, name))
            except OSError as ex:
                # ENODATA: somebody has just taken it away.
                if ex.errno not in (*_REFUSALS, errno.ENODATA):
                    raise


def _has_owner_of(source: os.stat_result, descriptor: int) -> bool:
    own = os.fstat(descriptor)
    return (own.st_uid, own.st_gid) == (source.st_uid, source.st_gid)


__all__ = ["copy_extended_attributes"]
