"""What gRPC is told before it is loaded, whichever of our modules loads it."""

from __future__ import annotations

import subprocess
import sys

import pytest

_CODE = """
import os, sys

class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == "grpc":
            print(os.environ.get("GRPC_ENABLE_FORK_SUPPORT"), os.environ.get("GRPC_VERBOSITY"))
            os._exit(0)

sys.meta_path.insert(0, Finder())
sys.stdout.reconfigure(line_buffering=True)
import cnm.cluster.etcd.{module}
"""


@pytest.mark.parametrize("module", ["client", "admin", "backup", "calls", "channel", "failover", "watching"])
def test_grpc_leaves_forks_alone_and_logs_nothing_of_its_own(module: str) -> None:
    done = subprocess.run([sys.executable, "-c", _CODE.format(module=module)], capture_output=True, text=True)

    assert done.stdout == "0 NONE\n", done.stderr
