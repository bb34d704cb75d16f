"""Which JSON parser and writer the canonical form should be made with.

Run `python bench/json_parsers.py`. A parser for keys must refuse what can be read in two ways:
duplicate names, numbers that it cannot hold, lone surrogates. A writer must sort at every depth.
orjson is measured where it is installed; memoserve does not need it.
"""

import functools
import importlib.util
import json
import timeit
from collections.abc import Callable
from typing import Any

import jiter
import msgspec

from memoserve._keys import canonical_json

TEXT = "The staff were friendly, the soup was hot, and we would gladly come again. "
BODIES = {
    "120 B": json.dumps({"text": TEXT[:80], "max_length": 40, "temperature": 0.7}).encode(),
    "4 KiB": json.dumps({"question": TEXT, "context": TEXT * 53, "top_k": 3}).encode(),
    "256 KiB": json.dumps({"texts": [TEXT] * 3400, "options": {"b": 1, "a": 2.5}}).encode(),
}
TRAPS = {
    "duplicate names": b'{"a":1,"a":2}',
    "1e400": b"[1e400]",
    "0.1 with more digits": b"[0.1000000000000000055]",
    "2^64": b"[18446744073709551616]",
    "lone surrogate": b'"\\ud800"',
    "300 levels": b"[" * 300 + b"]" * 300,
}


def parsers() -> dict[str, Callable[[bytes], Any]]:
    """Return what can parse."""
    found: dict[str, Callable[[bytes], Any]] = {
        "json": json.loads,
        "msgspec": msgspec.json.decode,
        "jiter": lambda body: jiter.from_json(
            body, catch_duplicate_keys=True, allow_inf_nan=False, float_mode="lossless-float"
        ),
    }
    if importlib.util.find_spec("orjson"):
        found["orjson"] = importlib.import_module("orjson").loads
    return found


def writers() -> dict[str, Callable[[Any], bytes]]:
    """Return what can write with sorted names."""
    found: dict[str, Callable[[Any], bytes]] = {
        "json": lambda value: json.dumps(
            value, sort_keys=True, separators=(",", ":"), ensure_ascii=False
        ).encode(),
        "msgspec": msgspec.json.Encoder(order="sorted").encode,
    }
    if importlib.util.find_spec("orjson"):
        orjson = importlib.import_module("orjson")
        found["orjson"] = lambda value: orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
    return found


def microseconds(call: Callable[[], object]) -> float:
    """Return the best of five timings of one call."""
    timer = timeit.Timer(call)
    count, _ = timer.autorange()
    return min(timer.repeat(repeat=5, number=max(1, count // 5))) / max(1, count // 5) * 1e6


def outcome(parse: Callable[[bytes], Any], body: bytes) -> str:
    """Say what a parser makes of a trap."""
    try:
        parsed = parse(body)
    except Exception:  # noqa: BLE001  (whatever it raises, it has refused)
        return "refused"
    return "kept" if "Lossless" in repr(parsed) or body == b"[%d]" % 2**64 else "taken"


def main() -> None:
    """Print both tables."""
    print("microseconds, best of five", *(f"{size:>12}" for size in BODIES))
    for kind, tools in (("parse", parsers()), ("write sorted", writers())):
        for name, tool in tools.items():
            cells: list[str] = []
            for body in BODIES.values():
                given: Any = body if kind == "parse" else json.loads(body)
                cells.append(f"{microseconds(functools.partial(tool, given)):12.2f}")
            print(f"{kind + ' ' + name:26}", *cells)
    cells = [
        f"{microseconds(functools.partial(canonical_json, body)):12.2f}" for body in BODIES.values()
    ]
    print(f"{'canonical_json':26}", *cells)
    print("\nwhat the parser does with", *(f"{name:>10}" for name in parsers()))
    for trap, body in TRAPS.items():
        print(f"{trap:25}", *(f"{outcome(parse, body):>10}" for parse in parsers().values()))


if __name__ == "__main__":
    main()
