"""`cnmctl stats`: what containers use, as a table that is kept up to date on the screen."""

from __future__ import annotations

from threading import Condition, Thread
from time import monotonic

from cnm.cli.client import Client, DaemonError, filters, quote
from cnm.cli.flags import BOOLEAN, Arguments, Command, Flag
from cnm.cli.launcher_client import LauncherClient, launcher
from cnm.cli.output import LIST_FORMAT, Listing
from cnm.cli.resource_usage import NO_ANSWER, usage
from cnm.errors import CnmError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

REFRESH_SECONDS = 0.5
SILENCE_SECONDS = 2.0
"""Docker's: how often the table is drawn anew, and how old an answer may be to be shown."""
ONE_ANSWER_SECONDS = 20.0
"""How long the only answer is waited for, which takes a daemon two seconds."""
_HOME, _REST_OF_LINE, _REST_OF_SCREEN = "\x1b[H", "\x1b[K", "\x1b[J"

LISTING = Listing(
    "*container.statsContext",
    ("ID", "Name", "CPUPerc", "MemUsage", "MemPerc", "NetIO", "BlockIO", "PIDs"),
    {
        "BlockIO": "BLOCK I/O",
        "CPUPerc": "CPU %",
        "Container": "CONTAINER",
        "ID": "CONTAINER ID",
        "MemPerc": "MEM %",
        "MemUsage": "MEM USAGE / LIMIT",
        "Name": "NAME",
        "NetIO": "NET I/O",
        "PIDs": "PIDS",
    },
)


def stats(client: Client, arguments: Arguments) -> int:
    daemon = launcher(client)
    watched = _Watched(daemon, follow=not arguments["no-stream"])
    if arguments.operands:
        for name in arguments.operands:
            watched.add(name)
    else:
        if not arguments["no-stream"]:
            Thread(target=_follow_events, args=(daemon, watched, arguments["all"]), daemon=True).start()
        for container in daemon.get("/containers/json", {"all": "1"} if arguments["all"] else None):
            watched.add(container["Id"][:12])
    watched.wait_for_first()
    if arguments.operands:
        watched.check()
    if arguments["no-stream"]:
        return LISTING.show(watched.rows(arguments), arguments)
    _keep_showing(watched, arguments)
    return 0


class _Sample:
    """The last answer about one container."""

    def __init__(self, container: str) -> None:
        self.container = container
        self.id = ""
        self.name = "--"
        self.texts = NO_ANSWER
        self.has_answered = False
        self.received = 0.0
        self.error: CnmError | None = None


class _Watched:
    """The containers that are shown, in the order of their coming, with a thread for each that reads its answers."""

    def __init__(self, daemon: LauncherClient, follow: bool) -> None:
        self._daemon = daemon
        self._follow = follow
        self._changed = Condition()
        self._samples: dict[str, _Sample] = {}
        self.failure: CnmError | None = None
        """What ended the events by which containers come and go."""

    def add(self, container: str) -> None:
        with self._changed:
            if container in self._samples:
                return
            sample = self._samples[container] = _Sample(container)
        Thread(target=self._read, args=(sample,), daemon=True).start()

    def remove(self, container: str) -> None:
        with self._changed:
            self._samples.pop(container, None)
            self._changed.notify_all()

    def wait_for_first(self) -> None:
        """Until every container has answered once, or has failed to; those that are slow are shown without."""
        patience = SILENCE_SECONDS if self._follow else ONE_ANSWER_SECONDS
        with self._changed:
            self._changed.wait_for(
                lambda: all(each.has_answered for each in self._samples.values()), patience
            )

    def pause(self, seconds: float) -> None:
        """As long, or until one of the events that end everything."""
        with self._changed:
            self._changed.wait_for(lambda: self.failure is not None, seconds)

    def fail(self, error: CnmError) -> None:
        with self._changed:
            self.failure = error
            self._changed.notify_all()

    def check(self) -> None:
        """Raises CnmError with what went wrong for any of them."""
        with self._changed:
            errors = [each.error for each in self._samples.values() if each.error]
        if errors:
            refused = next((each for each in errors if isinstance(each, DaemonError)), None)
            text = "; ".join(map(str, errors))
            raise DaemonError(text, refused.status) if refused else CnmError(text)

    def rows(self, arguments: Arguments) -> list[dict[str, str]]:
        whole = arguments["no-trunc"]
        with self._changed:
            return [_row(each, whole, self._follow) for each in self._samples.values()]

    def _read(self, sample: _Sample) -> None:
        query = {"stream": "1" if self._follow else "0"}
        try:
            for answer in self._daemon.stream(f"/containers/{quote(sample.container)}/stats", query):
                self._keep(sample, answer)
        except CnmError as error:
            sample.error = error
        with self._changed:
            sample.has_answered = True
            sample.texts = sample.texts if sample.error is None and not self._follow else NO_ANSWER
            self._changed.notify_all()

    def _keep(self, sample: _Sample, answer: dict[str, Any]) -> None:
        texts = usage(answer)
        with self._changed:
            sample.id, sample.texts = answer.get("id", ""), texts
            sample.name = answer.get("name", "")[1:] or "--"
            sample.received = monotonic()
            sample.has_answered = True
            self._changed.notify_all()


def _row(sample: _Sample, whole: bool, follow: bool) -> dict[str, str]:
    is_silent = follow and monotonic() - sample.received > SILENCE_SECONDS
    return {
        "Container": sample.container,
        "ID": sample.id if whole else sample.id[:12],
        "Name": sample.name,
        **(NO_ANSWER if is_silent else sample.texts),
    }


def _follow_events(daemon: LauncherClient, watched: _Watched, everything: bool) -> None:
    """Containers come when they start and go when they end; of `everything`, with their creation and removal."""
    comes, goes = (("create", "start"), "destroy") if everything else (("start",), "die")
    try:
        for event in daemon.stream("/events", filters({"type": ["container"]})):
            container = event["Actor"]["ID"][:12]
            if event["Action"] in comes:
                watched.add(container)
            elif event["Action"] == goes:
                watched.remove(container)
    except CnmError as error:
        watched.fail(error)


def _keep_showing(watched: _Watched, arguments: Arguments) -> None:
    """Until the daemon goes, or the user."""
    import io
    from contextlib import redirect_stdout

    print("\x1b[2J", end="")
    while watched.failure is None:
        text = io.StringIO()
        with redirect_stdout(text):
            LISTING.show(watched.rows(arguments), arguments)
        lines = text.getvalue().rstrip("\n").split("\n")
        print(
            _HOME + "".join(f"{line}{_REST_OF_LINE}\n" for line in lines) + _REST_OF_SCREEN,
            end="",
            flush=True,
        )
        watched.pause(REFRESH_SECONDS)
    raise watched.failure


STATS = Command(
    "stats",
    "Show what containers use, kept up to date until interrupted",
    stats,
    "[CONTAINER...]",
    (
        Flag("all", BOOLEAN, "Show those that do not run, too", "a"),
        LIST_FORMAT,
        Flag("no-stream", BOOLEAN, "Show the first answer only"),
        Flag("no-trunc", BOOLEAN, "Do not shorten the output"),
    ),
)
