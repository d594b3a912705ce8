"""Delays between attempts, and the default number of retries."""

from __future__ import annotations

import datetime
import email.utils
from typing import Any

__all__ = ["MOST_RETRY_AFTER", "DefaultRetries", "retry_after_seconds"]

# Most characters of a Retry-After field. A date has 29, or 33 in the oldest of its forms.
MOST_RETRY_AFTER = 64


class DefaultRetries(int):
    """Default number of retries, not set by the program. A request is not retried after a timeout then."""


def retry_after_seconds(retry_after: Any) -> float:
    """Returns the seconds of a Retry-After, which may be a date (RFC 9110 section 10.2.3); 0 if it is invalid."""
    text = retry_after[0] if isinstance(retry_after, list) else retry_after
    if not isinstance(text, str) or len(text) > MOST_RETRY_AFTER:
        return 0.0
    if text.isascii() and text.strip().isdigit():
        return float(text)
    try:
        at = email.utils.parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return 0.0
    now = datetime.datetime.now(datetime.timezone.utc)
    return max(0.0, (at - now if at.tzinfo else at.replace(tzinfo=datetime.timezone.utc) - now).total_seconds())
