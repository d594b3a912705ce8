"""File names that a server proposes (RFC 6266), made safe."""

from __future__ import annotations

import os
import re
from urllib.parse import unquote, unquote_to_bytes

from geventhttpclient._internal.field_reader import BLANKS, TOKEN, FieldReader
from geventhttpclient.cli.printable import without_invisible

# Maximum bytes of a name. File systems allow 255, and the directory of a partial download has a longer name.
_MAX_BYTES = 200

_BEFORE_PARAMETER = re.compile(r"[^;]*")
_VALUE = re.compile(r'[^\s;"]*')

# Characters with a special meaning for systems, shells or terminals.
_HARMFUL = re.compile(r'[\x00-\x1f\x7f-\x9f<>:"|?*\u200e\u200f\u2028-\u202e\u2066-\u2069]')

# A leading dot hides a file or names a directory; blanks before it are hard to see.
_HIDING = ". \xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u202f\u205f\u3000"

_FALLBACK = "download"


def choose(content_disposition: str | list[str] | None, path: str) -> str:
    """Returns the name from Content-Disposition, else the last segment of the URL's path, else `download`."""
    if isinstance(content_disposition, list):
        content_disposition = content_disposition[0]
    proposed = _proposed(content_disposition) if content_disposition else None
    return safe(proposed or "") or safe(unquote(path.rpartition("/")[2])) or _FALLBACK


def _proposed(field: str) -> str | None:
    """Returns `filename*`, or else `filename` (RFC 6266 section 4.3)."""
    found: dict[str, str] = {}
    reader = FieldReader(field)
    reader.run(_BEFORE_PARAMETER)
    # RFC 6266 section 4.1: a token or a quoted string.
    while reader.take(";"):
        reader.run(BLANKS)
        name = reader.run(TOKEN)
        reader.run(BLANKS)
        if name and reader.take("="):
            reader.run(BLANKS)
            quoted = reader.quoted()
            value = reader.run(_VALUE) if quoted is None else quoted
            found.setdefault(name.lower(), "" if reader.is_cut else value)
        reader.run(_BEFORE_PARAMETER)
    extended = _extended(found.get("filename*", ""))
    if extended:
        return extended
    plain = found.get("filename")
    if plain is None:
        return None
    # Fields are decoded as Latin-1: many servers send UTF-8.
    try:
        return plain.encode("latin-1").decode()
    except UnicodeError:
        return plain


def _extended(value: str) -> str | None:
    """Decodes charset'language'percent-encoded (RFC 8187). Returns None if it is malformed."""
    charset, _, rest = value.partition("'")
    _, quote, encoded = rest.partition("'")
    if not quote or charset.lower() not in ("utf-8", "iso-8859-1"):
        return None
    try:
        return unquote_to_bytes(encoded).decode(charset)
    except UnicodeDecodeError:
        return None


def safe(name: str) -> str:
    """Returns the last part of a path of any system as a safe file name, or "" if nothing is left of it.

    The name has no control characters and no invisible ones. It does not begin with a dot, which would hide it or name
    a directory, nor with a hyphen, which would make it an option.
    """
    last = re.split(r"[/\\]", name)[-1]
    last = without_invisible(_HARMFUL.sub("_", last)).strip(_HIDING)
    if last.startswith("-"):
        last = "_" + last[1:]
    stem, extension = os.path.splitext(last)
    extension = _cut(extension, 20)
    return _cut(stem, _MAX_BYTES - len(extension.encode())) + extension


def _cut(text: str, size: int) -> str:
    return text.encode("utf-8", "replace")[:size].decode(errors="ignore")
