"""How a key of the configuration is described, and the kinds of values that several keys share.

Rule: a key says what it means and what it may be once, here in its type; schema, documentation
and messages follow from that.
"""

from typing import Annotated

import msgspec
from msgspec import Meta

__all__ = [
    "BYTES", "FUNCTION", "IMPORT", "NAMES", "POINTERS", "Fraction", "Import", "Port",
    "PositiveSeconds", "Seconds", "Size", "Text", "allowed_for", "key", "meaning_of",
]  # fmt: skip

Seconds = Annotated[float, Meta(ge=0)]
PositiveSeconds = Annotated[float, Meta(gt=0)]
Fraction = Annotated[float, Meta(ge=0, le=1)]
Size = (
    Annotated[int, Meta(gt=0)]
    | Annotated[str, Meta(pattern=r"^[1-9][0-9]{0,17}([kKmMgG][bB])?$", examples=["256mb"])]
)
Text = Annotated[str, Meta(min_length=1)]
IMPORT = r"^[A-Za-z_]\w*(\.\w+)*:[A-Za-z_]\w*(\.\w+)*$"
Import = Annotated[str, Meta(pattern=IMPORT, examples=["rules:is_final"])]
Port = Annotated[int, Meta(ge=0, le=65_535)]

BYTES = 'a number of bytes above 0, or a text such as "256kb", "8mb" or "2gb"'
FUNCTION = 'a function as "module:function"'
POINTERS = 'JSON pointers (RFC 6901) such as "/request_id"'
NAMES = "a list of header fields' names"


def key(meaning: str, allowed: str) -> Meta:
    """Describe a key: what it means, and what it may be, as a message about a wrong value ends."""
    return Meta(description=f"{meaning} Allowed: {allowed}.", extra={"allowed": allowed})


def allowed_for(field: msgspec.structs.FieldInfo) -> str:
    """Return what a key may be."""
    description, allowed = _described(field)
    del description
    return allowed


def meaning_of(field: msgspec.structs.FieldInfo) -> str:
    """Return what a key means."""
    description, allowed = _described(field)
    return description.removesuffix(f" Allowed: {allowed}.")


def _described(field: msgspec.structs.FieldInfo) -> tuple[str, str]:
    metas: tuple[Meta, ...] = field.type.__metadata__
    return next((str(m.description), str(m.extra["allowed"])) for m in metas if m.extra)
