"""The grammar of the command line: commands and their flags as data, parsed the way Docker's own client does.

Docker's grammar is that of Go's pflag: `--ipv4=false`, flags between operands, `-qf name=web`.
argparse can do none of these without its private parts, so the grammar is written down here.
"""

from __future__ import annotations

from cnm.errors import InvalidParameter

TYPE_CHECKING = False  # typing's own costs 3 ms of every start; type checkers know the name
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from cnm.cli.client import Client


class UsageError(InvalidParameter):
    """The command line does not follow the grammar."""

    exit_code = 2


class Kind:
    """How texts become a flag's value: `start()` without any, `add(value, text)` for each.

    `add` raises ValueError whose text says what is wrong.
    """

    __slots__ = ("add", "metavar", "start")

    def __init__(self, metavar: str, start: Callable[[], Any], add: Callable[[Any, str], Any]) -> None:
        self.metavar = metavar
        self.start = start
        self.add = add


def _boolean(_: Any, text: str) -> bool:
    if text in ("1", "t", "T", "true", "TRUE", "True"):
        return True
    if text in ("0", "f", "F", "false", "FALSE", "False"):
        return False
    raise ValueError("use true or false")


def _integer(_: Any, text: str) -> int:
    if not text.isascii() or text != text.strip():
        raise ValueError("not a whole number")
    try:
        number = int(text, 0)
    except ValueError:
        raise ValueError("not a whole number") from None
    if not -(2**63) <= number < 2**63:
        raise ValueError("value out of range")
    return number


def _mapping(values: dict[str, str], text: str) -> dict[str, str]:
    key, _, value = text.partition("=")
    return {**values, key: value}


def _label(values: dict[str, str], text: str) -> dict[str, str]:
    if not text.partition("=")[0].strip():
        raise ValueError(f"invalid label '{text}': empty name")
    return _mapping(values, text)


def _filter(values: dict[str, list[str]], text: str) -> dict[str, list[str]]:
    if not text:
        return values
    key, equals, value = text.partition("=")
    if not equals:
        raise ValueError("bad format of filter (expected name=value)")
    key = key.strip().lower()
    return {**values, key: [*values.get(key, []), value.strip()]}


def listing(check: Callable[[str], Any], metavar: str = "list") -> Kind:
    """A flag that may be repeated; its value is a list of what `check`, which raises ValueError, makes of each."""
    return Kind(metavar, list, lambda values, text: [*values, check(text)])


BOOLEAN = Kind("", bool, _boolean)
INTEGER = Kind("int", int, _integer)
STRING = Kind("string", str, lambda _, text: text)
STRINGS = Kind("strings", list, lambda values, text: values + [part for part in text.split(",") if part])
LIST = Kind("list", list, lambda values, text: [*values, text])
MAP = Kind("map", dict, _mapping)
LABELS = Kind("list", dict, _label)
FILTER = Kind("filter", dict, _filter)


class Flag:
    """One flag: `--name`, `-short`. `default` replaces the kind's own where the flag is absent.

    `alias` is another long name that is understood, and not shown.
    """

    __slots__ = ("alias", "default", "help", "kind", "name", "short")

    def __init__(
        self, name: str, kind: Kind, help: str, short: str = "", default: Any = None, alias: str = ""
    ) -> None:
        self.alias = alias
        self.name = name
        self.kind = kind
        self.help = help
        self.short = short
        self.default = default

    def __str__(self) -> str:
        return f"-{self.short}, --{self.name}" if self.short else f"--{self.name}"


class Command:
    """One command. `operands` is what its usage shows: `NETWORK SANDBOX`, `[SANDBOX]`, `NAME [NAME...]`.

    With `passes_rest` everything after the first operand is an operand too: it belongs to another program; a `--`
    right behind the first operand goes with it if `passes_dashes`. `usage_code` is the exit code for a wrong line.
    """

    __slots__ = (
        *("aliases", "flags", "name", "operands", "passes_dashes", "passes_rest", "run", "summary"),
        "usage_code",
    )

    def __init__(
        self,
        name: str,
        summary: str,
        run: Callable[[Client, Arguments], int],
        operands: str = "",
        flags: Sequence[Flag] = (),
        aliases: Sequence[str] = (),
        passes_rest: bool = False,
        passes_dashes: bool = False,
        usage_code: int = UsageError.exit_code,
    ) -> None:
        self.name = name
        self.summary = summary
        self.run = run
        self.operands = operands
        self.flags = flags
        self.aliases = aliases
        self.passes_rest = passes_rest
        self.passes_dashes = passes_dashes
        self.usage_code = usage_code

    def operand_bounds(self) -> tuple[int, int | None]:
        """The least and the greatest number of operands; None: any number."""
        words = self.operands.split()
        least = sum(not word.startswith("[") for word in words)
        return least, None if any("..." in word for word in words) else len(words)


class Group:
    """A noun and its commands: `cnmctl NOUN COMMAND`. `otherwise` takes a word that is no command of the noun."""

    __slots__ = ("commands", "name", "otherwise", "summary")

    def __init__(
        self, name: str, summary: str, commands: Sequence[Command], otherwise: Command | None = None
    ) -> None:
        self.name = name
        self.summary = summary
        self.commands = commands
        self.otherwise = otherwise

    def find(self, word: str) -> Command:
        """Raises UsageError for a word that is no command of this noun, where there is no `otherwise`."""
        for command in self.commands:
            if word == command.name or word in command.aliases:
                return command
        if self.otherwise:
            return self.otherwise
        path = f"cnmctl {self.name}"
        raise UsageError(f"unknown command: {path} {word}: see '{path} --help'")


class Arguments:
    """What a command line said: `arguments["flag"]`, the operands, and which flags were `given` at all."""

    __slots__ = ("given", "help", "operands", "values")

    def __init__(self, flags: Sequence[Flag]) -> None:
        self.values = {
            flag.name: flag.kind.start() if flag.default is None else flag.default for flag in flags
        }
        self.given: set[str] = set()
        self.operands: list[str] = []
        self.help = False

    def __getitem__(self, name: str) -> Any:
        return self.values[name]


def parse(command: Command, words: Sequence[str], path: str) -> Arguments:
    """Read `words`, all that follows the command's own name; `path` is how the user called it.

    Raises UsageError, whose line says where help is.
    """
    parser = _Parser(command, words)
    try:
        parser.run()
        if not parser.found.help:
            _check_operands(command, parser.found.operands, path)
    except UsageError as error:
        refusal = UsageError(f"{error}: see '{path} --help'")
        refusal.exit_code = command.usage_code
        raise refusal from None
    return parser.found


class _Parser:
    def __init__(self, command: Command, words: Sequence[str]) -> None:
        self.command = command
        self.rest = list(reversed(words))
        self.found = Arguments(command.flags)

    def run(self) -> None:
        while self.rest and not self.found.help:
            word = self.rest.pop()
            if word == "--":
                self.take_rest()
            elif word.startswith("--"):
                self.long(word)
            elif word.startswith("-") and word != "-":
                self.cluster(word)
            else:
                self.found.operands.append(word)
                if self.command.passes_rest:
                    if self.rest and self.rest[-1] == "--" and not self.command.passes_dashes:
                        self.rest.pop()
                    self.take_rest()

    def take_rest(self) -> None:
        self.found.operands += reversed(self.rest)
        self.rest.clear()

    def long(self, word: str) -> None:
        name, equals, text = word[2:].partition("=")
        flag = next(
            (flag for flag in self.command.flags if name in (flag.name, flag.alias or flag.name)), None
        )
        if flag is None and name == "help":
            self.found.help = True
            return
        if flag is None:
            raise UsageError(f"unknown flag: --{name}")
        if not equals:
            text = "true" if flag.kind is BOOLEAN else self.next_word(f"--{name}")
        self.store(flag, text)

    def cluster(self, word: str) -> None:
        letters = word[1:]
        while letters:
            letter, letters = letters[0], letters[1:]
            flag = next((flag for flag in self.command.flags if flag.short == letter), None)
            if flag is None and letter == "h":
                self.found.help = True
                return
            if flag is None:
                raise UsageError(f"unknown shorthand flag: '{letter}' in {word}")
            if flag.kind is BOOLEAN and not letters.startswith("="):
                self.store(flag, "true")
                continue
            text = letters.removeprefix("=") if letters else self.next_word(f"'{letter}' in {word}")
            self.store(flag, text)
            return

    def next_word(self, where: str) -> str:
        if not self.rest:
            raise UsageError(f"flag needs an argument: {where}")
        return self.rest.pop()

    def store(self, flag: Flag, text: str) -> None:
        found = self.found
        try:
            found.values[flag.name] = flag.kind.add(found.values[flag.name], text)
        except ValueError as error:
            raise UsageError(f'invalid argument "{text}" for "{flag}" flag: {error}') from None
        found.given.add(flag.name)


def _check_operands(command: Command, operands: list[str], path: str) -> None:
    least, most = command.operand_bounds()
    if least <= len(operands) and (most is None or len(operands) <= most):
        return
    if most == 0:
        raise UsageError(f"'{path}' accepts no arguments")
    wanted = f"at least {least}" if most is None else f"at most {most}" if least < most else str(least)
    raise UsageError(f"'{path}' requires {wanted} argument{'' if wanted.endswith('1') else 's'}")
