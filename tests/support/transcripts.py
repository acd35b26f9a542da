"""The recorded traffic of real dockerds; tests/data/transcripts/README.md says where it comes from."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parents[1] / "data" / "transcripts"
NAMES = tuple(sorted(path.stem for path in FOLDER.glob("*.jsonl")))
_VERSIONS = {"d20": "20.10", "d28": "28.5", "d29": "29.7"}


@dataclass(frozen=True)
class Recorded:
    """One call; `request` is None where the body was empty."""

    path: str
    request: dict[str, Any] | None
    answer: Any
    status: int = 200

    @property
    def failed(self) -> bool:
        """Whether the recorded plugin answered an error; it said Err in IPAM answers too."""
        said = isinstance(self.answer, dict) and (self.answer.get("Err") or self.answer.get("Error"))
        return self.status != 200 or bool(said)


@dataclass
class Step:
    """A docker command, or what was done to dockerd, with the calls that it caused."""

    text: str
    calls: list[Recorded] = field(default_factory=list)


@dataclass(frozen=True)
class Transcript:
    """One recording; `version` is that of the dockerd, as FakeDockerd names it."""

    name: str
    version: str
    steps: list[Step]


def load(name: str) -> Transcript:
    """The recording of that name, one of NAMES."""
    steps: list[Step] = []
    for line in (FOLDER / f"{name}.jsonl").read_text().splitlines():
        entry = json.loads(line)
        if "step" in entry:
            steps.append(Step(entry["step"]))
        else:
            call = Recorded(entry["path"], entry.get("request"), entry["answer"], entry.get("status", 200))
            steps[-1].calls.append(call)
    return Transcript(name, _VERSIONS[name[:3]], steps)
