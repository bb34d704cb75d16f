"""Signatures of msgspec's structs for the API reference: an extension of Griffe.

Rule: Griffe reads code and runs none, while a struct has its `__init__` only when it runs; so it is
put together here from what the class declares.
"""

from typing import Any

import griffe

__all__ = ["Structs"]


class Structs(griffe.Extension):
    """Give each public struct the parameters that msgspec will give it."""

    def on_class(self, *, cls: griffe.Class, **_: Any) -> None:
        """Add `__init__` to a struct, its parent's fields first."""
        if not _is_struct(cls) or "__init__" in cls.members:
            return
        parameters = [griffe.Parameter("self", kind=griffe.ParameterKind.positional_or_keyword)]
        for parent in _parents(cls):
            parameters += _fields(parent)
        made = griffe.Function("__init__", parameters=griffe.Parameters(*parameters, *_fields(cls)))
        cls.set_member("__init__", made)


def _parents(cls: griffe.Class) -> list[griffe.Class]:
    """Return the bases that the same module declares."""
    found = [cls.module.members.get(str(base)) for base in cls.bases]
    return [base for base in found if isinstance(base, griffe.Class)]


def _is_struct(cls: griffe.Class) -> bool:
    if any(str(base) == "msgspec.Struct" for base in cls.bases):
        return True
    return any(_is_struct(base) for base in _parents(cls))


def _fields(cls: griffe.Class) -> list[griffe.Parameter]:
    kind = griffe.ParameterKind.positional_or_keyword
    if "kw_only" in cls.keywords:
        kind = griffe.ParameterKind.keyword_only
    return [
        griffe.Parameter(each.name, annotation=each.annotation, kind=kind, default=_default(each))
        for each in cls.members.values()
        if isinstance(each, griffe.Attribute) and each.annotation is not None
    ]


def _default(attribute: griffe.Attribute) -> Any:
    is_made_anew = str(attribute.value).startswith("msgspec.field(default_factory=dict")
    return "{}" if is_made_anew else attribute.value
