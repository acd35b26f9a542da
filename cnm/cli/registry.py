"""`cnmctl pull`, `push`, `login` and `logout`: images from registries and to them."""

from __future__ import annotations

import sys

from cnm.cli import registry_logins
from cnm.cli.client import Client, quote
from cnm.cli.flags import BOOLEAN, STRING, Arguments, Command, Flag
from cnm.cli.images import split_tag
from cnm.cli.launcher_client import STANDARD_INPUT, launcher
from cnm.cli.terminal import is_terminal
from cnm.cli.transfer_display import show
from cnm.errors import InvalidParameter


def pull(client: Client, arguments: Arguments) -> int:
    name = arguments.operands[0]
    repository, tag = split_tag(name)
    if arguments["all-tags"] and tag:
        raise InvalidParameter("tag can't be used with --all-tags/-a")
    query = {"fromImage": repository}
    if not arguments["all-tags"]:
        query["tag"] = tag or "latest"
        if not tag and not arguments["quiet"]:
            print("Using default tag: latest", flush=True)
    if arguments["platform"]:
        query["platform"] = arguments["platform"]
    daemon = launcher(client)
    headers = registry_logins.headers(name)
    show(daemon.stream("/images/create", query, method="POST", headers=headers), quiet=arguments["quiet"])
    if arguments["quiet"]:
        print(name if tag or arguments["all-tags"] else f"{name}:latest")
    return 0


def push(client: Client, arguments: Arguments) -> int:
    name = arguments.operands[0]
    repository, tag = split_tag(name)
    if arguments["all-tags"] and tag:
        raise InvalidParameter("tag can't be used with --all-tags/-a")
    if not tag and not arguments["all-tags"]:
        print("Using default tag: latest", flush=True)
    query = {} if arguments["all-tags"] else {"tag": tag or "latest"}
    headers = registry_logins.headers(name) or {registry_logins.HEADER: ""}
    path = f"/images/{quote(repository)}/push"
    show(launcher(client).stream(path, query, method="POST", headers=headers), quiet=arguments["quiet"])
    if arguments["quiet"]:
        print(name)
    return 0


def login(client: Client, arguments: Arguments) -> int:
    server = (*arguments.operands, "")[0]
    key = registry_logins.server_key(server)
    user = arguments["username"] or _asked_user(registry_logins.user_of(key))
    password = _password(arguments)
    given = {"username": user, "password": password, "serveraddress": key}
    answer = launcher(client).post("/auth", given)
    registry_logins.keep(key, user, password)
    print(answer["Status"])
    return 0


def _asked_user(known: str) -> str:
    if not is_terminal(STANDARD_INPUT):
        raise InvalidParameter("cannot ask for a user: give --username and --password-stdin")
    print(f"Username ({known}): " if known else "Username: ", end="", flush=True)
    user = sys.stdin.readline().strip() or known
    if not user:
        raise InvalidParameter("a user name is required")
    return user


def _password(arguments: Arguments) -> str:
    if arguments["password"] and arguments["password-stdin"]:
        raise InvalidParameter("--password and --password-stdin are mutually exclusive")
    if arguments["password-stdin"]:
        if not arguments["username"]:
            raise InvalidParameter("Must provide --username with --password-stdin")
        return sys.stdin.read().removesuffix("\n").removesuffix("\r")
    if arguments["password"]:
        return str(arguments["password"])
    if not is_terminal(STANDARD_INPUT):
        raise InvalidParameter("cannot ask for a password: give it by --password-stdin")
    from getpass import getpass

    return getpass()


def logout(_client: Client, arguments: Arguments) -> int:
    key = registry_logins.server_key((*arguments.operands, "")[0])
    known = registry_logins.forget(key)
    print(f"Removing login credentials for {key}" if known else f"Not logged in to {key}")
    return 0


_QUIET = Flag("quiet", BOOLEAN, "Show no progress", "q")
PULL = Command(
    "pull",
    "Fetch an image from a registry",
    pull,
    "NAME[:TAG|@DIGEST]",
    (
        Flag("all-tags", BOOLEAN, "Fetch all tags of the repository", "a"),
        Flag("platform", STRING, "Of the images of this name the one for OS/ARCHITECTURE"),
        _QUIET,
    ),
)
PUSH = Command(
    "push",
    "Send an image to its registry",
    push,
    "NAME[:TAG]",
    (Flag("all-tags", BOOLEAN, "Send all tags of the repository that are here", "a"), _QUIET),
)
LOGIN = Command(
    "login",
    "Log in to a registry, Docker Hub where none is named",
    login,
    "[SERVER]",
    (
        Flag("password", STRING, "Password; others can see it, --password-stdin is safer", "p"),
        Flag("password-stdin", BOOLEAN, "Read the password from standard input"),
        Flag("username", STRING, "User", "u"),
    ),
)
LOGOUT = Command("logout", "Log out from a registry, Docker Hub where none is named", logout, "[SERVER]")
