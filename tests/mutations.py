# ruff: noqa: T201  (a script, whose report is what it prints)
"""Break the core on purpose, and see that a test notices.

Run `python tests/mutations.py`, or with parts of the names of breaks to try only those. Each break
is one small change to a copy of the project, on which the tests of the middleware are then run. The
table says which test noticed first. The exit status is 1 if a break SURVIVED or its text has gone.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
COPIED = ("middleware", "integrations", "tests", "pyproject.toml")
TESTS = (
    "test_keys.py",
    "test_policy.py",
    "test_cache.py",
    "test_flight.py",
    "test_http.py",
    "test_http_changes.py",
    "test_http_validation.py",
    "test_conditional.py",
)  # The quick ones first.
SLOW = (
    "stores/test_faults.py",
    "stores/test_turns.py",
    "stores/test_redis.py",
    "stores/test_batches.py",
    "telemetry",
    "commands",
    "config",
)  # And of other subjects.
SECONDS = 300  # For one run; a break that makes a test hang has been noticed.


@dataclass(frozen=True)
class Break:
    """One wrong line, and what it would do to a user."""

    name: str
    file: str  # Below middleware/memoserve.
    old: str
    new: str


BREAKS = (
    Break(
        "an equal MD5 is taken for the same question", "_exchange.py",
        "if item.verifier != self._question.key.verifier:", "if False:",
    ),
    Break(
        "the query string is not in the key", "_request.py",
        'scope.get("query_string", b""),\n            self.fields.keyed', "self.fields.keyed",
    ),
    Break(
        "the query string is not in the spelling", "_recall.py",
        'scope.get("query_string"),', "",
    ),
    Break(
        "the method is not in the key", "_request.py",
        "self.coverage.digest,\n            self.keyed_method,", "self.coverage.digest,",
    ),
    Break(
        "the credential is not in a partition's key", "_request.py",
        'credential_partition(self._shared.secret, credentials) if credentials else b""', 'b""',
    ),
    Break(
        "requests with credentials are answered from the cache", "_request.py",
        'if fields.credentials and self.coverage.rule.private == "bypass":', "if False:",
    ),
    Break(
        "a credential is known by its exact name only", "_fields.py",
        "any(word in name for word in CREDENTIAL_WORDS)", "name in CREDENTIAL_WORDS",
    ),
    Break(
        "of two members of one name the last counts", "_keys.py",
        "body, catch_duplicate_keys=True, allow_inf_nan=False, float_mode",
        "body, catch_duplicate_keys=False, allow_inf_nan=False, float_mode",
    ),
    Break(
        "numbers that a parser changes are merged", "_keys.py",
        "if said != kept and Decimal(said).as_tuple() != Decimal(kept).as_tuple():", "if False:",
    ),
    Break(
        "a raw body can pose as a canonical one", "_keys.py",
        '_CANONICAL, _RAW = b"\\x01", b"\\x00"', '_CANONICAL, _RAW = b"\\x01", b"\\x01"',
    ),
    Break(
        "an answer is stored before its stream has ended", "_fill.py",
        "return recorder.is_complete and ", "return ",
    ),
    Break(
        "an answer that is shorter than it said is kept", "_asgi.py",
        "return is_proper and (self.is_head or not self.lengths or self.is_full)",
        "return is_proper",
    ),
    Break(
        "any status is stored", "_policy.py",
        "return head.status in self.statuses", "return True",
    ),
    Break(
        "an entry is served at the age of its ttl", "_exchange.py",
        "-fresh_for < entry.stale_while_revalidate", "-fresh_for <= entry.stale_while_revalidate",
    ),
    Break(
        "cookies are replayed", "_policy.py",
        'b"server-timing", b"set-cookie",', 'b"server-timing",',
    ),
    Break(
        "an answer that sets a cookie goes to all", "_policy.py",
        "personal or head.has_cookie or", "personal or",
    ),
    Break(
        "private answers go to all", "_policy.py",
        'if b"private" in directives and not _kept_back(directives, b"private"):', "if False:",
    ),
    Break(
        "no-cache is stored", "_policy.py",
        "ttl = 0.0 if no_cache else ", "ttl = ",
    ),
    Break(
        "an allowed origin is given to every origin", "_policy.py",
        'names.add(b"origin")', "pass",
    ),
    Break(
        "purged answers are served", "_exchange.py",
        "if item.tokens != tuple(tokens):", "if False:",
    ),
    Break(
        "a purge by an entry's own tag does nothing", "_exchange.py",
        "return tokens == [token for _, token in entry.tags]", "return True",
    ),
    Break(
        "a fill overtakes a purge", "_tags.py",
        "return await _read_in_store(reader, key) != [token]", "return False",
    ),
    Break(
        "the memory store evicts nothing", "stores/memory.py",
        "while self._bytes + size > self._max_bytes:", "while False:",
    ),
    Break(
        "followers do not hear that the app has failed", "_flight.py",
        "raise self.error.with_traceback(self._traceback)\n        return", "return",
    ),
    Break(
        "followers get the leader's personal answer", "_flight.py",
        "case Verdict.ALONE:\n                return True",
        "case Verdict.ALONE:\n                return False",
    ),
    Break(
        "followers of another Vary get the leader's answer", "_flight.py",
        "client.is_meant = client.wants(self._start)",
        "client.is_meant = True",
    ),
    Break(
        "everybody tries again after a failure", "_exchange.py",
        "self._upstream.fetch(2, has", "self._upstream.fetch(1, has",
    ),
    Break(
        "one client that leaves takes all along", "_flight.py",
        "while self._clients or self._is_keeping or", "while",
    ),
    Break(
        "an app that stops at a disconnect is not kept", "_flight.py",
        "while self._clients or self._is_keeping or", "while self._clients or",
    ),
    Break(
        "a slow client does not hold the app back", "_flight.py",
        "return client.position < self._window.end", "return False",
    ),
    Break(
        "a long answer is held in memory", "_flight.py",
        "if self._is_windowed or recorder.size > recorder.limit:",
        "if self._is_windowed:",
    ),
    Break(
        "middleware outside changes what others get", "_reply.py",
        "else {**message})", "else message)",
    ),
    Break(
        "a refresh is started for every stale answer", "_upstream.py",
        "if key in shared.flights or", "if",
    ),
    Break(
        "a body over the limit is read to its end", "_asgi.py",
        "if body.size > limit:", "if False:",
    ),
    Break(
        "a failing store fails the request", "stores/guarded.py",
        "result = await call(*arguments)\n        except Exception as raised:",
        "result = await call(*arguments)\n        except ZeroDivisionError as raised:",
    ),
    Break(
        "a purged answer is recalled", "_recall.py",
        "if found != known.found or (",
        "if (",
    ),
    Break(
        "a recalled answer is served past its time", "_recall.py",
        "entry.ttl <= (in_store :=", "entry.ttl + 60 <= (in_store :=",
    ),
    Break(
        "the short reading overlooks credentials", "_fields.py",
        "if kind is not None or place is None or", "if place is None or",
    ),
    Break(
        "a shadow answers", "_exchange.py",
        'elif shared.options.mode == "shadow":', "elif False:",
    ),
    Break(
        "no-store is stored", "_policy.py",
        'return b"no-store" in directives',
        "return False",
    ),
    Break(
        "an answer to an Authorization goes to all", "_policy.py",
        "if is_authorized and not",
        "if False and not",
    ),
    Break(
        "must-revalidate does not forbid to be stale", "_policy.py",
        "may_be_stale = not no_cache and",
        "may_be_stale = not no_cache or",
    ),
    Break(
        "the age from upstream is forgotten", "_policy.py",
        "max(apparent, head.age + delay) if head.has_age else apparent",
        "apparent",
    ),
    Break(
        "a 304 of another answer is believed", "_validation.py",
        "self._is_confirmed = validates(self._entry.headers, self._headers)",
        "self._is_confirmed = True",
    ),
    Break(
        "a POST is validated as a GET is", "_request.py",
        'return self.scope["method"] in {"GET", "QUERY"}',
        "return True",
    ),
    Break(
        "a part is cut for whoever has other bytes", "_conditional.py",
        'return validator == _value(headers, b"etag")',
        "return True",
    ),
    Break(
        "a change that failed outdates what is stored", "_invalidation.py",
        '200 <= message["status"] < 400',
        '200 <= message["status"] < 600',
    ),
    Break(
        "a change outdates what is stored of another origin", "_invalidation.py",
        "if authority == host:",
        "if True:",
    ),
    Break(
        "an answer that cannot be replayed is kept", "_asgi.py",
        "is_proper = self.is_ended and self.is_plain and", "is_proper = self.is_ended and",
    ),
    Break(
        "a purge is overtaken by a plain answer", "_fill.py",
        "storage.kept_for, while_is=mark)", "storage.kept_for)",
    ),
    Break(
        "a plain answer is stored that cost too little", "_fill.py",
        "if cost < self._rule.min_cost or not", "if not",
    ),
    Break(
        "a rule that judges each answer is not asked", "_rules.py",
        "rule.admit is not None\n        or", "False\n        or",
    ),
    Break(
        "a disconnect behind the end is one before it", "_flight.py",
        "if client.has_left and not (self._is_ended and", "if client.has_left and not (False and",
    ),
    Break(
        "who comes late shares what was stale at once", "_fill.py",
        "return Verdict.SHARED if lasts else Verdict.AWAITED",
        "return Verdict.SHARED",
    ),
)  # fmt: skip


class Workshop:
    """A copy of the project to break."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        for name in COPIED:
            source = ROOT / name
            if source.is_dir():
                shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(source, folder / name)

    def try_out(self, mutation: Break) -> str:
        """Break it, test it and mend it; return which test noticed, or a word in capitals."""
        file = self._folder / "middleware" / "memoserve" / mutation.file
        whole = file.read_text()
        if whole.count(mutation.old) != 1:
            return f"GONE: the text is there {whole.count(mutation.old)} times"
        file.write_text(whole.replace(mutation.old, mutation.new))
        try:
            return self.test() or "SURVIVED"
        finally:
            file.write_text(whole)

    def test(self) -> str:
        """Return the first test that fails; empty if none does."""
        tests = Path("tests/middleware")
        files = [str(tests / name) for name in TESTS]
        rest = [str(tests), *(f"--ignore={tests / name}" for name in (*TESTS, *SLOW))]
        return self._run(files) or self._run(rest)

    def _run(self, arguments: list[str]) -> str:
        options = ["-x", "-q", "--tb=no", "-rfE", "-p", "no:cacheprovider", "-m", "not faults"]
        environment = {**os.environ, "PYTHONPATH": "middleware:integrations"}
        environment |= {"PYTHONDONTWRITEBYTECODE": "1", "COLUMNS": "500"}
        try:
            done = subprocess.run(
                [sys.executable, "-m", "pytest", *options, *arguments],
                cwd=self._folder, env=environment, capture_output=True, text=True,
                timeout=SECONDS, check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            return f"a test that hangs for {SECONDS} s"
        if done.returncode == 0:
            return ""
        lines = done.stdout.splitlines()
        failed = [line for line in lines if line.startswith(("FAILED ", "ERROR "))]
        if done.returncode != 1 or not failed:
            return f"UNTESTED: pytest ended with {done.returncode}: {' '.join(lines[-3:])}"
        return failed[0].removeprefix("FAILED tests/middleware/").partition(" - ")[0]


def main(names: list[str]) -> int:
    """Try all breaks, or those whose names contain one of the given words."""
    chosen = [each for each in BREAKS if not names or any(word in each.name for word in names)]
    bad = 0
    with tempfile.TemporaryDirectory() as folder:
        workshop = Workshop(Path(folder))
        if failure := workshop.test():
            print(f"the tests fail without any break: {failure}")
            return 1
        for mutation in chosen:
            result = workshop.try_out(mutation)
            bad += result.startswith(("SURVIVED", "GONE", "UNTESTED"))
            print(f"{mutation.name:<58} {result}", flush=True)
    print(f"{len(chosen) - bad} of {len(chosen)} breaks were noticed")
    return int(bad > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
