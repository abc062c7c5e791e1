"""Folders are whole or absent, whatever happens during or after the write."""

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from safetensors import SafetensorError

from widemax.errors import CorruptError, PeerError, ResourceError, UsageError
from widemax.storage import (
    MANIFEST,
    check_folder,
    foreign,
    new_folder,
    read_json,
    replacing,
    replacing_file,
    saving,
    signed,
    sound,
    write_file,
    writing,
    writing_tensors,
)


def save(folder: Path, text: str = "hello", *, overwrite: bool = True) -> None:
    with replacing(folder, {"about": text}, overwrite=overwrite) as temporary:
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


def test_a_peer_that_is_gone_while_saving_is_no_full_disk() -> None:
    with pytest.raises(PeerError, match=r"^no answer$"), saving("x"):
        raise PeerError("no answer")


def test_a_full_disk_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ResourceError, match="No space left"), new_folder(tmp_path / "x", {}):
        raise OSError(28, "No space left on device")
    assert not any(tmp_path.iterdir())


def test_the_sentence_names_the_file_and_how_much_is_needed(tmp_path: Path) -> None:
    told = rf"cannot write {tmp_path}/a/b: No space left on device \(2.5 MB needed, \d+\.\d MB free\)\. "
    with pytest.raises(ResourceError, match=told), saving(f"{tmp_path}/a/b", num_bytes=2_500_000):
        raise OSError(
            28, "[Errno 28] Error writing bytes to file. Detail: [errno 28] No space left on device"
        )
    with pytest.raises(ResourceError, match=r"cannot write here: Read-only file system\. "), saving("there"):
        raise OSError(30, "Read-only file system", "here")
    with pytest.raises(ResourceError, match="File too large"), saving("a"), writing_tensors(tmp_path / "a"):
        raise SafetensorError("Error while serializing: I/O error: File too large (os error 27)")


@pytest.mark.parametrize(
    "error",
    [
        OSError(13, "Permission denied"),
        FileNotFoundError("No such file or directory: x"),
        RuntimeError("unable to open file <x> in read-only mode: Too many open files (24)"),
    ],
)
def test_a_file_that_cannot_be_opened_is_not_called_damaged(tmp_path: Path, error: Exception) -> None:
    (tmp_path / "x").touch()
    with pytest.raises(ResourceError, match=r"cannot open .*x: \w+"), sound(tmp_path / "x"):
        raise error
    with pytest.raises(CorruptError, match="x cannot be used: Couldn't deserialize"), sound(tmp_path / "x"):
        raise OSError("Couldn't deserialize thrift")


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    page, link = tmp_path / "page.html", tmp_path / "link.html"
    page.write_text("old")
    link.symlink_to(page)

    def fill() -> None:
        with replacing_file(link) as temporary:
            temporary.write_text("ne")
            raise OSError(27, "File too large")

    with pytest.raises(ResourceError, match="File too large"):
        fill()
    assert page.read_text() == "old"
    write_file(link, "new")
    assert page.read_text() == "new"
    assert link.is_symlink()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link.html", "page.html"]


def test_a_pipe_is_written_and_not_replaced(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    write_file(pipe, "page")
    assert os.read(reader, 9) == b"page"
    assert pipe.is_fifo()


CRASHES = """
import os, sys
from pathlib import Path
import psutil
from widemax.storage import check_folder, current, replacing

folder, what = Path(sys.argv[1]), sys.argv[2]
calls = None

def crash_at(function):
    def counted(*arguments, **keywords):
        global calls
        if calls is not None:
            calls -= 1
            if not calls:
                os._exit(9)
        return function(*arguments, **keywords)
    return counted

for name in ("fsync", "link", "mkdir", "open", "rename", "replace", "rmdir", "unlink"):
    setattr(os, name, crash_at(getattr(os, name)))
Path.write_text = crash_at(Path.write_text)

def save(about, names):
    with replacing(folder, {"about": about}, overwrite=True) as temporary:
        (temporary / "weights").mkdir()
        for name in names:
            (temporary / name).write_text(about)

if what == "replaced":
    save("old", ["a.txt", "b.txt", "weights/1.safetensors", "weights/2.safetensors"])
nth, code = 0, 9
while code == 9:
    nth += 1
    if not (process := os.fork()):
        calls = nth
        save("new", ["a.txt", "weights/1.safetensors"])
        os._exit(0)
    code = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    there = (current(folder) / "manifest.json").is_file()
    about = check_folder(current(folder))["about"] if there else None
    files = sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))
    print(code, about, *files, sep=",")
    if nth % 3 == 0 and what == "replaced":
        save("old", ["a.txt", "b.txt", "weights/1.safetensors", "weights/2.safetensors"])
"""


@pytest.mark.parametrize("what", ["made", "replaced"])
def test_a_crash_at_every_system_call_leaves_the_old_or_the_new(tmp_path: Path, what: str) -> None:
    """It is killed at the n-th call, n = 1, 2, … until it gets through; each completes the one before."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(CRASHES), str(tmp_path / "x"), what],
        check=True,
        capture_output=True,
        text=True,
    )
    attempts = [line.split(",") for line in done.stdout.splitlines()]
    assert len(attempts) > 20
    codes, found = [code for code, *_ in attempts], {about for _, about, *_ in attempts}
    assert set(codes[:-1]) == {"9"}
    whole = ["a.txt", MANIFEST, "weights", "weights/1.safetensors"]
    assert attempts[-1] == ["0", "new", *whole]
    assert found == {"new", "old" if what == "replaced" else "None"}


def test_what_is_not_ours_is_not_replaced(tmp_path: Path) -> None:
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "config.toml").write_text('title = "mine"')
    with pytest.raises(UsageError, match="is not a run folder"):
        save(folder)
    unsigned = '{"format_version": 1, "files": {}}'
    for files in ({"": {}}, {"a\0b": {}}, ["a"], None):
        (folder / MANIFEST).write_text(json.dumps(signed({"format_version": 1, "files": files})))
        with pytest.raises(UsageError, match="is not a run folder"):
            save(folder)
    for text in ("{}", unsigned):
        (folder / MANIFEST).write_text(text)
        with pytest.raises(UsageError, match="is not a run folder"):
            save(folder)
    assert sorted(os.listdir(folder)) == ["config.toml", MANIFEST]


def test_only_what_was_saved_is_replaced(tmp_path: Path) -> None:
    save(tmp_path / "x", "old")
    (tmp_path / "x" / "notes.txt").write_text("mine")
    (tmp_path / "x" / "mine").mkdir()
    with replacing(tmp_path / "x", {"about": "new"}, overwrite=True) as temporary:
        (temporary / "b.txt").write_text("new")
    assert foreign(tmp_path / "x") == ["mine", "notes.txt", "part"]
    assert check_folder(tmp_path / "x")["about"] == "new"


def test_a_manifest_that_names_files_elsewhere_removes_none(tmp_path: Path) -> None:
    save(tmp_path / "x")
    (tmp_path / "secret").write_text("mine")
    manifest = json.loads((tmp_path / "x" / MANIFEST).read_text())
    manifest["files"] |= {"../secret": {}, str(tmp_path / "secret"): {}, "part": {}, ".": {}}
    (tmp_path / "x" / MANIFEST).write_text(json.dumps(signed(manifest)))
    save(tmp_path / "x", "new")
    assert (tmp_path / "secret").read_text() == "mine"


def test_a_link_to_a_folder_stays_one(tmp_path: Path) -> None:
    save(tmp_path / "x", "old")
    (tmp_path / "link").symlink_to("x")
    save(tmp_path / "link", "new")
    assert (tmp_path / "link").is_symlink()
    assert check_folder(tmp_path / "x")["about"] == "new"


def test_where_files_have_one_name_only_they_are_copied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*paths: object) -> None:
        raise OSError(95, "Operation not supported")

    save(tmp_path / "x", "old")
    monkeypatch.setattr(os, "link", refuse)
    save(tmp_path / "x", "new")
    assert check_folder(tmp_path / "x")["about"] == "new"


HOLD = """
import sys
from pathlib import Path
from widemax.storage import writing

with writing(Path(sys.argv[1]), overwrite=True):
    print("held", flush=True)
    sys.stdin.readline()
"""


def test_one_process_writes_at_a_time(tmp_path: Path) -> None:
    folder = tmp_path / "x"
    save(folder)
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout
        process.stdout.readline()
        told = rf"is being written by process {process.pid} on \S+ since 20\d\d-.* UTC \(-c "
        for overwrite in (False, True):
            with pytest.raises(UsageError, match=told), writing(folder, overwrite=overwrite):
                pass
        check_folder(folder)
        process.kill()
    assert (folder / ".widemax" / "lock").exists()
    save(folder, "new")  # the lock has died with its process
    with writing(folder, overwrite=True), pytest.raises(UsageError, match="is being written"):
        save(folder)
    assert sorted(os.listdir(folder)) == ["b.txt", MANIFEST, "part"]


def test_a_file_system_without_locks_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fcntl = pytest.importorskip("fcntl")

    def refuse(*arguments: object) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(ResourceError, match="cannot be locked against other processes: No locks available"):
        save(tmp_path / "x")
    assert not (tmp_path / "x").exists()


def test_the_next_writer_removes_what_killed_ones_left(tmp_path: Path) -> None:
    save(tmp_path / "x")
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    (tmp_path / "x" / ".widemax" / "scratch" / "train").mkdir(parents=True)
    save(tmp_path / "x", "new")
    assert foreign(tmp_path / "x") == []
    names = [f".a.html.{gone.pid}", f".a.html.{os.getppid()}", f".b.html.{gone.pid}"]
    for name in names:
        (tmp_path / name).touch()
    write_file(tmp_path / "a.html", "page")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*names[1:], "a.html", "x"])


def test_a_run_killed_as_it_wrote_its_config_is_no_run_yet(tmp_path: Path) -> None:
    (tmp_path / "x" / ".widemax").mkdir(parents=True)
    (tmp_path / "x" / f".config.toml.{os.getppid()}").touch()
    save(tmp_path / "x")
    assert foreign(tmp_path / "x") == []


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


@pytest.mark.parametrize("number", ["NaN", "Infinity", "1e999", "-1e999"])
def test_a_number_that_is_not_finite_is_no_json_of_ours(tmp_path: Path, number: str) -> None:
    path = tmp_path / "manifest.json"
    path.write_text(f'{{"a": {number}}}', encoding="utf-8")
    with pytest.raises(CorruptError, match=f"{number} is no number of JSON"):
        read_json(path)
