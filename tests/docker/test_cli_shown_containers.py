"""Commands that show containers and move files, ours beside Docker's own clients, against one real dockerd.

What both print is compared word for word. Where Docker changed a text between 20.10 and 28 the newer one holds, and
`CHANGED` says so; a text of ours that is neither is in `OURS`, with its reason.
"""

from __future__ import annotations

import re

import pytest

from tests.docker.shown_stage import (
    LONG,
    Client,
    Stage,
    comparable,
    without_ages,
)
from tests.support.dockerd import PROGRAMS
from tests.support.unpacked import lacking

pytestmark = pytest.mark.skipif(lacking(*PROGRAMS) != "", reason=lacking(*PROGRAMS))

COMMANDS: list[list[str]] = [
    ["ps"],
    ["ps", "-a"],
    ["ps", "-q"],
    ["ps", "-aq", "--no-trunc"],
    ["ps", "-a", "--no-trunc"],
    ["ps", "-n", "2"],
    ["ps", "-l"],
    ["ps", "-as"],
    ["ps", "--filter", "status=paused"],
    ["ps", "-a", "-f", "status=exited", "-f", "status=created"],
    ["ps", "-f", "label=tier=front", "--format", "{{.Names}} {{.Labels}}"],
    ["ps", "-f", "network=web", "--format", "{{.Ports}}|{{.Mounts}}|{{.LocalVolumes}}"],
    ["ps", "-a", "--format", r"table {{.ID}}\t{{.Names}}\t{{.State}}\t{{.RunningFor}}"],
    ["ps", "-a", "--format", '{{.Names}}: {{.CreatedAt}} {{.Label "tier"}}'],
    ["ps", "-a", "--format", "{{.Names}} {{.Size}}"],
    ["ps", "-a", "--no-trunc", "--format", "{{.Image}} {{.Command}} {{.Names}}"],
    ["ps", "-af", "name=nope"],
    ["ps", "-f", "nope=1"],
    ["ps", "--format", "{{.Nope}}"],
    ["container", "ls", "-a"],
    ["inspect", "plain"],
    ["inspect", "ports", LONG, "web"],
    ["inspect", "-s", "plain"],
    ["inspect", "busybox"],
    ["inspect", "-f", "{{.ID}} {{.Id}} {{.RepoTags}} {{.Size}}", "busybox"],
    ["inspect", "-f", "{{.Os}} {{.Config.Cmd}} {{.RootFS.Layers}} {{.RepoDigests}}", "busybox"],
    ["inspect", "--type", "network", "web", "bridge"],
    ["container", "inspect", "healthy"],
    ["inspect", "-f", "{{.State.Status}} {{.State.Running}} {{.Config.Env}}", "plain", "writer"],
    ["inspect", "-f", "{{.Id}} {{.ID}} {{.Name}} {{.RestartCount}}", "plain"],
    ["inspect", "-f", "{{.State.ExitCode}} {{.State.Health}}", "writer"],
    ["inspect", "-f", "{{if .State.Health}}{{.State.Health.Status}}{{end}}", "healthy"],
    ["inspect", "-f", '{{(index (index .NetworkSettings.Ports "80/tcp") 0).HostPort}}', "ports"],
    ["inspect", "-f", "{{range $p, $c := .NetworkSettings.Ports}}{{$p}} {{$c}};{{end}}", "ports"],
    [
        "inspect",
        "-f",
        "{{range $k, $v := .NetworkSettings.Networks}}{{$k}} {{.IPAddress}}/{{.IPPrefixLen}} {{end}}",
        "ports",
    ],
    ["inspect", "-f", "{{.NetworkSettings.Networks.web.IPAMConfig.IPv4Address}}", "ports"],
    ["inspect", "-f", "{{json .HostConfig.PortBindings}}", "ports"],
    ["inspect", "-f", '{{index .Config.Labels "tier"}}{{index .Config.Labels "nope"}}', "plain"],
    ["inspect", "-f", "{{.HostConfig.RestartPolicy.Name}} {{.HostConfig.Memory}}", "plain"],
    ["inspect", "-f", "{{.SizeRw}}", "--size", "plain"],
    ["inspect", "-f", "{{range .Mounts}}{{.Type}}{{.Destination}}{{end}}", "ports"],
    ["inspect", "-f", "{{json .Config.Labels}} {{json .Mounts}}", "plain"],
    ["inspect", "-f", "{{.Nope}}", "plain"],
    ["container", "inspect", "-f", "{{.State.Pid", "plain"],
    ["logs", "writer"],
    ["logs", "--tail", "1", "writer"],
    ["logs", "-t", "writer"],
    ["logs", "-n", "0", "writer"],
    ["logs", "--since", "1h", "--until", "0s", "writer"],
    ["logs", "--since", "2100-01-01", "writer"],
    ["logs", "--details", "writer"],
    ["logs", "terminal"],
    ["logs", "created"],
    ["logs", "--follow", "writer"],
    ["logs", "--since", "nonsense", "writer"],
    ["top", "plain"],
    ["top", "terminal", "-o", "pid,args"],
    ["top", "writer"],
    ["diff", "plain"],
    ["diff", "writer"],
    ["images"],
    ["images", "-q"],
    ["images", "--no-trunc"],
    ["images", "--digests"],
    ["images", "nope"],
    ["images", "registry.example:5000/team/box"],
    ["images", "-f", "dangling=true"],
    ["images", "--format", "{{.Repository}}:{{.Tag}} {{.Size}} {{.CreatedSince}}"],
    ["images", "--format", r"table {{.ID}}\t{{.CreatedAt}}\t{{.VirtualSize}}"],
    ["inspect", "nope"],
    ["inspect", "plain", "nope", "writer"],
    ["inspect", "-f", "{{.Name}}", "plain", "nope", "writer"],
    ["inspect", "--type", "image", "plain"],
    ["inspect", "--type", "nope", "plain"],
    ["inspect", "--format", "json", "web"],
    ["inspect", "-f", "{{.Created}} {{.IPAM.Config}}", "web"],
    ["inspect", "-f", "{{.HostConfig.Binds}} {{.HostConfig.Init}} {{.Config.Entrypoint}}", "plain"],
    ["ps", "--format", "json"],
    ["ps", "--format", "{{json .}}"],
    ["ps", "-q", "--format", "{{.Names}}"],
    ["ps", "--format", "{{.Names"],
    ["ps", "--format", "{{.Names}} {{.Platform}}"],
    ["ps", "--format", "{{json .Ports}} {{json .Status}}"],
    ["images", "--format", "{{.Nope}}"],
    ["images", "--format", "json"],
    ["ps", "--format", "table"],
    ["commit", "nope"],
    ["export", "nope"],
    ["info", "--format", "{{.Containers}} {{.ContainersPaused}} {{.Driver}} {{.CgroupVersion}}"],
    ["events", "--since", "1h", "--until", "0s"],
    ["events", "--since", "1h", "--until", "0s", "-f", "type=container", "-f", "container=writer"],
    ["events", "--since", "1h", "--until", "0s", "-f", "event=die", "--format", "{{json .}}"],
    [
        "events",
        "--since",
        "1h",
        "--until",
        "0s",
        "-f",
        "event=pause",
        "--format",
        "{{.Action}} {{.Actor.ID}}",
    ],
    ["stats", "--no-stream", "--format", "{{.Container}} {{.Name}} {{.PIDs}}", "plain", "terminal"],
    ["stats", "--no-stream", "created", "writer"],
    ["stats", "--no-stream", "--format", "{{.Name}} {{.ID}} {{.Container}}"],
    ["stats", "--no-stream", "-a", "--format", "table {{.Name}}"],
    ["stats", "--no-stream", "--format", "json", "created"],
    ["stats", "--no-stream", "plain", "nope"],
    ["stats", "--no-stream", "--no-trunc", "created"],
    ["stats", "--no-stream", "nope"],
    ["cp", "plain:/nope", "."],
    ["cp", "plain:/data", "/no/such/folder/x"],
    ["cp", "/no/such/file", "plain:/"],
    ["cp", "plain:/data", "plain:/data2"],
    ["cp", "/etc/hostname", "/tmp"],
    ["cp", "/etc/hostname", "plain:/data/nope/"],
    ["cp", "/etc", "plain:/data/file"],
    ["cp", "-", "plain:/data/file"],
    ["cp", "/etc/hostname", "nope:/"],
    ["cp", "/etc/hostname", "plain:/proc/no/such"],
]


CHANGED: dict[str, str] = {
    "cp plain:/nope .": "20.10 put its own words in place of the daemon's",
    "cp /etc/hostname plain:/proc/no/such": "20.10 put its own words in place of the daemon's",
    "inspect --type image plain": "20.10 put its own words in place of the daemon's",
    "inspect --format json web": "the word json is newer",
    "ps --format json": "the word json is newer",
    "ps --format {{json .}}": "the field Platform is newer",
    "ps --format {{.Names}} {{.Platform}}": "the field Platform is newer",
    "images --format json": "the word json is newer",
    "stats --no-stream --format json created": "the word json is newer",
    "ps -q --format {{.Names}}": "20.10 ignored -q beside a format",
}
"""Commands of which 20.10 printed another text than 28 does."""

OURS: dict[str, str] = {
    "container inspect -f {{.State.Pid plain": "docker exits with 64 for a template that it cannot read; ours is 1",
    "inspect --type nope plain": "of the types of objects the launcher has four, and names those",
}
"""Commands of which our text or code is neither, and why."""


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_output_is_dockers(stage: Stage, client: Client, words: list[str]) -> None:
    called = " ".join(words)
    differs = called in OURS or (client.version < 28 and called in CHANGED)
    attempts = 1 if differs else 8
    before = comparable(stage.docker(*words, client=client), words, client.version)
    for _ in range(attempts):  # ages pass between the one and the other
        ours = comparable(stage.cnmctl(*words), words, client.version)
        after = comparable(stage.docker(*words, client=client), words, client.version)
        if ours in (before, after):
            break
        before = after
    if differs:
        assert ours != after, "it is the same now: take it out of the list"
    elif ours not in (before, after):  # on a slow machine an age passes every time
        assert without_ages(ours) == without_ages(after)


def test_what_info_says_of_the_server_is_what_docker_says(stage: Stage) -> None:
    ours, theirs = (
        say("info")[1].partition("Server:")[2].split("\n") for say in (stage.cnmctl, stage.docker)
    )

    assert {_sorted_words(line) for line in ours} <= {_sorted_words(line) for line in theirs}
    assert {" Containers: 8", "  Paused: 1", " Storage Driver: overlay2"} <= set(ours)


def _sorted_words(line: str) -> tuple[str, ...]:
    """Docker lists runtimes in any order."""
    return tuple(sorted(line.split(" ")))


def test_every_flag_of_docker_is_there(stage: Stage) -> None:
    names = [
        "commit",
        "cp",
        "diff",
        "events",
        "export",
        "images",
        "import",
        "info",
        "inspect",
        "load",
        "logs",
        "ps",
        "rmi",
        "stats",
        "top",
    ]
    names += ["container ls", "container inspect", "container prune"]
    missing = {}
    for name in names:
        ours, theirs = (
            set(re.findall(r"--[a-z-]+", say(*name.split(), "--help")[1])) - {"--help"}
            for say in (stage.cnmctl, stage.docker)
        )
        if theirs - ours - LACKING.get(name, set()):
            missing[name] = theirs - ours
    assert missing == {}


LACKING = {
    "load": {"--platform"},  # images of several platforms
    "rmi": {"--platform"},
    "images": {"--tree"},  # experimental
}
"""Flags of Docker's commands that ours have not."""
