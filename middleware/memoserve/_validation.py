"""Asking the app whether a stored answer still holds.

Rule: whoever waits for the answer sees the whole one, whether the app sent it or a 304; so what
a 304 confirms is fanned out and stored as if the app had sent it again (RFC 9111 §4.3).
"""

from collections.abc import Callable, Sequence

from memoserve._asgi import ASGIApp, Message, Receive, Scope, Send, ends_response, replay, respond
from memoserve._conditional import freshened, validates, validators_of, without_conditions
from memoserve._entry import Entry

__all__ = ["validating"]


def validating(
    app: ASGIApp, entry: Entry, request: Sequence[Message], note: Callable[[int], None]
) -> ASGIApp:
    """Make the app answer in full where it says that nothing has changed.

    Args:
        app: The application.
        entry: The stored answer; it has a validator.
        request: The messages of the request, to ask again with.
        note: Told the app's status where the stored answer stands in for its own.
    """

    async def ask_whether_it_changed(scope: Scope, receive: Receive, send: Send) -> None:
        headers = [*without_conditions(scope["headers"]), *validators_of(entry.headers)]
        answer = _Confirmation(entry, send, note)
        await app({**scope, "headers": headers}, receive, answer.send)
        if answer.is_of_another:
            # The app has confirmed what we do not have: it must tell (RFC 9111 §4.3.3).
            await app(scope, replay(request, receive), send)

    return ask_whether_it_changed


class _Confirmation:
    """What the app answers to the question."""

    def __init__(self, entry: Entry, send: Send, note: Callable[[int], None]) -> None:
        self._entry = entry
        self._send = send
        self._note = note
        self._is_confirmed = False
        self.is_of_another = False

    async def send(self, message: Message) -> None:
        """Pass on what the app says, and what is stored in the place of a 304."""
        if message["type"] == "http.response.start" and message["status"] == 304:
            self._headers = list(message.get("headers", ()))
            self._is_confirmed = validates(self._entry.headers, self._headers)
            self.is_of_another = not self._is_confirmed
        elif self._is_confirmed:
            if ends_response(message):
                self._note(304)
                headers = freshened(self._entry.headers, self._headers)
                await respond(self._send, self._entry.status, headers, self._entry.chunks)
        elif not self.is_of_another:
            await self._send(message)
