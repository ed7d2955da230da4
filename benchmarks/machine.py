"""Where and when something was measured, and what: the part of a result that makes it one."""

from __future__ import annotations

import datetime
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Final

DISTRIBUTION: Final = "atbu-mp-pipeline-pkg"


def describe_machine() -> str:
    """What a figure is worth nothing without."""
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    load = os.getloadavg()[0]
    memory_gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return (
        f"{model}, {len(os.sched_getaffinity(0))} of {os.cpu_count()} CPUs usable, {memory_gib:.0f} GiB, "
        f"{platform.python_implementation()} {platform.python_version()}, {platform.system()} {platform.release()}, "
        f"load {load:.1f} at the start; {installation()}"
    )


def installation() -> str:
    """What is measured, as a contestant sees it: it starts elsewhere, and so does not find the checkout by itself."""
    code = "import atbu.mp_pipeline.pipeline as p, importlib.metadata as m; print(m.version(%r), p.__file__)"
    command = [sys.executable, "-c", code % DISTRIBUTION]
    version, file = subprocess.run(command, cwd="/", check=True, stdout=subprocess.PIPE, text=True).stdout.split(" ", 1)
    is_checkout = Path(__file__).resolve().parent.parent in Path(file).resolve().parents
    return f"{DISTRIBUTION} {version}, {'the checkout itself' if is_checkout else 'installed from a wheel'}"


def today() -> str:
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d")
