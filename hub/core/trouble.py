"""What goes wrong around the hub, as its loops see it. Verdicts about documents are values, never exceptions.

Trouble
├── Unavailable       something that is needed does not answer; it is tried again
│   └── Stale         the directory snapshot is older than allowed
├── Gone              an object of the blob store is not there any more
├── Interrupted       the body of a request ended before its time
├── Unstorable        the database refuses the content itself; trying again cannot help
└── Conflict          a person asks for what does not fit the state of things
"""


class Trouble(Exception):  # noqa: N818 - one word for it in code, logs and docs
    """Something around the hub went wrong."""


class Unavailable(Trouble):
    """A broker, database or other part does not answer; what was in hand is not settled and comes again.

    Attributes:
        part: Which one, as `/readyz` names it: `broker`, `database`, `directory`, `blobs`.
    """

    def __init__(self, part: str, message: str) -> None:
        super().__init__(f"{part}: {message}")
        self.part = part


class Stale(Unavailable):
    """The directory snapshot is older than allowed, so nothing may be decided by it."""

    def __init__(self, message: str) -> None:
        super().__init__("directory", message)


class Gone(Trouble):
    """An object of the blob store is not there any more; somebody else has finished or swept it."""


class Interrupted(Trouble):
    """The body of a request ended before its time; what has come of it stays."""


class Unstorable(Trouble):
    """The database refuses a value, such as a text that it cannot hold."""


class Conflict(Trouble):
    """What a person asks for does not fit the state of things; the message says what would."""
