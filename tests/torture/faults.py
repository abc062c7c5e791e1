"""Files that cannot be written: a sentence and exit code 4, nothing lost, and the same end afterwards."""

import errno
import os
import resource
from collections.abc import Callable, Iterator

from tests.torture.child import at_file_operation, failing_from
from tests.torture.ground import TRAIN, Attempt, Ground

CODES = [errno.ENOSPC, errno.EIO, errno.EDQUOT, errno.EROFS, errno.EMFILE, errno.EACCES]
VERBS = {
    "train": ("train", "a.csv", *TRAIN),
    "overwrite": ("train", "a.csv", *TRAIN, "--overwrite"),
    "evaluate": ("evaluate", "run", "a.csv"),
    "export": ("export", "run", "--format", "widemax", "--out", "run2"),
}
MOST_OPERATIONS = {"train": 160, "overwrite": 180, "evaluate": 8, "export": 30}


def attempts(ground: Ground) -> Iterator[Attempt]:
    """Let writes of one verb after the other fail."""
    while True:
        for verb in VERBS:
            for fault in (an_operation, a_size, few_files, full_output):
                yield attempt(ground, verb, *fault(ground, verb))


def an_operation(ground: Ground, verb: str) -> tuple[str, Callable[[], None]]:
    """One file operation fails, or all from one on."""
    number = ground.random.randint(1, MOST_OPERATIONS[verb])
    code, once = ground.random.choice(CODES), ground.random.random() < 0.5
    extent = "at" if once else "from"
    what = f"{errno.errorcode[code]} {extent} operation {number}"
    return what, lambda: at_file_operation(ground.folder, failing_from(number, code, once=once))()


def a_size(ground: Ground, verb: str) -> tuple[str, Callable[[], None]]:
    """No file may be larger than a random size, as where the disk fills up in the middle of a write."""
    size = int(2 ** ground.random.uniform(0, 18))
    return f"files of at most {size} bytes", lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


def few_files(ground: Ground, verb: str) -> tuple[str, Callable[[], None]]:
    """Few files may be open."""
    more = ground.random.randint(4, 20)

    def limit() -> None:
        number = more + max(int(name) for name in os.listdir("/proc/self/fd"))
        resource.setrlimit(resource.RLIMIT_NOFILE, (number, number))

    return f"{more} more open files", limit


def full_output(ground: Ground, verb: str) -> tuple[str, Callable[[], None]]:
    """What is printed does not fit."""

    def to_full_device() -> None:
        os.dup2(os.open("/dev/full", os.O_WRONLY), 1)

    return "a full standard output", to_full_device


def attempt(ground: Ground, verb: str, what: str, before: Callable[[], None]) -> Attempt:
    """The verb with the fault, then without."""
    arguments = VERBS[verb]
    ground.fresh(run=None if verb == "train" else "old" if verb == "overwrite" else "new")
    ended = ground.run(*arguments, before=before)
    what = f"{verb}: {what}"
    if wrong := ended.wrong(0, 4):
        return Attempt(what, wrong)
    if verb == "train":
        return Attempt(what, ground.finish())
    if wrong := ground.answering(*(("old", "new") if verb == "overwrite" else ("new",))):
        return Attempt(what, f"after it {wrong}")
    ended = ground.run(*arguments)
    if verb == "export" and ended.code == 2:  # it has come to its end
        ended = ground.run("verify", "run2")
    left = ground.leftovers() if verb == "overwrite" else None
    return Attempt(what, ended.wrong(0) or ground.answering("new") or left)
