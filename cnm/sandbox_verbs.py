"""Create and delete sandboxes."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

import msgspec

from cnm import names, segments, wanted
from cnm.errors import Conflict, InvalidParameter, KernelError
from cnm.kernel.state import HOST
from cnm.model import SHORT, new_id
from cnm.naming import Attached
from cnm.network_verbs import now
from cnm.resources import Resources
from cnm.sandbox import Resolution, Sandbox, SandboxKind, SandboxState
from cnm.wire.requests import HOST_NAMESPACE


class SandboxVerbs:
    """Callers hold `locks.verbs` shared; deletion also needs the sandbox's lock."""

    def __init__(self, resources: Resources) -> None:
        self._r = resources

    def create(
        self, name: str, netns_path: str, labels: dict[str, str], resolution: Resolution, ident: str = ""
    ) -> Sandbox:
        names.check_sandbox(name)
        sandbox = self._described(ident or new_id(), name, netns_path, labels, resolution)
        if sandbox.kind is SandboxKind.GIVEN:
            self._check_given(sandbox)
        # Locked before anybody can find it: who joins it meanwhile waits for the outcome.
        with self._r.locks.sandbox(sandbox.id):
            self._r.model.add_sandbox(sandbox)
            active = self._made(sandbox)
        self._r.events.publish("sandbox", "create", sandbox.id, name=name)
        return active

    def _made(self, sandbox: Sandbox) -> Sandbox:
        """Record the intent, make the namespace, record the outcome; undo all of it on failure."""
        r = self._r
        with contextlib.ExitStack() as undo:
            undo.callback(r.locks.forget, sandbox.id)
            undo.callback(r.model.drop, sandbox)
            r.store.commit(put=[sandbox], durable=False)
            undo.callback(r.store.commit, delete=[sandbox], durable=False)
            if sandbox.kind is SandboxKind.OWN:
                r.kernel.create_namespace(sandbox.netns)
                undo.callback(r.kernel.remove_namespace, sandbox.netns)
            r.files.created(sandbox, undo)
            active = msgspec.structs.replace(sandbox, state=SandboxState.ACTIVE)
            r.store.commit(put=[active], durable=True)
            undo.pop_all()
        r.model.replace(active)
        return active

    def _described(
        self, ident: str, name: str, netns_path: str, labels: dict[str, str], resolution: Resolution
    ) -> Sandbox:
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
            resolution=resolution,
        )

    def _check_given(self, sandbox: Sandbox) -> None:
        if not os.path.isabs(sandbox.netns):
            raise InvalidParameter(f"network namespace {sandbox.netns} must be an absolute path")
        identity = self._r.kernel.namespace_identity
        wanted = identity(sandbox.netns)
        if wanted is None:
            raise InvalidParameter(f"{sandbox.netns} is not a network namespace, or does not exist")
        if wanted == identity(HOST):
            raise InvalidParameter(
                f"{sandbox.netns} is the host's own network namespace: give 'host' instead"
            )
        for other in self._r.model.sandboxes():
            if other.kind is not SandboxKind.HOST and identity(other.netns) == wanted:
                raise Conflict(f"network namespace {sandbox.netns} belongs to sandbox {other.name} already")

    def rename(self, sandbox: Sandbox, name: str) -> None:
        """And its endpoints that are called as it was; whoever asks for the new name finds them when this returns."""
        r, before = self._r, wanted.attached(self._r, sandbox)
        names.check_sandbox(name)
        with contextlib.ExitStack() as undo:
            renamed = r.model.rename(sandbox, name)
            undo.callback(r.model.rename, renamed, sandbox.name)
            after = [self._renamed_with(sandbox, each, name, undo) for each in before]
            r.store.commit(put=[renamed, *(each.endpoint for each in after)], durable=False)
            undo.pop_all()
        for each in after:
            others = [other for other in after if other is not each]
            r.naming.joined(renamed, each, others)
            segments.renamed(r, each.network, each.endpoint, renamed)
        r.events.publish("sandbox", "rename", sandbox.id, name=name, oldName=sandbox.name)

    def _renamed_with(
        self, sandbox: Sandbox, attached: Attached, name: str, undo: contextlib.ExitStack
    ) -> Attached:
        endpoint = attached.endpoint
        if endpoint.name != sandbox.name:
            return attached
        renamed = self._r.model.rename(endpoint, name)
        undo.callback(self._r.model.rename, renamed, endpoint.name)
        return Attached(renamed, attached.network)

    @contextlib.contextmanager
    def emptied(self, sandbox: Sandbox) -> Iterator[None]:
        """For the endpoints that go before it is deleted: a process killed in the block leaves the intent of all."""
        deleting = msgspec.structs.replace(sandbox, state=SandboxState.DELETING)
        self._r.store.commit(put=[deleting], durable=False)
        try:
            yield
        except BaseException:
            self._r.store.commit(put=[sandbox], durable=False)
            raise

    def delete(self, sandbox: Sandbox) -> None:
        """A sandbox without endpoints."""
        r = self._r
        deleting = msgspec.structs.replace(sandbox, state=SandboxState.DELETING)
        with contextlib.ExitStack() as undo:
            r.store.commit(put=[deleting], durable=False)
            undo.callback(r.store.commit, put=[sandbox], durable=False)
            r.model.replace(deleting)
            undo.callback(r.model.replace, sandbox)
            r.naming.forget(sandbox)
            if sandbox.kind is SandboxKind.OWN:
                r.kernel.remove_namespace(sandbox.netns)
                undo.callback(self.recreate_namespace, sandbox)
            r.store.commit(delete=[sandbox], durable=True)
            undo.pop_all()
        self._drop(sandbox)
        r.events.publish("sandbox", "destroy", sandbox.id, name=sandbox.name)

    def finish_delete(self, sandbox: Sandbox) -> None:
        """What start-up does with a sandbox whose creation or deletion was interrupted."""
        if sandbox.kind is SandboxKind.OWN:
            self._r.kernel.remove_namespace(sandbox.netns)
        self._r.store.commit(delete=[sandbox], durable=True)
        self._drop(sandbox)

    def _drop(self, sandbox: Sandbox) -> None:
        """What a process killed before this leaves of its files, start-up takes away."""
        self._r.files.deleted(sandbox)
        self._r.model.drop(sandbox)
        self._r.locks.forget(sandbox.id)

    def recreate_namespace(self, sandbox: Sandbox) -> None:
        """Make the namespace again that a reboot, or somebody, took away."""
        self._r.kernel.remove_namespace(sandbox.netns)
        try:
            self._r.kernel.create_namespace(sandbox.netns)
        except Conflict as error:
            raise KernelError(str(error)) from None
        self._r.naming.renew(sandbox)
