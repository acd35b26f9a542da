"""What `docker image prune` and `docker system prune` take away, and what images tell of their layers."""

from __future__ import annotations

from tests.support.launcher import IMAGE, Launcher


def _committed(docker: Launcher, *name: str, options: tuple[str, ...] = ()) -> str:
    """An image of a container that wrote 3000 bytes; the container is left."""
    docker.docker("run", "--name", "writer", IMAGE, "sh", "-c", "head -c 3000 /dev/zero >/written")
    return docker.docker("commit", *options, "writer", *name)


def test_only_images_without_a_name_that_no_container_needs_are_pruned(docker: Launcher) -> None:
    nameless = _committed(docker)
    docker.docker("create", "--name", "user", nameless)

    assert "Deleted" not in docker.docker("image", "prune", "-f")
    docker.docker("rm", "user")
    pruned = docker.docker("image", "prune", "-f")

    assert f"deleted: {nameless}" in pruned
    assert docker.docker("images", "--format", "{{.Repository}}") == IMAGE
    space = pruned.rpartition("Total reclaimed space: ")[2]
    assert float(space.removesuffix("kB")) >= 3


def test_named_images_are_pruned_where_all_are_asked_for_and_labels_fit(docker: Launcher) -> None:
    _committed(docker, "kept", options=("--change", "LABEL keep=yes"))
    docker.docker("commit", "--change", "LABEL keep=no", "writer", "gone")

    docker.docker("image", "prune", "-a", "-f", "--filter", "label!=keep=yes")

    assert set(docker.docker("images", "--format", "{{.Repository}}").split()) == {IMAGE, "kept"}
    docker.docker("rmi", "kept")


def test_everything_unused_goes_at_once(docker: Launcher) -> None:
    nameless = _committed(docker)
    docker.cnmd.create_network("unused")

    said = docker.docker("system", "prune", "-f")

    assert "Deleted Containers" in said
    assert "Deleted Networks:\nunused" in said
    assert f"deleted: {nameless}" in said
    assert docker.docker("ps", "-aq") == ""


def test_a_history_tells_how_large_layers_are_and_which_images_they_made(docker: Launcher) -> None:
    made = _committed(docker, "made")
    base = docker.docker("images", "--quiet", "--no-trunc", IMAGE)

    steps = docker.docker("history", "--no-trunc", "--human=false", "--format", "{{.ID}} {{.Size}}", "made")

    (top, written), (bottom, whole) = (line.split() for line in steps.splitlines())
    assert (top, bottom) == (made, base)
    assert 3000 <= int(written) < 10000 < int(whole)
    docker.docker("rmi", "made")
