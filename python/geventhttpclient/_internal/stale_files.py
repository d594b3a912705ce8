"""Detection of version 2's files in the package directory, which Python would import instead of those of version 3."""

from __future__ import annotations

from pathlib import Path
from typing import NoReturn

from geventhttpclient._version import __version__


def refuse(module: str, cause: ImportError | None = None) -> NoReturn:
    """Raises ImportError, which names the files to remove, if another file shadows a module of this package.

    In version 2, `_parser` is an extension module, which Python prefers to `_parser.py`. It still exists if this
    version was unpacked over version 2, or copied over it by a layer of an image. Raises `cause` if there is no such
    file.
    """
    directory = Path(__file__).parent.parent
    left = sorted(str(path) for path in directory.glob(f"{module}.*") if path.name != f"{module}.py")
    if not left and cause is not None:
        raise cause
    files = " and ".join(left) or f"the file that geventhttpclient.{module} was imported from"
    raise ImportError(
        f"geventhttpclient {__version__} was installed over version 2, whose geventhttpclient.{module} is imported in "
        f"place of {directory / module}.py: remove {files}, or the whole directory, and install the package again",
        name=f"geventhttpclient.{module}",
        path=left[0] if left else None,
    ) from cause
