"""Mapped rows come back as they were at the last commit, whatever kills the process."""

import contextlib
import itertools
import mmap
import os
import random
import re
import shutil
import signal
import sys
import time
from pathlib import Path

import pytest
import torch
from tests.forked import answer_of

from widemax.errors import ConfigError, CorruptError, ResourceError, UsageError
from widemax.optim import LazyAdam, MappedRows, RowwiseAdagrad, mapped_files, mapped_rows, undo_journal
from widemax.optim.undo_journal import UndoJournal

NUM_ROWS, DIM = 300, 4
STEPS, COMMIT_EVERY = 60, 7


def sparse(ids, values=None):
    values = (torch.ones(len(ids), DIM) if values is None else values).bfloat16()
    return torch.sparse_coo_tensor(ids[None], values, (NUM_ROWS, DIM), check_invariants=True).coalesce()


class Run:
    """A little training whose every random number matters."""

    def __init__(self, rows):
        self.rows = rows
        self.optimizer = RowwiseAdagrad([rows.parameter], lr=0.5)
        self.generator = torch.Generator().manual_seed(0)
        self.step = 0
        state = rows.state()
        if state:
            self.step = state.pop("step")
            self.generator.set_state(state.pop("generator"))
            self.optimizer.state[rows.parameter] = {
                name: value.clone() if isinstance(value, torch.Tensor) else value
                for name, value in state.items()
            }
        rows.watch(self.optimizer)

    def advance(self, steps):
        for _ in range(steps):
            ids = torch.randint(NUM_ROWS, (16,), generator=self.generator).unique()
            self.rows.parameter.grad = sparse(ids, torch.randn(len(ids), DIM, generator=self.generator))
            self.optimizer.step()
            self.step += 1

    def commit(self):
        state = {"step": self.step, "generator": self.generator.get_state()}
        self.rows.commit(state | self.optimizer.state[self.rows.parameter])

    def finish(self, done=lambda: None):
        while self.step < STEPS:
            self.advance(1)
            if self.step % COMMIT_EVERY == 0 or self.step == STEPS:
                self.commit()
            done()


def created(folder, kind=MappedRows):
    return kind.create(folder, NUM_ROWS, DIM, std=0.1, generator=torch.Generator().manual_seed(1))


def everything(rows):
    """What must be bitwise the same: the rows, and the state by name."""
    state = {
        name: value.tolist() if isinstance(value, torch.Tensor) else value
        for name, value in rows.state().items()
    }
    return (rows.folder / "rows.bin").read_bytes(), state


# What children do, and how they are killed.


class ForgetsTooSoon(MappedRows):
    """Wrong: empties the journal before the manifest names the new commit."""

    def commit(self, state):
        os.truncate(self.folder / "journal.bin", 0)
        super().commit(state)


class KeepsTooLate(MappedRows):
    """Wrong: keeps rows after the step has changed them."""

    def watch(self, optimizer):
        def protect(*_):
            self.protect(self.parameter.grad.coalesce().indices()[0])

        return optimizer.register_step_post_hook(protect)


def forked(story):
    """The child that lives through the story."""
    child = os.fork()
    if child == 0:
        with contextlib.suppress(BaseException):
            story()
            os._exit(0)
        os._exit(1)
    return child


def was_killed(child):
    _, status = os.waitpid(child, 0)
    assert status in (0, signal.SIGKILL), "the story failed by itself"
    return status != 0


def killed_before(line, story):
    """Whether the story had that many lines of the package, and so was killed."""

    def short_story():
        die_before(line)
        story()

    return was_killed(forked(short_story))


def die_before(line):
    """Kill this process before the nth line that it executes in the files that make a commit."""
    files = {module.__file__ for module in (mapped_rows, mapped_files, undo_journal)}
    files.add(sys.modules["widemax.storage"].__file__)
    lines = itertools.count(1)

    def trace(frame, event, _):
        if frame.f_code.co_filename not in files:
            return None
        if event == "line" and next(lines) == line:
            os.kill(os.getpid(), signal.SIGKILL)
        return trace

    sys.settrace(trace)


def killed_at_random(folder):
    """Train to the end, each child killed at a random moment of its 25 first steps."""
    with created(folder) as rows:
        Run(rows)  # what torch imports on the way is imported once, before the children are there
    chance = random.Random(0)
    kills = -1
    is_cut = True
    while is_cut:
        kills += 1
        read, write = os.pipe()
        child = forked(lambda end=write: Run(MappedRows.open(folder)).finish(lambda: os.write(end, b".")))
        os.close(write)
        for _ in range(chance.randrange(25)):
            if not os.read(read, 1):
                break
        time.sleep(chance.uniform(0.0, 0.003))
        os.kill(child, signal.SIGKILL)
        os.close(read)
        is_cut = was_killed(child)
    return {"kills": kills}


def killed_everywhere(folder, every, kind=MappedRows):
    """Two steps, a commit and two steps more, killed before every nth line in turn: which commit is found."""
    with created(folder / "base", kind) as rows:
        run = Run(rows)
        run.advance(3)
        run.commit()
        expected = {1: everything(rows)}
        shutil.copytree(rows.folder, folder / "ahead")
    with kind.open(folder / "ahead") as rows:
        run = Run(rows)
        run.advance(2)
        run.commit()
        expected[2] = everything(rows)

    def story():
        run = Run(kind.open(folder / "now"))
        run.advance(2)
        run.commit()
        run.advance(2)

    found = {1: 0, 2: 0, "wrong": 0}
    for line in itertools.count(1, every):
        shutil.copytree(folder / "base", folder / "now")
        is_cut = killed_before(line, story)
        with MappedRows.open(folder / "now") as rows:
            is_right = everything(rows) == expected[rows.commits]
            found[rows.commits if is_right else "wrong"] += 1
        shutil.rmtree(folder / "now")
        if not is_cut:
            break
    return found


def killed_while_opening(folder, every):
    """A folder with steps to undo is opened and killed before every nth line in turn, then opened again."""
    with created(folder / "base") as rows:
        run = Run(rows)
        run.advance(3)
        run.commit()
        expected = everything(rows)
        run.advance(5)
    found = {"right": 0, "wrong": 0}
    for line in itertools.count(1, every):
        shutil.copytree(folder / "base", folder / "now")
        is_cut = killed_before(line, lambda: MappedRows.open(folder / "now"))
        with MappedRows.open(folder / "now") as rows:
            found["right" if everything(rows) == expected else "wrong"] += 1
        shutil.rmtree(folder / "now")
        if not is_cut:
            break
    return found


def little_memory(folder):
    """Make, train, commit, open and answer 64 MB of rows with 32 MB of memory for everything else."""
    import resource

    from widemax.heads import SampledHead

    def live(folder, num_rows, dim=64):
        with MappedRows.create(folder, num_rows, dim, std=0.1) as rows:
            optimizer = RowwiseAdagrad([rows.parameter])
            rows.watch(optimizer)
            options = {"bias": False, "num_sampled": 64, "sampler": "uniform"}
            head = SampledHead(num_rows, dim, weight=rows.parameter, **options)
            hidden, labels = torch.ones(4, dim, dtype=torch.bfloat16), torch.arange(4)
            head(hidden, labels).backward()
            optimizer.step()
            rows.commit(dict(optimizer.state[rows.parameter]))
            top = head.answer(hidden, labels, k=3).topk.class_ids.tolist()
            rows.protect(labels)
        with MappedRows.open(folder) as rows:
            assert rows.parameter.shape == (num_rows, dim)
        return top

    live(folder / "small", 1000)  # what is imported and set up on the way does not count
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    used = 1024 * int(next(line.split()[1] for line in lines if line.startswith("VmData:")))
    resource.setrlimit(resource.RLIMIT_DATA, (used + 2**25, used + 2**25))
    top = live(folder / "large", 2**19)
    try:
        torch.zeros(2**19, 64, dtype=torch.bfloat16)
    except RuntimeError:
        return {"top": top, "would_fit": False}
    return {"top": top, "would_fit": True}


def killed(folder, every):
    """What is found after kills, and what wrong twins leave."""
    return {
        "in order": killed_everywhere(folder / "order", every),
        "forgets too soon": killed_everywhere(folder / "soon", every, ForgetsTooSoon),
        "keeps too late": killed_everywhere(folder / "late", every, KeepsTooLate),
        "while opening": killed_while_opening(folder / "opening", every),
    }


forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


@forks
def test_a_run_killed_at_random_moments_ends_bitwise_like_an_uninterrupted_one(tmp_path):
    with created(tmp_path / "whole") as rows:
        Run(rows).finish()
        expected = everything(rows)
    assert answer_of(killed_at_random, tmp_path / "killed")["kills"] >= 3
    with MappedRows.open(tmp_path / "killed") as rows:
        assert everything(rows) == expected


def test_a_run_that_forgets_a_number_of_its_state_ends_differently(tmp_path):
    ends = []
    for name, forgotten in (("all", ()), ("less", ("rounding_seed",))):
        with created(tmp_path / name) as rows:
            run = Run(rows)
            run.advance(20)
            run.optimizer.state[rows.parameter] |= dict.fromkeys(forgotten, 0)
            run.commit()
        with MappedRows.open(tmp_path / name) as rows:
            Run(rows).finish()
            ends.append(everything(rows)[0])
    assert ends[0] != ends[1]


@forks
@pytest.mark.parametrize("every", [pytest.param(1, marks=pytest.mark.slow), 14])
def test_killed_before_any_line_one_whole_commit_is_found_and_a_wrong_order_shows(tmp_path, every):
    """``every``: lines between two kills."""
    found = answer_of(killed, tmp_path, every)
    assert found["in order"]["wrong"] == 0
    assert found["in order"][1] > 100 / every
    assert found["in order"][2] > 50 / every
    assert found["forgets too soon"]["wrong"] > 0
    assert found["keeps too late"]["wrong"] > 0
    assert found["while opening"]["wrong"] == 0
    assert found["while opening"]["right"] > 100 / every


@pytest.mark.skipif(sys.platform != "linux", reason="needs a limit on the memory of a process")
def test_the_matrix_is_never_in_memory_as_a_whole(tmp_path):
    found = answer_of(little_memory, tmp_path / "rows")
    assert not found["would_fit"]
    assert [len(set(ids)) for ids in found["top"]] == [3] * 4


@pytest.mark.skipif(sys.platform != "linux", reason="reads what Linux tells of a process")
def test_the_system_reads_ahead_only_while_all_rows_are_scanned(tmp_path):
    def flags(path):
        """How pages of the file are read: rr for a random order, sr for a sequential one."""
        lines = iter(Path("/proc/self/smaps").read_text(encoding="utf-8").splitlines())
        assert any(line.endswith(str(path)) for line in lines)
        return next(line for line in lines if line.startswith("VmFlags")).split()

    with created(tmp_path / "rows") as rows:
        path = tmp_path / "rows" / "rows.bin"
        assert "rr" in flags(path)
        with rows.scanned():
            assert "sr" in flags(path)
            assert "rr" not in flags(path)
        assert "rr" in flags(path)


def test_what_must_be_on_the_disk_first_is_there_first(tmp_path, monkeypatch):
    """A kill shows what was written, not what was flushed; the loss of power would."""
    events = []

    class Map(mmap.mmap):
        def flush(self):
            events.append("flush")
            super().flush()

    monkeypatch.setattr(mmap, "mmap", Map)
    with created(tmp_path / "rows") as rows:
        events.clear()

        def spy(owner, name):
            original = getattr(owner, name)
            monkeypatch.setattr(owner, name, lambda *a: (events.append(name), original(*a))[1])

        before = rows.parameter.detach().clone()

        def synced(handle):
            assert torch.equal(before, rows.parameter)
            events.append("sync journal")
            os.fsync(handle)

        monkeypatch.setattr(undo_journal, "sync", synced)
        for owner, name in ((mapped_rows, "write_state"), (mapped_rows, "write_manifest")):
            spy(owner, name)
        spy(UndoJournal, "clear")
        run = Run(rows)
        run.advance(1)
        assert not torch.equal(before, rows.parameter)
        run.commit()
    assert events == ["sync journal", "write_state", "flush", "write_manifest", "clear"]


# What is kept.


def test_only_rows_of_the_gradient_change_and_each_is_kept_once_a_commit(tmp_path):
    with created(tmp_path / "rows") as rows:
        before = rows.parameter.detach().clone()
        optimizer = RowwiseAdagrad([rows.parameter])
        rows.watch(optimizer)
        ids, sizes = torch.tensor([0, 7, 8, 299]), [0]
        for touched in (ids, ids, ids[:2], torch.tensor([7, 9])):
            rows.parameter.grad = sparse(touched)
            optimizer.step()
            sizes.append(rows.journal_bytes)
        assert sizes[1] > 4 * (8 + 2 * DIM)
        assert sizes[1] == sizes[2] == sizes[3] < sizes[4]
        changed = (rows.parameter != before).any(1).nonzero().flatten().tolist()
        assert changed == [0, 7, 8, 9, 299]
        rows.commit({})
        assert rows.journal_bytes == 0
        optimizer.step()
        assert rows.journal_bytes > 0


def test_a_gradient_that_is_not_coalesced_is_undone(tmp_path):
    with created(tmp_path / "rows") as rows:
        before = rows.parameter.detach().clone()
        optimizer = torch.optim.SGD([rows.parameter], lr=1.0)
        rows.watch(optimizer)
        ids = torch.tensor([[5, 5, 3]])
        values = torch.ones(3, DIM, dtype=torch.bfloat16)
        rows.parameter.grad = torch.sparse_coo_tensor(ids, values, (NUM_ROWS, DIM), check_invariants=True)
        optimizer.step()
        assert not torch.equal(rows.parameter[5], before[5])
    with MappedRows.open(tmp_path / "rows") as rows:
        assert torch.equal(rows.parameter, before)


def test_rows_changed_by_hand_are_undone_when_protected_and_only_then(tmp_path):
    with created(tmp_path / "rows") as rows:
        before = rows.parameter.detach().clone()
        rows.protect(torch.tensor([2, 2, 1]))
        rows.parameter.data[:4] = 9.0
    with MappedRows.open(tmp_path / "rows") as rows:
        assert torch.equal(rows.parameter[1:3], before[1:3])
        assert (rows.parameter[[0, 3]] == 9.0).all()


def test_without_the_watch_nothing_is_kept(tmp_path):
    with created(tmp_path / "rows") as rows:
        optimizer = RowwiseAdagrad([rows.parameter])
        handle = rows.watch(optimizer)
        optimizer.step()  # without a gradient
        handle.remove()
        rows.parameter.grad = sparse(torch.tensor([1]))
        optimizer.step()
        assert rows.journal_bytes == 0


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_new_rows_are_normal_with_the_deviation_asked_for(tmp_path, dtype, monkeypatch):
    monkeypatch.setattr(mapped_files, "BLOCK_BYTES", 2**14)  # several blocks, the last one shorter
    generator = torch.Generator().manual_seed(2)
    with MappedRows.create(tmp_path / "new" / "rows", 5000, 7, dtype=dtype, generator=generator) as rows:
        assert rows.parameter.dtype == dtype
        assert rows.commits == 0
        assert rows.state() == {}
        assert abs(rows.parameter.double().std().item() * 7**0.5 - 1) < 0.02
        assert abs(rows.parameter.double().mean().item()) < 0.01
        assert len(rows.parameter.unique(dim=0)) == 5000


def test_a_state_comes_back_as_it_was_given(tmp_path):
    state = {
        "int": 2**64 - 1,
        "float": 0.1,
        "é": torch.tensor(3, dtype=torch.int32),
        "transposed": torch.arange(6.0).view(2, 3).T,
        "empty": torch.zeros(0, 2),
    }
    with created(tmp_path / "rows") as rows:
        rows.commit({"old": 1})
        rows.commit(state)
        assert len(list(rows.folder.glob("state-*"))) == 1
    with MappedRows.open(tmp_path / "rows") as rows:
        assert rows.commits == 2
        found = rows.state()
        assert sorted(found) == sorted(state)
        for name, value in state.items():
            torch.testing.assert_close(found[name], value, rtol=0, atol=0)


def test_a_torn_record_is_ignored_and_overwritten(tmp_path):
    with created(tmp_path / "rows") as rows:
        before = rows.parameter.detach().clone()
        rows.protect(torch.tensor([1]))
        rows.parameter.data[1] = 5.0
        whole = rows.journal_bytes
        rows.protect(torch.tensor([2, 3]))  # killed in the midst of this: rows 2 and 3 did not change yet
    for torn in (rows.journal_bytes - 1, whole + 30, whole + 1, whole):
        os.truncate(tmp_path / "rows" / "journal.bin", torn)
        shutil.copytree(tmp_path / "rows", tmp_path / "copy")
        with MappedRows.open(tmp_path / "copy") as rows:
            assert torch.equal(rows.parameter, before)
            rows.protect(torch.tensor([4]))
            rows.parameter.data[4] = 5.0
        with MappedRows.open(tmp_path / "copy") as rows:
            assert torch.equal(rows.parameter, before)
        shutil.rmtree(tmp_path / "copy")


def test_the_page_about_it_runs_and_goes_on(tmp_path):
    page = (Path(__file__).parents[2] / "docs" / "larger-than-memory.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"^```python\n(.*?)^```", page, flags=re.DOTALL | re.MULTILINE)
    ends = []
    for name, cut in (("whole", ()), ("cut", ("step < 40",))):
        folder = tmp_path / name
        for until in (*cut, "step < 100"):
            code = example.replace('"class-rows"', repr(str(folder))).replace("step < 100", until)
            names = {}
            torch.manual_seed(0)
            exec(code, names)
        ends.append((folder / "rows.bin").read_bytes())
    assert names["step"] == 100
    assert ends[0] == ends[1]


# Errors.


def test_rows_are_open_once_at_a_time(tmp_path):
    folder = tmp_path / "rows"
    with created(folder) as rows, pytest.raises(UsageError, match="open already"):
        MappedRows.open(folder)
    parameter = rows.parameter
    with MappedRows.open(folder):
        assert torch.equal(parameter, parameter)  # the old map is still there
    with pytest.raises(UsageError, match="closed"):
        rows.protect(torch.tensor([1]))
    with pytest.raises(UsageError, match="closed"):
        rows.commit({})


def test_a_folder_that_is_not_whole_is_refused(tmp_path):
    with pytest.raises(CorruptError, match=r"no manifest\.json"):
        MappedRows.open(tmp_path / "absent")
    folder = tmp_path / "rows"
    created(folder).close()
    with pytest.raises(UsageError, match="exists already"):
        created(folder)
    damages = {
        "rows.bin": lambda path: os.truncate(path, 100),
        "manifest.json": lambda path: path.write_text(path.read_text().replace("300", "301")),
        "state-0.safetensors": lambda path: path.write_bytes(b"0" + path.read_bytes()[1:]),
    }
    for name, damage in damages.items():
        for harm in (damage, Path.unlink):
            copy = Path(shutil.copytree(folder, tmp_path / "copy"))
            harm(copy / name)
            with pytest.raises(CorruptError, match=name.replace(".", r"\.")), MappedRows.open(copy) as rows:
                rows.state()
            shutil.rmtree(copy)
    with MappedRows.open(folder) as rows:  # and nothing is locked by what failed
        assert rows.state() == {}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dtype": torch.float16}, "dtype must be one of"),
        ({"num_rows": 0}, "1 or more"),
        ({"dim": 0}, "1 or more"),
        ({"std": -1.0}, "std must be"),
        ({"std": float("nan")}, "std must be"),
    ],
)
def test_what_cannot_be_is_refused(tmp_path, options, message):
    with pytest.raises(ConfigError, match=message):
        MappedRows.create(tmp_path / "rows", **{"num_rows": 5, "dim": 2} | options)
    assert not (tmp_path / "rows").exists()


def test_rows_larger_than_the_disk_are_refused_before_anything_is_written(tmp_path):
    with pytest.raises(ResourceError, match="GB free"):
        MappedRows.create(tmp_path / "rows", 2**40, 2**20)
    assert not (tmp_path / "rows").exists()


def test_what_cannot_be_watched_is_refused(tmp_path):
    with created(tmp_path / "rows") as rows:
        with pytest.raises(UsageError, match=r"must hold rows\.parameter"):
            rows.watch(RowwiseAdagrad([torch.nn.Parameter(torch.ones(2))]))
        with pytest.raises(UsageError, match="LazyAdam changes every row"):
            rows.watch(LazyAdam([rows.parameter]))
        before = rows.parameter.detach().clone()
        optimizer = RowwiseAdagrad([rows.parameter])
        rows.watch(optimizer)
        rows.parameter.grad = torch.ones(NUM_ROWS, DIM, dtype=torch.bfloat16)
        with pytest.raises(UsageError, match="sparse gradients"):
            optimizer.step()
        rows.parameter.grad = sparse(torch.tensor([1]))
        with pytest.raises(UsageError, match="no closure"):
            optimizer.step(lambda: 0.0)
        with pytest.raises(UsageError, match="row_ids must lie"):
            rows.protect(torch.tensor([-1]))
        assert torch.equal(rows.parameter, before)
        rows.parameter.data = before.float()
        with pytest.raises(UsageError, match="data were replaced"):
            optimizer.step()


@pytest.mark.parametrize("value", ["text", None, float("inf"), [1]])
def test_a_state_of_other_values_is_refused(tmp_path, value):
    with created(tmp_path / "rows") as rows:
        with pytest.raises(UsageError, match="'x' must be a tensor or a finite number"):
            rows.commit({"x": value})
        with pytest.raises(UsageError, match=r"'x' is rows\.parameter itself"):
            rows.commit({"x": rows.parameter[3:]})
        assert rows.commits == 0


@contextlib.contextmanager
def no_file_larger_than(num_bytes):
    """As on a full disk, writing fails."""
    import resource

    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.mark.skipif(sys.platform != "linux", reason="needs a limit on the size of a file")
def test_on_a_full_disk_nothing_changes_and_training_can_go_on(tmp_path):
    with created(tmp_path / "rows") as rows:
        run = Run(rows)
        run.advance(3)
        run.commit()
        run.advance(1)
        before, size = rows.parameter.detach().clone(), rows.journal_bytes
        with no_file_larger_than(size + 50), pytest.raises(ResourceError, match="cannot write"):
            run.advance(1)
        assert torch.equal(rows.parameter, before)
        assert rows.journal_bytes == size == (rows.folder / "journal.bin").stat().st_size
        with no_file_larger_than(500), pytest.raises(ResourceError, match="cannot write"):
            run.commit()
        assert rows.commits == 1
        run.advance(1)
        run.commit()
        after = everything(rows)
    with MappedRows.open(tmp_path / "rows") as rows:
        assert rows.commits == 2
        assert everything(rows) == after


def test_half_a_commit_is_not_gone_on_with(tmp_path, monkeypatch):
    with created(tmp_path / "rows") as rows:
        run = Run(rows)
        run.advance(1)

        def fails(*_):
            raise OSError(5, "Input/output error")

        monkeypatch.setattr(mapped_rows, "write_manifest", fails)
        with pytest.raises(ResourceError, match="Input/output"):
            run.commit()
        with pytest.raises(UsageError, match="closed"):
            run.advance(1)
    monkeypatch.undo()
    with MappedRows.open(tmp_path / "rows") as rows:
        assert rows.commits == 0
