"""A matrix of rows in a memory-mapped file, which a killed run finds again as it was at the last commit.

Shapes: C rows (classes), D dim, R rows of a step.

A folder holds ``rows.bin`` (the matrix), ``journal.bin`` (rows as they were at the last commit, for those
changed since), ``state-N.safetensors`` (tensors of commit N) and ``manifest.json``, which names N. The
journal follows the write-ahead rule: a row is in it, on the disk, before the row changes. A commit is::

    1. write state-(N+1), fsync it and the folder
    2. flush rows.bin
    3. replace the manifest by one that names N+1, atomically
    4. empty the journal, remove state-N

Before 3 takes effect the manifest names N: its state is there, and the journal, whose records name N, turns
every changed row back. After 3 it names N+1: its state and rows are on the disk, and records that name N are
left over. So a crash between any two instructions leaves commit N or N+1, whole. Opening turns rows back,
flushes them, then empties the journal; to be killed meanwhile only means to do it again.
"""

import math
import mmap
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

from widemax.errors import CorruptError, UsageError
from widemax.optim.mapped_files import (
    DTYPES,
    JOURNAL,
    ROWS,
    block_rows,
    lock,
    read_state,
    state_path,
    unlock,
    write_folder,
    write_manifest,
    write_state,
)
from widemax.optim.row_optimizer import RowOptimizer
from widemax.optim.undo_journal import UndoJournal
from widemax.storage import MANIFEST, read_manifest, saving


class MappedRows(AbstractContextManager["MappedRows"]):
    """A parameter [C, D] that may be larger than memory, and that ``kill -9`` takes back to the last commit.

    The system reads the rows a step touches and writes them when it likes. ``watch`` keeps what a step is
    about to overwrite; ``commit`` makes the present rows and what else a run needs to continue (optimizer
    state, generators, the step) one durable state; ``open`` returns to it. Training that continues from there
    gives bitwise what it would have given uninterrupted.

    Make one with ``create`` or ``open``; close it, or leave its ``with`` block, to let another process open
    it. Changes since the last commit are lost then, as when the process is killed.

    Attributes:
        parameter: the [C, D] parameter, for a head and an optimizer with sparse gradients.
        commits: commits since it was created.

    Example:
        >>> import tempfile
        >>> from widemax.optim import RowwiseAdagrad
        >>> folder = Path(tempfile.mkdtemp()) / "rows"
        >>> rows = MappedRows.create(folder, 1000, 4, std=0.0, dtype=torch.float32)
        >>> optimizer = RowwiseAdagrad([rows.parameter], lr=1.0)
        >>> _ = rows.watch(optimizer)
        >>> for step in (1, 2):
        ...     ones = torch.ones(1, 4)
        ...     rows.parameter.grad = torch.sparse_coo_tensor([[7]], ones, (1000, 4), check_invariants=True)
        ...     optimizer.step()
        ...     if step == 1:
        ...         rows.commit({"step": step, **optimizer.state[rows.parameter]})
        >>> rows.parameter.data[7]
        tensor([-1.7071, -1.7071, -1.7071, -1.7071])
        >>> rows.close()  # or the process is killed
        >>> with MappedRows.open(folder) as rows:
        ...     rows.state()["step"], rows.parameter.data[7]
        (1, tensor([-1., -1., -1., -1.]))

    Source: Gray, Reuter, "Transaction Processing" (1993), chapter 10: undo with write-ahead logging.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        if not (folder / MANIFEST).is_file():
            raise CorruptError(
                f"{folder} has no {MANIFEST}: rows were not completely created there. "
                "Delete the folder, if there is one, and create them again."
            )
        with ExitStack() as stack:
            file = stack.enter_context(lock(folder / ROWS))
            stack.callback(unlock, file)
            self._manifest = read_manifest(folder)
            num_rows, dim = self._manifest["num_rows"], self._manifest["dim"]
            dtype = DTYPES[self._manifest["dtype"]]
            size = num_rows * dim * dtype.itemsize
            if (folder / ROWS).stat().st_size != size:
                raise CorruptError(
                    f"{folder / ROWS} must have {size} bytes for [{num_rows}, {dim}] {dtype}; "
                    f"it has {(folder / ROWS).stat().st_size}. Restore the folder from a copy."
                )
            self._map = mmap.mmap(file.fileno(), size)
            self._expect("MADV_RANDOM")
            weight_CD = torch.frombuffer(self._map, dtype=dtype).view(num_rows, dim)
            self.parameter = nn.Parameter(weight_CD)
            self._address = weight_CD.data_ptr()
            self._is_kept = np.zeros(-(-num_rows // 8), dtype=np.uint8)  # one bit a row
            self._journal = stack.enter_context(UndoJournal(folder / JOURNAL, dim * dtype.itemsize))
            with saving(str(folder)):
                self._roll_back()
            self._resources = stack.pop_all()
        self._is_open = True

    @property
    def commits(self) -> int:
        """How often ``commit`` has succeeded, ever."""
        return int(self._manifest["commit"])

    @property
    def journal_bytes(self) -> int:
        """Size of the journal: old values of the rows changed since the last commit."""
        return self._journal.num_bytes

    @classmethod
    def create(
        cls,
        folder: Path | str,
        num_rows: int,
        dim: int,
        *,
        dtype: torch.dtype = torch.bfloat16,
        std: float | None = None,
        generator: torch.Generator | None = None,
    ) -> "MappedRows":
        """Makes a folder of normally distributed rows, block by block, and opens it.

        Args:
            folder: must not exist.
            num_rows: C, 1 or more.
            dim: D, 1 or more.
            dtype: bfloat16, float32 or float64.
            std: standard deviation of the weights; without one 1 / sqrt(D).
            generator: of the weights; torch's own without one.

        Raises:
            ConfigError: a shape, dtype or standard deviation that cannot be.
            UsageError: the folder exists.
            ResourceError: the disk is too small.
        """
        write_folder(Path(folder), num_rows, dim, dtype=dtype, std=std, generator=generator)
        return cls(Path(folder))

    @classmethod
    def open(cls, folder: Path | str) -> "MappedRows":
        """Opens a folder and returns its rows to the last commit.

        Raises:
            CorruptError: the folder is not complete, or a file is not what was written.
            UsageError: it is open already, here or in another process.
        """
        return cls(Path(folder))

    def state(self) -> dict[str, Tensor | float]:
        """What the last commit was given; empty before the first.

        Raises:
            CorruptError: the file of its tensors is missing or altered.
        """
        return read_state(self.folder, self._manifest)

    def watch(self, optimizer: Optimizer) -> RemovableHandle:
        """Keeps, from now on, the rows that each step of the optimizer is about to change.

        Args:
            optimizer: of this parameter; it may change rows of the sparse gradient only, in ``step()`` only.

        Returns:
            A handle whose ``remove()`` ends it. Steps taken after that cannot be undone.

        Raises:
            UsageError: the optimizer does not hold the parameter, or defers updates of rows.
        """
        if not any(
            member is self.parameter for group in optimizer.param_groups for member in group["params"]
        ):
            raise UsageError("the optimizer must hold rows.parameter; it does not. Build it with it.")
        if isinstance(optimizer, RowOptimizer) and type(optimizer).settle is not RowOptimizer.settle:
            raise UsageError(
                f"{type(optimizer).__name__} changes every row in catch_up(), which cannot be undone row by "
                "row. Use RowwiseAdagrad."
            )
        return optimizer.register_step_pre_hook(self._before_step)

    def protect(self, row_ids: Tensor) -> None:
        """Keeps rows that you are about to change yourself; each is written once a commit.

        Args:
            row_ids: [R] rows, in any order.

        Raises:
            UsageError: the rows are closed, the parameter's data were replaced, or an id is outside [0, C).
            ResourceError: the disk is full; then the rows must not be changed.
        """
        self._check_usable()
        num_rows, dim = self.parameter.shape
        if len(row_ids) and not 0 <= int(row_ids.min()) <= int(row_ids.max()) < num_rows:
            raise UsageError(
                f"row_ids must lie in [0, {num_rows}); got {int(row_ids.min())} to {int(row_ids.max())}."
            )
        for block_R in torch.split(row_ids.to(torch.int64), block_rows(dim, self.parameter.dtype)):
            ids_R = block_R.numpy()
            bits_R = (1 << (ids_R & 7)).astype(np.uint8)
            is_new_R = (self._is_kept[ids_R >> 3] & bits_R) == 0
            if is_new_R.any():
                new_R = block_R[torch.from_numpy(is_new_R)]
                with saving(str(self.folder / JOURNAL)):
                    self._journal.append(self.commits, new_R, self.parameter.detach().index_select(0, new_R))
                np.bitwise_or.at(self._is_kept, ids_R[is_new_R] >> 3, bits_R[is_new_R])

    def commit(self, state: Mapping[str, Tensor | float]) -> None:
        """Makes the present rows and this state what ``open`` returns to, both or neither.

        Args:
            state: tensors and finite numbers by name: whatever the caller needs to continue.

        Raises:
            UsageError: the rows are closed, a value is no tensor or finite number, or it is the parameter.
            ResourceError: the disk is full. The last commit stands; unless the rows are closed now, free some
                space and commit again.
        """
        self._check_usable()
        for name, value in state.items():
            self._check_value(name, value)
        commit = self.commits + 1
        with saving(str(self.folder)):
            manifest = self._manifest | write_state(self.folder, commit, state)
            self._map.flush()
            try:
                self._manifest = write_manifest(self.folder, manifest)
                self._journal.clear()
                self._is_kept.fill(0)
            except BaseException:  # which of the two commits stands is known to the disk only
                self.close()
                raise
        with suppress(OSError):  # where a tensor still shows it; opening removes it
            state_path(self.folder, commit - 1).unlink()

    @contextmanager
    def scanned(self) -> Iterator[None]:
        """Says that inside the ``with`` block all rows are read in order, as exact answers do.

        The system reads ahead there. Outside it reads no page but those asked for, since the rows of a step
        lie far apart.
        """
        self._expect("MADV_SEQUENTIAL")
        try:
            yield
        finally:
            self._expect("MADV_RANDOM")

    def close(self) -> None:
        """Lets another process open the folder. The parameter must not be changed any more."""
        self._is_open = False
        self._resources.close()

    def __exit__(self, *error: object) -> None:
        self.close()

    def _expect(self, advice: str) -> None:
        """Tell the system how pages will be read, where it takes such advice."""
        if hasattr(mmap, advice):
            self._map.madvise(getattr(mmap, advice))

    def _roll_back(self) -> None:
        weight_CD = self.parameter.detach()
        for ids_R, rows in self._journal.records(self.commits):
            weight_CD.index_copy_(0, ids_R, rows.view(weight_CD.dtype))
        self._map.flush()
        self._journal.clear()
        for path in self.folder.glob("state-*"):
            if path != state_path(self.folder, self.commits):
                path.unlink()

    def _before_step(self, optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if any(value is not optimizer and value is not None for value in (*args, *kwargs.values())):
            raise UsageError(
                "step() of a watched optimizer takes no closure: the rows to keep must be known before it. "
                "Compute the loss and its gradient first."
            )
        grad = self.parameter.grad
        if grad is None:
            return
        if not grad.is_sparse:
            raise UsageError(
                "mapped rows need sparse gradients; got a dense one, which would change every row. "
                "Use a sampled head, or nn.functional.embedding with sparse=True."
            )
        self.protect(grad._indices()[0])

    def _check_usable(self) -> None:
        if not self._is_open:
            raise UsageError(f"the rows of {self.folder} are closed. Open the folder again.")
        if self.parameter.data_ptr() != self._address:
            raise UsageError(
                "rows.parameter no longer shows the file: its data were replaced. "
                "Do not convert, move or resize a module that holds it."
            )

    def _check_value(self, name: str, value: object) -> None:
        if isinstance(value, Tensor):
            if value.untyped_storage().data_ptr() == self._address:
                raise UsageError(f"state {name!r} is rows.parameter itself, which a commit keeps anyhow.")
        elif not isinstance(value, (int, float)) or not math.isfinite(value):
            raise UsageError(f"state {name!r} must be a tensor or a finite number; got {value!r}.")
