"""The implementation that this package takes the place of, in a virtual environment of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

#: It has our distribution's name and our import names, hence the environment of its own.
REQUIREMENT = "atbu-mp-pipeline-pkg==0.0.10"


def set_up(folder: Path) -> None:
    """Make the environment; needs the package index."""
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    subprocess.run([str(folder / "bin" / "pip"), "install", "--quiet", REQUIREMENT], check=True)
