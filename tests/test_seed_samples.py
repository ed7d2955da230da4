"""The four programs that the original's readme shows run word for word and print what it says."""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

# Name, and the sha256 of the program in the readme: where the readme is not at hand this stands for it.
SAMPLES = {
    "basic": "5ae63b1b12c2b68a19c7fea17a814bb0443822bdf046529fc5d47c9fd0399137",
    "large": "b36e1e40e840d02c62cd2133f26723c336403c60706d5f8e447644cc31f9e5a2",
    "mixed": "579f6fee99560debcc6be27ac6e9d5c909ff60b84007892e47b042630ea43c2d",
    "producer_consumer": "d3fc09e4c0272de91fd93978a9dc4ad2ddb394a5337ff8a2ba46865a8c7e49b3",
}
README = "shared/seed/atbu-mp-pipeline-readme.md"

BASIC = """\
Work item completed successfully:
  wi.user_obj[0]=400
  wi.user_obj[1]=stage1
  wi.user_obj[2]=stage2: got this from parent: This is from parent
"""

# The readme shows a line more, r_wi.num=50, which its program does not print.
LARGE = """\
Pipeline has 100 stages.
Work item completed successfully:
  r_wi.is_ok=True
  r_wi.pid=PID
"""

MIXED = """\
Pipeline has 20 stages.
Work item completed successfully:
  r_wi.num=20
  r_wi.pid=PID
"""

PRODUCER_CONSUMER = """\
Success for #0:
  0: num_bytes=10
  0: p_bytes=BYTES
  0: c_bytes=BYTES
Success for #1:
  1: num_bytes=10
  1: p_bytes=BYTES
  1: c_bytes=BYTES
"""


def _program(checkout: Path, name: str) -> Path:
    return checkout / "samples" / "seed" / f"{name}.py"


def _run(program: Path, *options: str) -> str:
    """What a program prints; it must end well, and say nothing on stderr."""
    done = subprocess.run(
        [sys.executable, *options, str(program)], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.mark.parametrize("name", SAMPLES)
def test_a_sample_is_the_readmes_word_for_word(checkout, name):
    """Not a character has been changed to make it run."""
    assert hashlib.sha256(_program(checkout, name).read_bytes()).hexdigest() == SAMPLES[name]


def test_the_samples_are_the_readmes_programs(checkout):
    """The code blocks of the readme, in its order, where it lies beside the checkout."""
    readme = checkout.parent / README
    if not readme.exists():
        pytest.skip(f"{README} does not lie beside the checkout; the sha256 above stands for it")
    blocks = re.findall(r"^```\n(.*?)^ *```$", readme.read_text(), re.MULTILINE | re.DOTALL)
    programs = [block for block in blocks if "def main():" in block]

    assert programs == [_program(checkout, name).read_text() for name in SAMPLES]


@pytest.mark.parametrize(("name", "expected"), [("basic", BASIC), ("large", LARGE), ("mixed", MIXED)])
def test_a_sample_prints_what_the_readme_shows(checkout, name, expected):
    """Process ids aside."""
    assert re.sub(r"pid=\d+$", "pid=PID", _run(_program(checkout, name)), flags=re.MULTILINE) == expected


def test_the_producer_consumer_sample_prints_what_the_readme_shows(checkout):
    """The bytes aside, which are random, ten, and the same at both ends of the pipe."""
    output = _run(_program(checkout, "producer_consumer"))

    number = r"((?:[0-9a-f]{2} ){9}[0-9a-f]{2})$"
    assert re.sub(r"(?<=_bytes=)" + number, "BYTES", output, flags=re.MULTILINE) == PRODUCER_CONSUMER
    for item in "01":
        sent, received = (re.search(rf"{item}: {end}_bytes={number}", output, re.MULTILINE) for end in "pc")
        assert sent[1] == received[1]


@pytest.mark.slow
@pytest.mark.parametrize("name", SAMPLES)
def test_a_sample_leaves_no_warning(checkout, name):
    """In Python's development mode too, where what was not closed is told."""
    assert _run(_program(checkout, name), "-X", "dev", "-W", "error")
