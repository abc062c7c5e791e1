"""Folders are whole or absent, whatever happens during or after the write."""

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from widemax.errors import CorruptError, ResourceError
from widemax.storage import MANIFEST, check_folder, new_folder, signed


def save(folder: Path, text: str = "hello") -> None:
    with new_folder(folder, {"about": text}) as temporary:
        (temporary / "part").mkdir()
        (temporary / "part" / "a.txt").write_text(text)
        (temporary / "b.txt").write_text("")


def test_a_saved_folder_is_whole(tmp_path: Path) -> None:
    save(tmp_path / "x")
    manifest = check_folder(tmp_path / "x")
    assert manifest["about"] == "hello"
    assert sorted(manifest["files"]) == ["b.txt", "part/a.txt"]
    assert os.listdir(tmp_path) == ["x"]


def test_saving_again_replaces(tmp_path: Path) -> None:
    save(tmp_path / "x", "old")
    save(tmp_path / "x", "new")
    assert check_folder(tmp_path / "x")["about"] == "new"


def test_a_failed_save_leaves_what_was_there(tmp_path: Path) -> None:
    save(tmp_path / "x", "old")
    with pytest.raises(UnicodeEncodeError):
        save(tmp_path / "x", "\udc80")
    assert check_folder(tmp_path / "x")["about"] == "old"
    assert os.listdir(tmp_path) == ["x"]


def test_a_full_disk_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ResourceError, match="No space left"), new_folder(tmp_path / "x", {}):
        raise OSError(28, "No space left on device")


CRASHES = """
import os, sys
from pathlib import Path
from widemax import storage

calls = 0
def crash_at(function):
    def counted(*arguments, **keywords):
        global calls
        calls += 1
        if calls == int(sys.argv[2]):
            os._exit(9)
        return function(*arguments, **keywords)
    return counted

os.fsync = crash_at(os.fsync)
Path.rename = crash_at(Path.rename)
Path.replace = crash_at(Path.replace)
Path.write_text = crash_at(Path.write_text)
with storage.new_folder(Path(sys.argv[1]), {"about": "new"}) as folder:
    (folder / "a.txt").write_text("new")
"""


def test_a_crash_at_every_system_call_leaves_all_or_nothing(tmp_path: Path) -> None:
    """The write is killed at the n-th call, n = 1, 2, … until it gets through."""
    outcomes = []
    for nth in range(1, 50):
        folder = tmp_path / str(nth) / "x"
        folder.parent.mkdir()
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(CRASHES), str(folder), str(nth)], check=False
        )
        outcomes.append(done.returncode)
        if folder.exists():
            assert check_folder(folder)["about"] == "new"
        if done.returncode == 0:
            break
    assert outcomes[-1] == 0
    assert len(outcomes) > 6
    assert set(outcomes[:-1]) == {9}


def damage(folder: Path, kind: str) -> str:
    """Damage a saved folder; returns what the error must name."""
    path = folder / "part" / "a.txt"
    if kind == "flipped byte":
        path.write_text("hellp")
    elif kind == "one byte more":
        path.write_text("hello!")
    elif kind == "truncated":
        path.write_text("")
    elif kind == "missing":
        path.unlink()
    elif kind == "symlink out":
        path.unlink()
        (folder.parent / "secret").write_text("hello")
        path.symlink_to(folder.parent / "secret")
    elif kind == "future format":
        manifest = json.loads((folder / MANIFEST).read_text())
        (folder / MANIFEST).write_text(json.dumps(signed(manifest | {"format_version": 99})))
        return MANIFEST
    elif kind == "path out":
        manifest = json.loads((folder / MANIFEST).read_text())
        manifest["files"]["../secret"] = manifest["files"].pop("b.txt")
        (folder / MANIFEST).write_text(json.dumps(signed(manifest)))
        return "../secret"
    elif kind == "no manifest":
        (folder / MANIFEST).unlink()
        return MANIFEST
    elif kind == "manifest is no JSON":
        (folder / MANIFEST).write_text("{")
        return MANIFEST
    return "part/a.txt"


@pytest.mark.parametrize(
    "kind",
    [
        *("flipped byte", "one byte more", "truncated", "missing", "symlink out", "future format"),
        *("path out", "no manifest", "manifest is no JSON"),
    ],
)
def test_damage_is_found_and_named(tmp_path: Path, kind: str) -> None:
    save(tmp_path / "x")
    named = damage(tmp_path / "x", kind)
    with pytest.raises(CorruptError) as raised:
        check_folder(tmp_path / "x")
    assert named in str(raised.value)
    assert raised.value.exit_code == 5
