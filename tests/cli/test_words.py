"""The words of --sweep and --shard."""

import numpy as np
import pytest

from subsim import UserError
from subsim.cli import words
from subsim.engine.shards import Shard


@pytest.mark.parametrize(
    ("text", "name", "values"),
    [
        ("n_aux=1,2,10", "n_aux", (1, 2, 10)),
        ("student.learning-rate=1e-4:1e-2:3:log", "student.learning_rate", (1e-4, 1e-3, 1e-2)),
        ("eps=0:1:3", "eps", (0.0, 0.5, 1.0)),
        ("init=lecun,torch", "init", ("lecun", "torch")),
        ("widths=64-64,128", "widths", ((64, 64), 128)),
    ],
)
def test_axes_are_written_as_text(text, name, values):
    parsed_name, parsed = words.axis_of(text)
    assert parsed_name == name
    np.testing.assert_equal(len(parsed), len(values))
    for a, b in zip(parsed, values, strict=True):
        assert a == (pytest.approx(b) if isinstance(b, float) else b)


@pytest.mark.parametrize(
    ("values", "wanted"),
    [
        ("1e-4:1e-2:3", (0.0001, 0.00505, 0.01)),  # linspace gives .005050000000000001
        ("1e-3:1:4:log", (0.001, 0.01, 0.1, 1.0)),
        ("1:1.0000004:3", (1.0, 1.0000002, 1.0000004)),
        ("0.12345678901234:1:2", (0.12345678901234, 1.0)),
        ("1:3:1", (1.0,)),
    ],
)
def test_the_values_of_a_range_are_without_errors_of_rounding(values, wanted):
    assert words.axis_of(f"eps={values}") == ("eps", wanted)


@pytest.mark.parametrize("text", ["eps", "eps=", "=1", "eps=1:2", "eps=1:2:x", "eps=1:2:3:lug", "eps=-1:2:3:log"])
def test_axes_that_are_none_are_refused(text):
    with pytest.raises(UserError, match="sweep"):
        words.axis_of(text)


@pytest.mark.parametrize(
    ("text", "shard"), [(None, (1, 1)), ("1/1", (1, 1)), ("2/3", (2, 3)), ("16/16", (16, 16)), ("1/1000", (1, 1000))]
)
def test_a_shard_is_asked_for_by_its_number_and_how_many_they_are(text, shard):
    assert words.shard_of(text) == shard


@pytest.mark.parametrize("text", ["", "1", "0/3", "4/3", "1/0", "-1/3", "1/3/5", "a/b", "1.0/2", " 1/2", "AUTO"])
def test_what_is_no_shard_is_refused(text):
    with pytest.raises(UserError, match=r"shard is .*; (write I/N, such as 1/4, or auto|I must lie in 1 .. N)"):
        words.shard_of(text)


SLURM = {"SLURM_JOB_ID": "7"}
TASKS = SLURM | {"SLURM_NTASKS": "4", "SLURM_PROCID": "2"}
ARRAY = SLURM | {"SLURM_ARRAY_TASK_ID": "13", "SLURM_ARRAY_TASK_MIN": "10", "SLURM_ARRAY_TASK_COUNT": "5"}
POD = {"JOB_COMPLETION_INDEX": "2", "JOB_COMPLETIONS": "8"}


@pytest.mark.parametrize(
    ("environment", "shard"),
    [
        (SLURM, (1, 1)),
        (SLURM | {"SLURM_NTASKS": "1", "SLURM_PROCID": "0"}, (1, 1)),
        (TASKS, (3, 4)),
        (TASKS | {"SLURM_PROCID": "0"}, (1, 4)),
        (ARRAY, (4, 5)),
        (ARRAY | {"SLURM_ARRAY_TASK_STEP": "3"}, (2, 5)),
        (ARRAY | {"SLURM_ARRAY_TASK_ID": "10"}, (1, 5)),
        (ARRAY | TASKS, (15, 20)),
        (POD, (3, 8)),
        (POD | SLURM, (1, 1)),
    ],
)
def test_the_cluster_says_which_shard_this_is(environment, shard):
    assert words.shard_of("auto", environment) == shard


def test_all_tasks_of_all_jobs_of_an_array_are_shards():
    found = [
        words.shard_of("auto", ARRAY | TASKS | {"SLURM_ARRAY_TASK_ID": str(10 + job), "SLURM_PROCID": str(task)})
        for job in range(5)
        for task in range(4)
    ]
    assert found == [Shard(number, 20) for number in range(1, 21)]


@pytest.mark.parametrize(
    ("environment", "sentence"),
    [
        ({}, "neither SLURM nor Kubernetes nor jax says which shard this is .*; write I/N"),
        (
            {"JOB_COMPLETION_INDEX": "2"},
            "a Kubernetes Job does not give its pods their number; set JOB_COMPLETIONS",
        ),
        (POD | {"JOB_COMPLETIONS": "many"}, "the cluster's environment has no number .*'many'.*; write I/N"),
        (TASKS | {"SLURM_NTASKS": "4(x2)"}, r"the cluster's environment has no number .*; write I/N"),
        (POD | {"JOB_COMPLETIONS": "2"}, "shard 3/2"),
        (TASKS | {"SLURM_PROCID": "4"}, "shard 5/4"),
        (
            ARRAY | {"SLURM_ARRAY_TASK_ID": "40"},
            "shard 31/5, which does not exist: the jobs of an array must have",
        ),
    ],
)
def test_a_cluster_that_does_not_say_is_refused(environment, sentence):
    with pytest.raises(UserError, match=f"shard is 'auto', but .*{sentence}"):
        words.shard_of("auto", environment)
