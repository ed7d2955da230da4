"""The samples do what they and their README say."""

from __future__ import annotations

import re
import subprocess

from cli_tools import MPP, environment, mpp, unpacked

LOG = b"one@example.org did this\nnobody did that\ntwo.three+four@sub.example.com and five@example.net did more\n"
MASKED = b"*** did this\nnobody did that\n*** and *** did more\n"


def test_the_backup_is_a_tar_that_comes_back_whole(checkout, tmp_path, require_tool):
    """``tar c … | mpp run backup.toml -o data.tar.zst``, tested and unpacked by the system's own tools."""
    require_tool("zstd")
    (tmp_path / "data/inner").mkdir(parents=True)
    for number in range(50):
        (tmp_path / f"data/inner/file {number}").write_bytes(b"%d\n" % number * 10_000)
    script = 'set -eo pipefail; tar c data | "$@" -o data.tar.zst; zstd -qt data.tar.zst; zstd -dc data.tar.zst | tar d'
    backup = str(checkout / "samples/backup.toml")
    done = subprocess.run(
        ["bash", "-c", script, "bash", *MPP, "run", backup],
        cwd=tmp_path, env=environment(), capture_output=True, timeout=60, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, b""), done.stderr


def test_the_backup_of_a_named_tar_stands_beside_it(checkout, tmp_path):
    """data.tar becomes data.tar.zst, as the comment in backup.toml says."""
    (tmp_path / "data.tar").write_bytes(bytes(10240))
    assert mpp("run", checkout / "samples/backup.toml", "data.tar", cwd=tmp_path).returncode == 0
    assert unpacked((tmp_path / "data.tar.zst").read_bytes()) == bytes(10240)


def test_a_user_s_own_stage_runs_as_module_object(checkout):
    """With --app-dir; its list names a built-in stage."""
    done = mpp("run", "--app-dir", checkout / "samples", "custom_stage:pipeline", data=LOG)
    assert (done.returncode, unpacked(done.stdout)) == (0, MASKED), done.stderr


def test_a_user_s_own_stage_runs_as_file_object(checkout):
    """Without anything on the module path."""
    done = mpp("run", "samples/custom_stage.py:pipeline", data=LOG, cwd=checkout)
    assert (done.returncode, unpacked(done.stdout)) == (0, MASKED), done.stderr


def test_a_user_s_own_stage_runs_from_a_toml_with_its_options(checkout, tmp_path):
    """The output has the name that the stage gives it."""
    (tmp_path / "access.log").write_bytes(LOG)
    done = mpp("run", checkout / "samples/custom_stage.toml", "access.log", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "access.log.masked").read_bytes() == re.sub(rb"[\w.+]+@", b"[removed]@", LOG)


def test_a_function_s_arguments_and_a_text_say_the_same(checkout, tmp_path):
    """The function with --set, and the filter inside a text; the named list writes what its own suffix says."""
    (tmp_path / "x.log").write_bytes(b"one FATAL\ntwo ERROR\nthree\n")
    file = checkout / "samples/pipelines.py"
    (tmp_path / "samples").symlink_to(checkout / "samples")
    done = mpp("run", f"{file}:errors", "--set", "word=FATAL", data=b"one FATAL\ntwo ERROR\n", cwd=tmp_path)
    assert (done.returncode, unpacked(done.stdout)) == (0, b"one FATAL\n"), done.stderr
    text = "samples/pipelines.py:keep word=FATAL | zstd"
    assert mpp("run", text, data=b"one FATAL\ntwo ERROR\n", cwd=tmp_path).stdout == done.stdout
    assert mpp("run", f"{file}:nightly", "x.log", cwd=tmp_path).returncode == 0
    assert unpacked((tmp_path / "x.log.errors.zst").read_bytes()) == b"two ERROR\n"


def test_the_readme_of_the_samples_names_every_file(checkout):
    """And nothing that is not there."""
    text = (checkout / "samples/README.md").read_text()
    named = set(re.findall(r"\]\(([^)]+)\)", text))
    there = {file.name + "/" * file.is_dir() for file in (checkout / "samples").iterdir()}
    assert named == {name for name in there if name not in ("README.md", "__pycache__/")}
