"""What request a curl command line sends.

Rule: the request is what curl would send, byte for byte in all that a key may depend on; an
option that is not known, or whose outcome cannot be known beforehand, is refused and not guessed.
"""

import base64
import getopt
import re
import shlex
from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import quote, unquote, urljoin, urlsplit

import msgspec

from memoserve._asgi import Header, Scope

__all__ = ["SentRequest", "is_curl", "sent_by_curl", "sent_to"]

ReadFile = Callable[[str], bytes]  # Raises OSError or ValueError.

# Options that take a value, with the letter of those that have one. What says nothing of the
# request is listed too, so that its value is not taken for the URL.
_VALUED = {
    "request": "X", "header": "H", "data": "d", "data-ascii": "", "data-raw": "",
    "data-binary": "", "data-urlencode": "", "json": "", "user": "u", "url": "", "user-agent": "A",
    "referer": "e", "cookie": "b", "range": "r", "oauth2-bearer": "", "url-query": "",
    "form": "F", "form-string": "", "upload-file": "T", "config": "K",
    "output": "o", "max-time": "m", "connect-timeout": "", "retry": "", "retry-delay": "",
    "retry-max-time": "", "write-out": "w", "proxy": "x", "cacert": "", "capath": "", "cert": "E",
    "key": "", "resolve": "", "interface": "", "dump-header": "D", "cookie-jar": "c",
    "limit-rate": "", "max-redirs": "", "noproxy": "", "trace": "", "trace-ascii": "",
    "stderr": "", "unix-socket": "", "keepalive-time": "", "speed-limit": "Y", "speed-time": "y",
}  # fmt: skip
_FLAGS = {
    "get": "G", "head": "I", "silent": "s", "show-error": "S", "verbose": "v", "include": "i",
    "location": "L", "fail": "f", "fail-with-body": "", "insecure": "k", "compressed": "",
    "no-buffer": "N", "progress-bar": "#", "http1.1": "", "http2": "", "http1.0": "0",
    "ipv4": "4", "ipv6": "6", "remote-name": "O", "globoff": "g", "path-as-is": "",
    "no-progress-meter": "", "disable": "q", "tcp-nodelay": "", "no-keepalive": "",
    "parallel": "Z", "http2-prior-knowledge": "", "tlsv1.2": "", "tlsv1.3": "",
}  # fmt: skip
_UNKNOWABLE = {
    "form": "the boundary of a form is another each time",
    "form-string": "the boundary of a form is another each time",
    "upload-file": "uploads are no questions to a model",
    "config": "put its options into the command line",
}
_LETTERS = {letter: name for name, letter in (*_VALUED.items(), *_FLAGS.items()) if letter}
_DATA = frozenset({"data", "data-ascii", "data-raw", "data-binary", "data-urlencode", "json"})
_DEFAULT_PORTS = {"http": 80, "https": 443}

# Where a line goes on: a backslash before its end, but not within quotes.
_CONTINUED = re.compile(r"""'[^']*'|"(?:[^"\\]|\\.)*"|\\\r?\n|\\.""", re.DOTALL)
_ANSI_C = re.compile(r"(?:^|\s)\$'")


class SentRequest(msgspec.Struct, frozen=True, kw_only=True):
    """One HTTP request, as a server is handed it."""

    method: str
    scheme: str
    raw_path: bytes
    query_string: bytes
    headers: tuple[Header, ...]  # Names in lower case.
    body: bytes
    is_sent_anywhere: bool = False  # Nobody has said to which URL.

    @property
    def path(self) -> str:
        """The path with its escapes read."""
        return unquote(self.raw_path.decode("latin-1"))

    def scope(self) -> Scope:
        """Return the ASGI scope that a server makes of it."""
        return {
            "type": "http",
            "method": self.method,
            "scheme": self.scheme,
            "path": self.path,
            "raw_path": self.raw_path,
            "query_string": self.query_string,
            "headers": list(self.headers),
            "root_path": "",
        }


class _Parts(msgspec.Struct):
    """What the options have said so far."""

    urls: list[str]
    headers: list[tuple[str, str | None]] = msgspec.field(default_factory=list[Any])
    pieces: list[bytes] = msgspec.field(default_factory=list[bytes])
    query: list[bytes] = msgspec.field(default_factory=list[bytes])
    method: str = ""
    user: str | None = None
    is_json: bool = False
    is_get: bool = False
    is_head: bool = False


def is_curl(text: bytes) -> bool:
    """Tell whether this is a curl command line."""
    return bool(re.match(rb"\s*curl(\.exe)?\s", text))


def sent_to(
    url: str, *, method: str, headers: Sequence[tuple[str, str]] = (), body: bytes = b""
) -> SentRequest:
    """Return a request to a URL, with the Host that belongs to it unless one is given.

    Raises:
        ValueError: The URL is none of HTTP.
    """
    scheme, authority, raw_path, query, _ = _read_url(url)
    pairs = [(name.lower().encode(), value.encode()) for name, value in headers]
    if not any(name == b"host" for name, _ in pairs):
        pairs.insert(0, (b"host", authority.encode()))
    return SentRequest(
        method=method,
        scheme=scheme,
        raw_path=raw_path,
        query_string=query,
        headers=tuple(pairs),
        body=body,
    )


def sent_by_curl(command: str, read_file: ReadFile) -> SentRequest:
    """Return the request that a curl command line sends.

    Args:
        command: All of it, `curl` included, quoted for a POSIX shell.
        read_file: Returns the content of what is named as `@file`; `-` is standard input.

    Raises:
        ValueError: It cannot be read, has an option that is not known, or one whose outcome
            cannot be known.
        OSError: A file cannot be read.
    """
    parts = _parse(_words(command), read_file)
    (url,) = parts.urls
    query = [_with_small_escapes(piece) for piece in parts.query]
    body = (b"" if parts.is_json else b"&").join(parts.pieces)
    if parts.is_get:
        query += [_with_small_escapes(body)] if parts.pieces else []
    has_body = bool(parts.pieces) and not parts.is_get
    sent = sent_to(
        url,
        method=parts.method or _method_of(parts, has_body=has_body),
        headers=_headers(parts, _read_url(url)[4], has_body=has_body),
        body=body if has_body else b"",
    )
    query_string = b"&".join([piece for piece in (sent.query_string, *query) if piece])
    return msgspec.structs.replace(sent, query_string=query_string)


def _with_small_escapes(piece: bytes) -> bytes:
    """Spell escapes as curl does in what it adds to a URL."""
    return re.sub(b"%..", lambda escape: escape[0].lower(), piece)


def _method_of(parts: _Parts, *, has_body: bool) -> str:
    if parts.is_head:
        return "HEAD"
    return "POST" if has_body else "GET"


def _words(command: str) -> list[str]:
    if _ANSI_C.search(command):
        raise ValueError("$'…' is not understood: put the body into a file, and give it as @file")
    joined = _CONTINUED.sub(
        lambda found: " " if found[0] in {"\\\n", "\\\r\n"} else found[0], command
    )
    try:
        words = shlex.split(joined)
    except ValueError as error:
        raise ValueError(f"the command line cannot be read: {str(error).lower()}") from error
    if len(words) < 2 or not is_curl(command.encode("utf-8", "replace")):
        raise ValueError("this is no curl command line")
    return words[1:]


def _parse(words: Sequence[str], read_file: ReadFile) -> _Parts:
    short = "".join(letter + ":" * (name in _VALUED) for letter, name in _LETTERS.items())
    long = [*(f"{name}=" for name in _VALUED), *_FLAGS]
    try:
        options, urls = getopt.gnu_getopt([_spelled(word) for word in words], short, long)
    except getopt.GetoptError as error:
        raise ValueError(f"curl's {error.msg}") from error
    parts = _Parts(urls)
    for option, value in options:
        name = option.removeprefix("--") if option.startswith("--") else _LETTERS[option[1:]]
        if name in _UNKNOWABLE:
            raise ValueError(f"curl's option --{name} is not understood: {_UNKNOWABLE[name]}")
        _note(parts, name, value, read_file)
    if len(parts.urls) != 1:
        raise ValueError(f"one URL is needed, not {len(parts.urls)}")
    return parts


def _spelled(word: str) -> str:
    """Protect `--name=value`: to curl, unlike to getopt, that is no spelling of an option."""
    if word.startswith("--") and "=" in word:
        raise ValueError(f"curl's options and their values are two words, unlike {word!r}")
    return word


def _note(parts: _Parts, name: str, value: str, read_file: ReadFile) -> None:
    if name in _DATA:
        parts.pieces.append(_data(name, value, read_file))
        parts.is_json |= name == "json"
    elif name == "header":
        parts.headers += _header_lines(value, read_file)
    elif name in _NOTERS:
        _NOTERS[name](parts, value)


def _data(name: str, value: str, read_file: ReadFile) -> bytes:
    if name == "data-urlencode":
        return _url_encoded(value, read_file)
    if name == "data-raw" or not value.startswith("@"):
        return value.encode("utf-8", "surrogateescape")
    content = read_file(value[1:])
    if name in {"data", "data-ascii"}:
        return content.translate(None, b"\r\n\0")
    return content


def _url_encoded(value: str, read_file: ReadFile) -> bytes:
    """Read `content`, `=content`, `name=content`, `@file` and `name@file`."""
    found = re.search("[=@]", value)
    if found is None:
        name, content = "", value.encode()
    elif found[0] == "=":
        name, content = value[: found.start()], value[found.end() :].encode()
    else:
        name, content = value[: found.start()], read_file(value[found.end() :])
    encoded = quote(content, safe="").replace("%20", "+")
    return (f"{name}={encoded}" if name else encoded).encode()


def _header_lines(value: str, read_file: ReadFile) -> list[tuple[str, str | None]]:
    """Read one field, or those of a file; `Name:` takes one away, `Name;` sends an empty one."""
    if value.startswith("@"):
        lines = read_file(value[1:]).decode("latin-1").splitlines()
        return [pair for line in lines if line.strip() for pair in _header_lines(line, read_file)]
    name, colon, content = value.partition(":")
    if colon:
        return [(name.strip().lower(), content.strip() or None)]
    if value.rstrip().endswith(";"):
        return [(value.rstrip()[:-1].strip().lower(), "")]
    raise ValueError(f"a header field is like 'Name: value', not {value!r}")


def _query_piece(value: str) -> bytes:
    if value.startswith("+"):
        return value[1:].encode()
    return _url_encoded(value, _no_file)


def _no_file(name: str) -> bytes:
    raise ValueError(f"a query from the file {name!r} is not understood")


_NOTERS: dict[str, Callable[[_Parts, str], object]] = {
    "request": lambda parts, value: setattr(parts, "method", value),
    "user": lambda parts, value: setattr(parts, "user", value),
    "url": lambda parts, value: parts.urls.append(value),
    "get": lambda parts, _: setattr(parts, "is_get", True),
    "head": lambda parts, _: setattr(parts, "is_head", True),
    "url-query": lambda parts, value: parts.query.append(_query_piece(value)),
    "user-agent": lambda parts, value: parts.headers.append(("user-agent", value)),
    "referer": lambda parts, value: parts.headers.append(("referer", value)),
    "cookie": lambda parts, value: parts.headers.append(("cookie", value)),
    "range": lambda parts, value: parts.headers.append(("range", f"bytes={value}")),
    "compressed": lambda parts, _: parts.headers.append(("accept-encoding", "gzip, br, zstd")),
    "oauth2-bearer": lambda parts, value: parts.headers.append(
        ("authorization", f"Bearer {value}")
    ),
}


def _headers(parts: _Parts, user: str | None, *, has_body: bool) -> list[tuple[str, str]]:
    """Return the fields that were given, and those that curl adds where they were not."""
    given = {name for name, _ in parts.headers}
    added = {"user-agent": "curl", "accept": "*/*"}
    if has_body:
        added["content-type"] = "application/x-www-form-urlencoded"
    if parts.is_json:
        added["accept"] = added["content-type"] = "application/json"
    user = parts.user if parts.user is not None else user
    if user is not None:
        pair = user if ":" in user else f"{user}:"
        added["authorization"] = f"Basic {base64.b64encode(pair.encode()).decode()}"
    own = [(name, value) for name, value in added.items() if name not in given]
    return own + [(name, value) for name, value in parts.headers if value is not None]


def _read_url(url: str) -> tuple[str, str, bytes, bytes, str | None]:
    """Return scheme, authority, path, query and user of a URL."""
    if re.search(r"[\s\x00-\x1f]", url):
        raise ValueError(f"a URL must have no spaces, unlike {url!r}")
    try:
        split = urlsplit(url if "://" in url else f"http://{url}")
        port = split.port
    except ValueError as error:
        raise ValueError(f"{url!r} is no URL: {error}") from error
    if split.scheme not in _DEFAULT_PORTS or not split.hostname:
        raise ValueError(f"a URL must be like http://host/path, not {url!r}")
    host = split.netloc.rpartition("@")[2]
    if port == _DEFAULT_PORTS[split.scheme]:
        host = host.rpartition(":")[0]
    user = None
    if split.username is not None:
        user = unquote(f"{split.username}:{split.password or ''}")
    path = urlsplit(urljoin(f"http://host{split.path or '/'}", split.path or "/")).path
    escaped = (b"%c" % byte if byte < 128 else b"%%%02x" % byte for byte in path.encode())
    return split.scheme, host, b"".join(escaped), split.query.encode(), user
