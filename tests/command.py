"""The command line in this process."""

import pytest

from widemax.cli import main


def exit_code(*arguments: object) -> int:
    """What ``widemax ARGUMENTS`` ends with."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("sys.argv", ["widemax", *map(str, arguments)])
        with pytest.raises(SystemExit) as exited:
            main()
    return int(exited.value.code or 0)
