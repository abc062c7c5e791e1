"""A task is the word it is written as, and every answer that the code asks of it is a real one."""

import json

import pytest

from widemax.errors import UsageError
from widemax.evaluation.metrics import metrics
from widemax.losses import losses
from widemax.task import Task


def test_a_task_is_its_word() -> None:
    assert [str(task) for task in Task] == ["one", "several", "next"]
    assert json.dumps({"task": Task.NEXT}) == '{"task": "next"}'
    assert Task("several") is Task.SEVERAL


def test_another_word_is_refused() -> None:
    with pytest.raises(UsageError, match="unknown task 'severl'; did you mean 'several'"):
        Task("severl")


@pytest.mark.parametrize("task", Task)
def test_its_defaults_exist(task: Task) -> None:
    assert task.loss in losses
    assert task in metrics[task.metric].tasks
