"""Encryption in the age format, in both directions with the tool, and no cut or change that goes unnoticed."""

from __future__ import annotations

import os
import pickle
import pty
import random
import select
import subprocess
from pathlib import Path

import pyrage
import pytest
from byte_chains import Portions, failure, file_item, publish, through
from cli_tools import lines_of, mpp
from mpp_stages.decrypt import DecryptStage
from mpp_stages.encrypt import EncryptStage
from mpp_stages.errors import StageDataError
from mpp_stages.unzstd import UnzstdStage
from mpp_stages.write import WriteStage
from mpp_stages.zstd import ZstdStage
from pass_through_ways import all_ways, run

from atbu.mp_pipeline.exception import PipeConnectionAborted

NOISE = random.Random(9).randbytes(200_000)
SIZES = [0, 1, 65535, 65536, 65537, 131072, 200_000]
PASSPHRASE = "correct horse battery staple"
#: Enough for a test; trying the usual one takes a second.
QUICK = 2


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a key pair and a passphrase."""
    folder = tmp_path_factory.mktemp("keys")
    identity = pyrage.x25519.Identity.generate()
    (folder / "key").write_text(f"# created: today\n{identity}\n")
    (folder / "pub").write_text(f"# mine\n{identity.to_public()}\n")
    (folder / "pass").write_text(PASSPHRASE + "\n")
    return folder


@pytest.fixture(params=["key", "passphrase"])
def pair(request: pytest.FixtureRequest, keys: Path) -> tuple[EncryptStage, DecryptStage]:
    """The two stages, with a key or with a passphrase."""
    if request.param == "key":
        return EncryptStage(recipients_file=str(keys / "pub")), DecryptStage(identities_file=str(keys / "key"))
    return (
        EncryptStage(passphrase_file=str(keys / "pass"), work_factor=QUICK),
        DecryptStage(passphrase_file=str(keys / "pass")),
    )


@pytest.mark.parametrize("size", SIZES)
def test_what_was_encrypted_comes_back(pair, size):
    """Around the borders of the format's chunks, too."""
    encrypt, decrypt = pair
    sealed = through(encrypt, NOISE[:size])
    assert NOISE[:50] not in sealed
    assert through(decrypt, sealed) == NOISE[:size]


@all_ways
def test_it_is_the_same_in_every_place(pair, tmp_path, way):
    """Compressed first, in processes, in one worker and serially."""
    encrypt, decrypt = pair
    (tmp_path / "x").write_bytes(NOISE)
    publish(run([ZstdStage(), encrypt, WriteStage()], file_item(tmp_path / "x", tmp_path / "x.zst.age"), way))
    publish(run([decrypt, UnzstdStage(), WriteStage()], file_item(tmp_path / "x.zst.age", tmp_path / "y"), way))
    assert (tmp_path / "y").read_bytes() == NOISE


@pytest.mark.parametrize("size", [0, 1, 65536, 65537])
def test_every_cut_is_an_error(pair, size):
    """In the header, and around every border of a chunk."""
    encrypt, decrypt = pair
    sealed = through(encrypt, NOISE[:size])
    cuts = {*range(min(len(sealed), 300)), *range(max(0, len(sealed) - 50), len(sealed))}
    for cut in sorted(cuts):
        with pytest.raises(StageDataError):
            through(decrypt, sealed[:cut])


def test_every_change_is_an_error(pair):
    """One bit anywhere, or something behind the end."""
    encrypt, decrypt = pair
    sealed = through(encrypt, NOISE[:70_000])
    header_bytes = sealed.index(b"\n---") + 70
    for place in [*range(header_bytes), *range(header_bytes, len(sealed), 5000), len(sealed) - 1]:
        changed = bytearray(sealed)
        changed[place] ^= 1
        with pytest.raises(StageDataError):
            through(decrypt, bytes(changed))
    for more in (b"\0", sealed):
        with pytest.raises(StageDataError):
            through(decrypt, sealed + more)


@all_ways
def test_a_consumer_never_sees_a_clean_end_of_tampered_data(pair, tmp_path, way):
    """Although most of it came through: nothing is published, and the cause is told."""
    encrypt, decrypt = pair
    sealed = bytearray(through(encrypt, NOISE))
    sealed[-1] ^= 1
    (tmp_path / "x.age").write_bytes(sealed)
    item = run([decrypt, ZstdStage(), WriteStage()], file_item(tmp_path / "x.age", tmp_path / "x"), way)
    assert "corrupt or truncated" in str(failure(item, StageDataError))
    item.discard()
    assert os.listdir(tmp_path) == ["x.age"]


@pytest.mark.parametrize("direction", [0, 1], ids=["encrypt", "decrypt"])
def test_an_aborted_input_stays_aborted(pair, direction):
    """It is the failure of the stage before, and not a fault of the data."""
    sealed = through(pair[0], NOISE)
    source = Portions([sealed[:100_000], PipeConnectionAborted("gone")])
    with pytest.raises(PipeConnectionAborted):
        through(pair[direction], source)


def test_a_wrong_key_is_told(pair, tmp_path):
    """Without a word of what was tried."""
    encrypt, _ = pair
    (tmp_path / "key").write_text(str(pyrage.x25519.Identity.generate()))
    (tmp_path / "pass").write_text("wrong")
    others = (DecryptStage(identities_file=str(tmp_path / "key")), DecryptStage(passphrase_file=str(tmp_path / "pass")))
    for other in others:
        with pytest.raises(StageDataError) as caught:
            through(other, through(encrypt, b"x"))
        assert "AGE-SECRET" not in str(caught.value)
        assert "wrong" not in str(caught.value)


# -- the tool


def test_the_tool_reads_and_writes_the_same(keys, require_tool):
    """With keys."""
    age = require_tool("age")
    sealed = through(EncryptStage(recipients_file=str(keys / "pub")), NOISE)
    opened = subprocess.run([age, "-d", "-i", keys / "key"], input=sealed, capture_output=True, check=True, timeout=60)
    assert opened.stdout == NOISE
    for armor in ([], ["-a"]):
        command = [age, *armor, "-R", keys / "pub"]
        sealed = subprocess.run(command, input=NOISE, capture_output=True, check=True, timeout=60).stdout
        assert through(DecryptStage(identities_file=str(keys / "key")), sealed) == NOISE


def test_the_tool_reads_what_a_passphrase_encrypted(keys, tmp_path, require_tool):
    """It asks for the passphrase on a terminal alone."""
    age = require_tool("age")
    encrypt = EncryptStage(passphrase_file=str(keys / "pass"), work_factor=QUICK)
    (tmp_path / "x.age").write_bytes(through(encrypt, NOISE))
    pid, terminal = pty.fork()
    if pid == 0:
        os.execv(age, [age, "-d", "-o", str(tmp_path / "x"), str(tmp_path / "x.age")])
    try:
        assert select.select([terminal], [], [], 30)[0], "it asks for nothing"
        os.read(terminal, 1000)
        os.write(terminal, PASSPHRASE.encode() + b"\n")
        while select.select([terminal], [], [], 30)[0]:
            try:
                if not os.read(terminal, 1000):
                    break
            except OSError:
                break  # so a terminal ends
    finally:
        os.close(terminal)
        _, status = os.waitpid(pid, 0)
    assert status == 0
    assert (tmp_path / "x").read_bytes() == NOISE


def test_another_implementation_reads_and_writes_passphrases(keys):
    """pyrage's own, with the work factor that it measures."""
    encrypt = EncryptStage(passphrase_file=str(keys / "pass"), work_factor=QUICK)
    assert pyrage.passphrase.decrypt(through(encrypt, NOISE), PASSPHRASE) == NOISE


# -- secrets and options


def test_no_secret_stands_in_a_stage(keys):
    """Not in its words, not in its pickle, which goes to workers."""
    for stage in (DecryptStage(identities_file=str(keys / "key")), DecryptStage(passphrase_file=str(keys / "pass"))):
        for text in (repr(stage), repr(vars(stage)), repr(pickle.dumps(stage))):
            assert PASSPHRASE not in text
            assert "AGE-SECRET-KEY-" not in text


@pytest.mark.parametrize(
    ("stage", "options", "words"),
    [
        (EncryptStage, {}, "either recipients"),
        (EncryptStage, {"recipients": ["x"], "passphrase_file": "y"}, "either recipients"),
        (EncryptStage, {"recipients": []}, "there is no key in it"),
        (EncryptStage, {"recipients": ["AGE-SECRET-KEY-1QQQQ"]}, "number 1 is a secret key"),
        (EncryptStage, {"recipients": ["hunter2"]}, "number 1 is no public key"),
        (EncryptStage, {"passphrase_file": "hunter2"}, "takes a file's path, not a secret"),
        (DecryptStage, {}, "either an identities_file"),
        (DecryptStage, {"identities_file": "AGE-SECRET-KEY-1QQQQ"}, "takes a file's path, not a secret"),
    ],
)
def test_wrong_options_are_refused_without_repeating_them(stage, options, words):
    """What stands in the wrong place may be a secret."""
    with pytest.raises(ValueError, match=words) as caught:
        stage(**options)
    assert "hunter2" not in str(caught.value)
    assert "QQQQ" not in str(caught.value)


@pytest.mark.parametrize(
    "content", [b"", b"# nothing\n", b"hunter2\n", b"\xff\n", b"-----BEGIN OPENSSH PRIVATE KEY-----\n"]
)
def test_a_file_without_a_key_is_told(tmp_path, keys, content):
    """Without repeating it."""
    (tmp_path / "key").write_bytes(content)
    sealed = through(EncryptStage(recipients_file=str(keys / "pub")), b"x")
    with pytest.raises(ValueError, match="identities_file: ") as caught:
        through(DecryptStage(identities_file=str(tmp_path / "key")), sealed)
    assert "hunter2" not in str(caught.value)


def test_names_and_check(keys, tmp_path):
    """The suffix comes and goes; the key's file stands beside the definition; the plan shows no secret."""
    (tmp_path / "x").write_bytes(NOISE)
    (keys / "up.toml").write_text('[[stage]]\nuse = "encrypt"\nrecipients_file = "pub"\n')
    (keys / "down.toml").write_text('[[stage]]\nuse = "decrypt"\nidentities_file = "key"\n')
    assert mpp("run", keys / "up.toml", "x", cwd=tmp_path).returncode == 0
    os.rename(tmp_path / "x.age", tmp_path / "y.age")
    done = mpp("run", keys / "down.toml", "y.age", cwd=tmp_path)
    assert done.returncode == 0, lines_of(done)
    assert (tmp_path / "y").read_bytes() == NOISE
    shown = mpp("check", keys / "down.toml").stdout
    assert b'identities_file="key"' in shown
    assert b"AGE-SECRET" not in shown
