"""Why an answer that somebody may have expected to be stored was not, in words for the log.

Rule: it is said of successful answers under a rule with a ttl, and only where the answer is the
reason: that errors are not stored needs no explanation.
"""

from memoserve._policy import ResponseHead, Terms

__all__ = ["why_unstored"]


def why_unstored(head: ResponseHead, terms: Terms, *, is_whole: bool) -> str:
    """Return the reason; empty if nobody would ask."""
    if terms.ttl is None or not 200 <= head.status < 300 or head.status == 206:
        return ""
    status, keeps_out = head.status, {b"private", b"no-store"}
    reasons = (
        (head.has_cookie, "it sets a cookie"),
        (b"*" in head.vary, "it varies on more than the request says (Vary: *)"),
        (
            head.is_for_once or head.directives.keys() & keeps_out,
            "it says so itself (Cache-Control, Expires)",
        ),
        (not terms.allow(head), f"its status is {status}, which is none of the rule's statuses"),
        (status != 200, f"its status is {status}, so that it has to state a lifetime itself"),
        (not is_whole, "it did not end as it should (Content-Length, `ends_with`)"),
    )
    return next((reason for holds, reason in reasons if holds), "")
