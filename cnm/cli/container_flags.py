"""The flags of `run` and `create`: Docker's, less those of Windows, of content trust and of GPUs."""

from __future__ import annotations

from cnm.cli import container_kinds as kinds
from cnm.cli.amounts import BYTES, DURATION
from cnm.cli.container_limits import LIMIT_FLAGS
from cnm.cli.container_mounts import MOUNTS
from cnm.cli.container_networks import NETWORKS
from cnm.cli.flags import BOOLEAN, INTEGER, LIST, MAP, STRING, Flag
from cnm.cli.process_flags import DETACH_KEYS, ENV, ENV_FILE, PRIVILEGED, TTY, USER, WORKDIR

CREATE_FLAGS = tuple(
    sorted(
        (
            *LIMIT_FLAGS,
            Flag("add-host", kinds.HOSTS, 'Line of its /etc/hosts, NAME:ADDRESS; "host-gateway" is the host'),
            Flag("annotation", MAP, "Annotation for the OCI runtime"),
            Flag("attach", kinds.STREAMS, "Attach to STDIN, STDOUT or STDERR", "a"),
            Flag("blkio-weight-device", kinds.WEIGHTS, "Share of one device's I/O, DEVICE:WEIGHT"),
            Flag("cap-add", LIST, "Add a Linux capability"),
            Flag("cap-drop", LIST, "Take a Linux capability"),
            Flag("cgroup-parent", STRING, "Parent of its cgroup"),
            Flag("cgroupns", STRING, "Cgroup namespace: host or private"),
            Flag("cidfile", STRING, "Write its ID to this file"),
            Flag("device", LIST, "Add a device of the host: PATH[:PATH-INSIDE][:rwm]"),
            Flag("device-cgroup-rule", kinds.RULES, "Allow devices: TYPE MAJOR:MINOR rwm"),
            Flag("device-read-bps", kinds.BYTE_RATES, "Limit bytes read a second, DEVICE:RATE"),
            Flag("device-read-iops", kinds.OPERATION_RATES, "Limit reads a second, DEVICE:RATE"),
            Flag("device-write-bps", kinds.BYTE_RATES, "Limit bytes written a second, DEVICE:RATE"),
            Flag("device-write-iops", kinds.OPERATION_RATES, "Limit writes a second, DEVICE:RATE"),
            Flag("dns", kinds.ADDRESSES, "DNS server"),
            Flag("dns-option", LIST, "Option of resolv.conf", alias="dns-opt"),
            Flag("dns-search", kinds.DOMAINS, 'Search domain; "." for none'),
            Flag("domainname", STRING, "NIS domain name"),
            Flag("entrypoint", STRING, "What to run in place of the image's entry point"),
            ENV,
            ENV_FILE,
            Flag("expose", LIST, "Expose a port or a range of ports"),
            Flag("group-add", LIST, "Further group of its user"),
            Flag("health-cmd", STRING, "Shell command that tests its health"),
            Flag("health-interval", DURATION, "Time between two tests"),
            Flag("health-retries", INTEGER, "Failures in a row that make it unhealthy"),
            Flag("health-start-interval", DURATION, "Time between two tests while it starts"),
            Flag("health-start-period", DURATION, "Time to start in, in which failures do not count"),
            Flag("health-timeout", DURATION, "Time that one test may take"),
            Flag("hostname", STRING, "Host name", "h"),
            Flag("init", BOOLEAN, "Run an init that forwards signals and reaps processes"),
            Flag("interactive", BOOLEAN, "Keep its stdin open", "i"),
            Flag("ip", STRING, 'IPv4 address (e.g. "172.30.100.104")'),
            Flag("ip6", STRING, 'IPv6 address (e.g. "2001:db8::33")'),
            Flag("ipc", STRING, "IPC namespace: private, shareable, none, host or container:NAME"),
            Flag("isolation", STRING, "Isolation technology"),
            Flag("label", kinds.LABEL_TEXTS, "Label, KEY[=VALUE]", "l"),
            Flag("label-file", LIST, "Read labels from a file"),
            Flag("link", kinds.LINKS, "Link to another container, NAME[:ALIAS]"),
            Flag("link-local-ip", LIST, "Further, link-local address"),
            Flag("log-driver", STRING, "Where its output is kept"),
            Flag("log-opt", LIST, "Option of the log driver, KEY=VALUE"),
            Flag("mac-address", STRING, 'MAC address (e.g. "92:d0:c6:0a:29:33")'),
            Flag("memory-swappiness", INTEGER, "Swappiness, 0 to 100", default=-1),
            Flag(
                "mount",
                MOUNTS,
                "Mount: type=bind|tmpfs, src=PATH, dst=PATH, readonly and others, with commas",
            ),
            Flag("name", STRING, "Name of the container"),
            Flag(
                "network",
                NETWORKS,
                "Network to connect it to: NETWORK, or name=NETWORK,alias=NAME,ip=ADDRESS; or bridge, host, none, "
                "container:NAME",
                alias="net",
            ),
            Flag("network-alias", LIST, "Another name on the first network", alias="net-alias"),
            Flag("no-healthcheck", BOOLEAN, "Do not test its health, whatever the image says"),
            Flag("oom-kill-disable", BOOLEAN, "Stop it rather than kill it when memory is used up"),
            Flag(
                "oom-score-adj", INTEGER, "How soon it is killed when the host has no memory, -1000 to 1000"
            ),
            Flag("pid", STRING, "PID namespace: host or container:NAME"),
            Flag("platform", STRING, "Platform of the image"),
            PRIVILEGED,
            Flag("publish", LIST, "Publish a port on the host: [HOST-IP:][HOST-PORT:]PORT[/PROTOCOL]", "p"),
            Flag("publish-all", BOOLEAN, "Publish every exposed port on a free port of the host", "P"),
            Flag("pull", STRING, "Pull the image first: always, missing or never", default="missing"),
            Flag("quiet", BOOLEAN, "Do not show how the image is pulled", "q"),
            Flag("read-only", BOOLEAN, "Mount its root file system read-only"),
            Flag(
                "restart",
                STRING,
                "When it is started again: no, on-failure[:MAX], always, unless-stopped",
                default="no",
            ),
            Flag("rm", BOOLEAN, "Remove it and its anonymous volumes when it has exited"),
            Flag("runtime", STRING, "OCI runtime"),
            Flag("security-opt", LIST, "Security option, such as no-new-privileges or seccomp=FILE"),
            Flag("shm-size", BYTES, "Size of /dev/shm"),
            Flag("stop-signal", STRING, "Signal that stops it"),
            Flag("stop-timeout", INTEGER, "Seconds to stop in before it is killed"),
            Flag("storage-opt", LIST, "Option of its root file system, KEY=VALUE"),
            Flag("sysctl", kinds.SYSCTLS, "Kernel parameter of its namespaces, NAME=VALUE"),
            Flag("tmpfs", LIST, "Mount a tmpfs: PATH[:OPTIONS]"),
            TTY,
            Flag("ulimit", kinds.ULIMITS, "Resource limit, NAME=SOFT[:HARD]"),
            USER,
            Flag("userns", STRING, "User namespace: host or private[:HOSTUID:SIZE]"),
            Flag("uts", STRING, "UTS namespace: host or container:NAME"),
            Flag("volume", LIST, "Bind mount or volume: [SOURCE:]PATH[:OPTIONS]", "v"),
            Flag("volume-driver", STRING, "Driver of its volumes"),
            Flag("volumes-from", LIST, "Mount the volumes of another container too"),
            WORKDIR,
        ),
        key=lambda flag: flag.name,
    )
)

RUN_FLAGS = tuple(
    sorted(
        (
            *CREATE_FLAGS,
            Flag("detach", BOOLEAN, "Run it in the background and print its ID", "d"),
            DETACH_KEYS,
            Flag("sig-proxy", BOOLEAN, "Pass signals on to its process", default=True),
        ),
        key=lambda flag: flag.name,
    )
)
