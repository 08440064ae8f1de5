"""What a user can put right, and messages that name options as their reader says them. It needs nothing of the package.

A function says `extra='drop'`, the command line `--extra drop`: a message that names an option holds an `Option`,
and is rendered where it is shown.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple


class Option(NamedTuple):
    """An option in a message, with the value to give it.

    >>> Option("extra", "drop").in_python(), Option("extra", "drop").in_words({"extra": "--extra"})
    ("extra='drop'", '--extra drop')
    """

    name: str
    value: Any = None  # None: the option alone
    argument: str | None = None  # its name in Python, if that is another one

    def in_python(self) -> str:
        """Return it as a keyword argument."""
        return f"{self.argument or self.name}={'' if self.value is None else repr(self.value)}"

    def in_words(self, options: Mapping[str, str]) -> str:
        """Return it as a command has it that calls its options so; as a keyword if the command has no such option."""
        if self.name not in options:
            return self.in_python()
        value = "" if self.value is None or self.value is True else f" {self.value}"
        return options[self.name] + value


class Named(NamedTuple):
    """The name of an option in a message, without a value to give it: prefix, or --prefix."""

    name: str
    argument: str | None = None  # its name in Python, if that is another one

    def in_python(self) -> str:
        """Return the name of the argument."""
        return self.argument or self.name

    def in_words(self, options: Mapping[str, str]) -> str:
        """Return the option of a command that calls its options so."""
        return options.get(self.name, self.in_python())


class Either(NamedTuple):
    """What a message says in Python, and what on the command line."""

    python: str
    command: str

    def in_python(self) -> str:
        """Return what it says in Python."""
        return self.python

    def in_words(self, options: Mapping[str, str]) -> str:
        """Return what it says on the command line."""
        return self.command


Part = str | Option | Named | Either


class Message(str):
    """The text of an error, as Python says it, that can be rendered for a command, too.

    >>> refusal = Message("holds more. Pass ", Option("extra", "drop"))
    >>> refusal, Message("a.npz: ", refusal).for_command({"extra": "--extra"})
    ("holds more. Pass extra='drop'", 'a.npz: holds more. Pass --extra drop')
    """

    parts: tuple[Part, ...]

    def __new__(cls, *parts: Part) -> Message:
        """Join the parts, of which each may be a message itself."""
        every: list[Part] = []
        for part in parts:
            every += part.parts if isinstance(part, Message) else (part,)
        text = super().__new__(cls, "".join(p if isinstance(p, str) else p.in_python() for p in every))
        text.parts = tuple(every)
        return text

    def for_command(self, options: Mapping[str, str]) -> str:
        """Return the text with options as a command calls them: `options` has their names, by those of arguments."""
        return "".join(part if isinstance(part, str) else part.in_words(options) for part in self.parts)


class UserError(ValueError):
    """What a user can put right; the command line prints its message, of these parts, and nothing else."""

    code = 2
    """What the command line exits with: 2 asked wrongly, 1 failed."""

    def __init__(self, *parts: Part):
        super().__init__(Message(*parts))


def message_of(error: BaseException, before: str = "") -> Message:
    """Return the message of an error, with the notes of one line that were added to it, behind some words."""
    first = error.args[0] if error.args and isinstance(error.args[0], Message) else str(error)
    # JAX adds notes of several lines, about its tracebacks; ours say which layer it was.
    notes = [f" {note}" for note in getattr(error, "__notes__", ()) if "\n" not in note]
    return Message(before, first, *notes)


class ConfigError(UserError):
    """A configuration that cannot be read or does not make sense."""
