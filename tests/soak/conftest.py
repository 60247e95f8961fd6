"""How long the soak test lasts."""

from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """The option of ``make soak``."""
    parser.addoption("--seconds", type=int, default=20, help="how long it lasts, all in all")


@pytest.fixture
def seconds(request: pytest.FixtureRequest) -> float:
    """How long one round lasts."""
    return float(request.config.getoption("--seconds")) / 2
