"""What every loss, sampler, sampled loss, head and optimizer must do, to be run on your own.

Each ``check_*`` holds a member to the named laws of its room, raises :class:`ConformanceError` with the law,
the numbers and a usual cause, and returns a :class:`Report` of what it asked. The tests of widemax do so with
every registered member; a member of your own needs one test that calls its check.
"""

from widemax.testing.head import check_head
from widemax.testing.loss import check_loss
from widemax.testing.optimizer import check_optimizer
from widemax.testing.report import ConformanceError, Report
from widemax.testing.sampled_loss import check_sampled_loss
from widemax.testing.sampler import check_sampler

__all__ = [
    "ConformanceError",
    "Report",
    "check_head",
    "check_loss",
    "check_optimizer",
    "check_sampled_loss",
    "check_sampler",
]
