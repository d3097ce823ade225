"""Says aloud when the proofs do not run."""

from __future__ import annotations

import pytest
from formal.needs import MISSING


def test_proofs_run() -> None:
    if MISSING:
        pytest.skip(f"formal proofs: {', '.join(MISSING)} not installed; pip install -e '.[test]'")
