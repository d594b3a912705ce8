"""Renames a file without replacing another one."""

from __future__ import annotations

import ctypes
import errno
import os
import sys
from pathlib import Path

# The C function that renames and refuses to replace, its flag for that, and the directory of relative paths.
_FUNCTION, _NO_REPLACE, _AT_FDCWD = ("renameatx_np", 4, -2) if sys.platform == "darwin" else ("renameat2", 1, -100)

# Errors of a system or a file system that does not have the flag.
_UNSUPPORTED = frozenset({errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP})

# Errors of os.link if the file system has no hard links, or if its rules forbid this one.
_NO_LINKS = _UNSUPPORTED | {errno.EPERM, errno.EACCES, errno.EMLINK, errno.EXDEV}


def rename_new(name: str, target: Path, directory: int) -> None:
    """Renames `name`, which is in the open `directory`. Raises FileExistsError if there is a file called `target`.

    The operation is atomic, even if the process is killed. If the system can neither rename without replacing nor
    make hard links, the target is checked first: a file that another process creates there between the check and the
    renaming is replaced.
    """
    try:
        _rename_without_replacing(name, target, directory)
        return
    except OSError as error:
        if error.errno not in _UNSUPPORTED:
            raise
    try:
        os.link(name, target, src_dir_fd=directory)
        return
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
    if os.path.lexists(target):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target))
    os.replace(name, target, src_dir_fd=directory)


def _rename_without_replacing(name: str, target: Path, directory: int) -> None:
    function = getattr(ctypes.CDLL(None, use_errno=True), _FUNCTION, None)
    if function is None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS), str(target))
    function.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint)
    if function(directory, os.fsencode(name), _AT_FDCWD, os.fsencode(target), _NO_REPLACE) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), str(target))
