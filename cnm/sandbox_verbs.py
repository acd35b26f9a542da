"""Create and delete sandboxes."""

from __future__ import annotations

import os

import msgspec

from cnm import names
from cnm.errors import Conflict, InvalidParameter, KernelError
from cnm.model import SHORT, new_id
from cnm.network_verbs import now
from cnm.resources import Resources
from cnm.sandbox import Sandbox, SandboxKind, SandboxState

HOST_NAMESPACE = "host"
"""In place of a path: the namespace that cnmd was started in."""


class SandboxVerbs:
    """Callers hold `locks.verbs` shared; deletion also needs the sandbox's lock."""

    def __init__(self, resources: Resources) -> None:
        self._r = resources

    def create(self, name: str, netns_path: str, labels: dict[str, str]) -> Sandbox:
        names.check_sandbox(name)
        sandbox = self._described(name, netns_path, labels)
        if sandbox.kind is SandboxKind.GIVEN:
            self._check_given(sandbox)
        self._r.model.add_sandbox(sandbox)
        try:
            self._r.store.commit(put=[sandbox], durable=False)
            self._realise(sandbox)
            active = msgspec.structs.replace(sandbox, state=SandboxState.ACTIVE)
            self._r.store.commit(put=[active], durable=True)
        except BaseException:
            self._r.model.drop(sandbox)
            self._remove_namespace(sandbox)
            self._r.store.commit(delete=[sandbox], durable=False)
            raise
        self._r.model.replace(active)
        self._r.events.publish("sandbox", "create", sandbox.id, name=name)
        return active

    def _described(self, name: str, netns_path: str, labels: dict[str, str]) -> Sandbox:
        ident = new_id()
        kind, netns = SandboxKind.OWN, os.path.join(self._r.settings.netns, ident[:SHORT])
        if netns_path == HOST_NAMESPACE:
            kind, netns = SandboxKind.HOST, ""
        elif netns_path:
            kind, netns = SandboxKind.GIVEN, netns_path
        return Sandbox(
            id=ident,
            name=name,
            kind=kind,
            netns=netns,
            created=now(),
            state=SandboxState.CREATING,
            labels=labels,
        )

    def _check_given(self, sandbox: Sandbox) -> None:
        if not os.path.isabs(sandbox.netns):
            raise InvalidParameter(f"network namespace {sandbox.netns} must be an absolute path")
        for other in self._r.model.sandboxes():
            if other.netns == sandbox.netns:
                raise Conflict(f"network namespace {sandbox.netns} belongs to sandbox {other.name} already")
        if not self._r.kernel.namespace_alive(sandbox.netns):
            raise InvalidParameter(f"{sandbox.netns} is not a network namespace, or does not exist")

    def _realise(self, sandbox: Sandbox) -> None:
        if sandbox.kind is SandboxKind.OWN:
            self._r.kernel.create_namespace(sandbox.netns)

    def _remove_namespace(self, sandbox: Sandbox) -> None:
        if sandbox.kind is SandboxKind.OWN:
            self._r.kernel.remove_namespace(sandbox.netns)

    def delete(self, sandbox: Sandbox) -> None:
        """A sandbox without endpoints."""
        deleting = msgspec.structs.replace(sandbox, state=SandboxState.DELETING)
        self._r.store.commit(put=[deleting], durable=False)
        self._r.model.replace(deleting)
        self.finish_delete(deleting)
        self._r.events.publish("sandbox", "destroy", sandbox.id, name=sandbox.name)

    def finish_delete(self, sandbox: Sandbox) -> None:
        """The part of a deletion that start-up repeats when it was interrupted."""
        self._remove_namespace(sandbox)
        self._r.store.commit(delete=[sandbox], durable=True)
        self._r.model.drop(sandbox)
        self._r.locks.forget(sandbox.id)

    def recreate_namespace(self, sandbox: Sandbox) -> None:
        """Make the namespace again that a reboot, or somebody, took away."""
        self._r.kernel.remove_namespace(sandbox.netns)
        try:
            self._r.kernel.create_namespace(sandbox.netns)
        except Conflict as error:
            raise KernelError(str(error)) from None
