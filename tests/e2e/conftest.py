"""What do the tests of runs share? A lab for each."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.lab import Lab
from tests.ray_cluster import OwnHead, RunningHead


@pytest.fixture
def lab(tmp_path: Path, ray_head: RunningHead) -> Lab:
    """Give a state root of its own on the cluster of all tests."""
    return Lab(tmp_path, ray_head.dashboard_url, ray_head.token_path)


@pytest.fixture
def alone(tmp_path: Path) -> Lab:
    """Give a state root without a cluster."""
    return Lab(tmp_path / "alone", None, None)


@pytest.fixture
def own_lab(tmp_path: Path, own_head: Callable[..., OwnHead]) -> Callable[..., tuple[Lab, OwnHead]]:
    """Give a function that makes a state root on a head that the test may destroy."""

    def make(*, durable: bool = False) -> tuple[Lab, OwnHead]:
        head = own_head(durable=durable)
        return Lab(tmp_path, head.dashboard_url, head.token_path), head

    return make
