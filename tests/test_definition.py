"""What a PIPELINE argument may be: a ready-made name, a TOML file, a Python object, a plug-in's."""

from __future__ import annotations

import os

import pytest
from cli_tools import environment, lines_of, mpp, unpacked
from user_stages import STAGES

from mpp_cli.definition import load_definition


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with a user's stages, as the current one."""
    (tmp_path / "mine.py").write_text(STAGES)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_right_file_is_what_it_says(folder):
    """Names, options and reserved keys reach the stages."""
    (folder / "p.toml").write_text(
        'name = "mine"\n[[stage]]\nname = "first"\nuse = "./mine.py:Add"\ntext = "x"\nshare = 1\ntimeout = 2.5\n'
        'retries = 3\n[[stage]]\nuse = "zstd"\nlevel = 19\nrun_in = "thread"\n'
    )
    definition = load_definition("p.toml", None)
    first, second, sink = definition.stages
    assert (definition.name, definition.origin) == ("mine", "p.toml")
    assert (first.name, first.timeout, first.retries) == ("first", 2.5, 3)
    assert (first.text, first.times, first.share) == ("x", 1, 1)
    assert (second.level, second.is_subprocess) == (19, False)
    assert [planned.is_appended for planned in definition.planned] == [False, False, True]
    assert sink.is_sink


def test_a_ready_stage_may_stand_in_a_file_twice(folder):
    """Under two names it is two stages."""
    text = '[[stage]]\nuse="./mine.py:ready"\nname="one"\n[[stage]]\nuse="./mine.py:ready"\nname="two"\n'
    (folder / "p.toml").write_text(text)
    assert [stage.name for stage in load_definition("p.toml").stages] == ["one", "two", "write"]


def test_a_file_of_stages_is_found_beside_the_toml(folder):
    """Not beside where the user happens to stand."""
    (folder / "elsewhere").mkdir()
    (folder / "p.toml").write_text('[[stage]]\nuse = "./mine.py:ready"\n')
    done = mpp("run", "-q", "../p.toml", data=b"x", cwd=folder / "elsewhere")
    assert (done.returncode, done.stdout) == (0, b"x!!"), done.stderr


@pytest.mark.parametrize(
    ("args", "output"),
    [
        (["./mine.py:pipeline"], b"xab"),
        (["./mine.py:function"], b"xab"),
        (["./mine.py:ready"], b"x!!"),
        (["./mine.py:Plain"], b"x"),
        (["--app-dir", ".", "mine:pipeline"], b"xab"),
        (["--app-dir", "folder", "inner.module:Holder.stages"], b"x?"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_python_object_is_a_pipeline(folder, args, output):
    """A list, a function that gives one, a stage, a class; by file or by module; dotted names."""
    (folder / "folder/inner").mkdir(parents=True)
    (folder / "folder/inner/module.py").write_text(STAGES + "class Holder:\n    stages = [Add('?')]\n")
    done = mpp("run", "-q", *args, data=b"x", cwd=folder)
    assert (done.returncode, done.stdout) == (0, output), done.stderr


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_a_file_s_stages_reach_workers_however_they_are_started(folder, method):
    """Also under a name that an installed module has."""
    (folder / "zstandard.py").write_text(
        f"import multiprocessing\nmultiprocessing.set_start_method('{method}', force=True)\n{STAGES}"
    )
    done = mpp("run", "-q", "./zstandard.py:pipeline", data=b"x", cwd=folder)
    assert (done.returncode, done.stdout) == (0, b"xab"), done.stderr


def test_built_in_names_cannot_be_shadowed(folder):
    """A file, a module or a plug-in of the same name is not run."""
    for name in ("zstd.py", "zstd", "zstd.toml"):
        (folder / name).write_text("raise SystemExit(77)\n")
    dist = folder / "evil-1.0.dist-info"
    dist.mkdir()
    (dist / "METADATA").write_text("Metadata-Version: 2.1\nName: evil\nVersion: 1.0\n")
    (dist / "entry_points.txt").write_text("[mpp.pipelines]\nzstd = evil:x\n[mpp.stages]\nzstd = evil:x\n")
    (folder / "p.toml").write_text('[[stage]]\nuse = "zstd"\n')
    env = environment(PYTHONPATH=str(folder))
    for args in (["zstd"], ["--app-dir", ".", "zstd"], ["p.toml"]):
        done = mpp("run", "-q", *args, data=b"x", cwd=folder, env=env)
        assert (done.returncode, unpacked(done.stdout)) == (0, b"x"), done.stderr


def test_plug_ins_are_found_by_their_entry_points(folder):
    """Stages and pipelines, in TOML, on the command line and in the lists; a broken one costs only itself."""
    dist = folder / "plug-1.0.dist-info"
    dist.mkdir()
    (dist / "METADATA").write_text("Metadata-Version: 2.1\nName: plug\nVersion: 1.0\n")
    (dist / "entry_points.txt").write_text(
        "[mpp.pipelines]\nplug = mine:pipeline\n[mpp.stages]\nadd = mine:Add\nbroken = nowhere:x\n"
    )
    (folder / "p.toml").write_text('[[stage]]\nuse = "add"\ntext = "+"\n')
    env = environment(PYTHONPATH=str(folder))
    for pipeline, output in (("plug", b"xab"), ("p.toml", b"x+")):
        done = mpp("run", "-q", pipeline, data=b"x", env=env, cwd=folder)
        assert (done.returncode, done.stdout) == (0, output), done.stderr
    listed = mpp("stages", env=env).stdout
    assert b"Put some text behind the data." in listed
    broken = "broken   cannot be used: stage 'broken' (nowhere:x) failed to load: ModuleNotFoundError: No module named"
    assert f"{broken} 'nowhere'\n".encode() in listed
    assert b"plug" in mpp("pipelines", env=env).stdout
    shown = mpp("stages", "add", env=env).stdout.decode().splitlines()
    assert "  text   text                   must be given" in shown
    assert "      What is put there, on as many lines as it takes." in shown
    assert ["mode", "one", "of", "'fast',", "'slow'", "default", '"fast"'] in [line.split() for line in shown]
    (folder / "p.toml").write_text('[[stage]]\nuse = "broken"\n')
    done = mpp("run", "p.toml", env=env, cwd=folder)
    assert done.returncode == 2
    assert "p.toml:2: stage 'broken': stage 'broken' (nowhere:x) failed to load" in lines_of(done)[0]


def test_check_shows_the_plan_and_what_was_added(folder):
    """Each stage, where it runs, what joins it to the next, its options; nothing is read or written."""
    (folder / "p.toml").write_text('name = "nightly"\n[[stage]]\nuse = "zstd"\nlevel = 9\n')
    done = mpp("check", "p.toml", cwd=folder)
    assert (done.returncode, done.stderr) == (0, b"")
    title, header, *rows = [line.split() for line in done.stdout.decode().splitlines()]
    assert title == ["pipeline", "nightly", "(p.toml)"]
    assert header == ["stage", "runs", "in", "then", "suffix", "options"]
    assert rows[0][:8] == ["1", "zstd", "a", "process", "pipe", "+.zst", "level=9", "threads=auto"]
    assert rows[1][:6] == ["2", "write", "(added)", "a", "process", "end"]
    assert rows[2] == ["output", "of", "FILE:", "FILE.zst"]
    assert sorted(os.listdir(folder)) == ["mine.py", "p.toml"]


def test_bytes_that_nobody_takes_are_refused(folder):
    """An item stage after a byte stage needs a 'write' between them."""
    (folder / "order.py").write_text(
        "from atbu.mp_pipeline.mp_pipeline import ThreadPipelineStage\n"
        "class Index(ThreadPipelineStage):\n    name = 'index'\n"
        "stages = ['zstd', Index()]\nonly = [Index()]\n"
    )
    done = mpp("check", "./order.py:stages", cwd=folder)
    assert done.returncode == 2
    assert lines_of(done) == [
        "mpp: './order.py:stages': stage 'zstd': it gives bytes, and 'index' after it takes none; "
        "put 'write' between them"
    ]
    done = mpp("check", "./order.py:only", cwd=folder)
    assert done.returncode == 2
    assert lines_of(done) == ["mpp: './order.py:only': no stage of it writes anything"]
