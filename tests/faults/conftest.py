"""Shows what the crash harness played, whichever process played it."""

from __future__ import annotations

import pytest

from tests.support.crash_harness import HEADING


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    rows = [
        str(value)
        for reports in terminalreporter.stats.values()
        for report in reports
        for key, value in getattr(report, "user_properties", ())
        if key == "crash" and report.when == "call"
    ]
    if rows:
        terminalreporter.section("crash points")
        terminalreporter.write_line(HEADING)
        for row in rows:
            terminalreporter.write_line(row)
