"""Real processes that meet on this machine: what they make together, and what is left when one of them dies."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

import subsim
from subsim import UserError
from subsim.engine import glance, hosts, store, team
from subsim.engine.program import Plan

STUDY = """
'''Matrix products, as many as it takes to be killed among them.'''
import dataclasses, jax, jax.numpy as jnp, subsim

@dataclasses.dataclass(frozen=True)
class Config:
    side: int = 96

def make_run(config, data):
    def run(key, hyper):
        a = jax.random.normal(key, (config.side, config.side)) / config.side**0.5
        b = jax.lax.fori_loop(0, hyper["loops"], lambda _, b: jnp.tanh(a @ b), jnp.eye(config.side))
        return {"trace": jnp.trace(b), "row": b[0, :4]}
    return run

study = subsim.Study(
    name="work", title=__doc__, make_run=make_run, config=Config(), hyper={"loops": 10}, chunk=4, lanes=2,
    variables={"trace": subsim.Variable("the trace"), "row": subsim.Variable("a row", ("column",))},
)
"""
# As the command itself, but with less patience.
COMMAND = """
from subsim.engine import hosts, team
hosts.PATIENCE, team.BEAT, team.SILENCE = {patience}, 0.2, 30
from subsim.cli import main
main()
"""


@pytest.fixture
def start(tmp_path):
    """Start one process of `subsim run` on the study, with these words."""
    (tmp_path / "work.py").write_text(STUDY)
    outside = {name: value for name, value in os.environ.items() if not name.startswith(("SLURM_", "JAX_"))}
    started = []

    def start(*words, patience=60, **cluster):
        environment = outside | cluster
        command = [sys.executable, "-c", COMMAND.format(patience=patience), "run", "./work.py", *map(str, words)]
        process = subprocess.Popen(
            command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture
def run(start):
    """Run the study in so many processes, to their end: (status, what it printed, what it complained) of each."""

    def run(processes, *words):
        together = [start(*words)] if processes == 1 else by_hand(start, processes, *words)
        return [ended(process) for process in together]

    return run


def by_hand(start, processes, *words):
    here = ("--coordinator", f"127.0.0.1:{free_port()}", "--processes", processes)
    return [start(*words, *here, "--process", process) for process in range(processes)]


def by_slurm(start, processes, *words):
    """As srun would start them: jax makes the port out of the number of the job."""
    job = next(job for job in range(os.getpid(), os.getpid() + 4096) if is_free(job % 4096 + 61440))
    cluster = {"SLURM_JOB_ID": str(job), "SLURM_STEP_NODELIST": "127.0.0.1", "SLURM_NTASKS": str(processes)}
    return [
        start(*words, "--hosts", "auto", **cluster, SLURM_PROCID=str(process), SLURM_LOCALID=str(process))
        for process in range(processes)
    ]


def ended(process):
    printed, complained = process.communicate(timeout=120)
    return process.returncode, printed, complained


def free_port():
    with socket.create_server(("", 0)) as server:
        return server.getsockname()[1]


def is_free(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


def contents(out):
    """Every file of the store but the attributes, which hold the time."""
    store = out / "run.zarr"
    files = (path for path in store.rglob("*") if path.is_file() and path != store / ".zattrs")
    return {str(path.relative_to(store)): path.read_bytes() for path in files}


def is_sentence(complaint, *words):
    assert complaint.startswith("subsim: "), complaint
    assert complaint.count("\n") == 1, complaint  # no traceback, and no trace of a C++ abort
    for word in words:
        assert word in complaint
    return True


def test_two_processes_make_the_store_of_one(start, run, tmp_path):
    options = ("--seeds", 22, "--chunk", 4, "--sweep", "side=8,9")
    ((status, report, _),) = run(1, *options, "--out", "one")
    assert status == 0
    first, second = map(ended, by_slurm(start, 2, *options, "--out", "two"))
    assert first[:2] == (0, report.replace("one", "two"))
    assert "44/44 seeds" in first[2]  # of both, and of both values
    assert second == (0, "Process 1 of 2 has done its part; process 0 reports.\n", "")
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    shares = [json.loads((tmp_path / "two" / "hosts" / f"{process}.json").read_text()) for process in (0, 1)]
    assert [share["finished"] for share in shares] == [24, 20]  # of six stretches for each value, the last of two seeds


@pytest.mark.slow
@pytest.mark.parametrize(("victim", "then"), [(0, [2]), (1, [1, 3])])
def test_when_one_process_is_killed_the_other_says_so_and_any_number_go_on(start, run, tmp_path, victim, then):
    options = ("--seeds", 96, "--chunk", 4, "--loops", 400)
    killed = tmp_path / "killed"
    processes = by_hand(start, 2, *options, "--out", "killed")
    while not (killed / "run.zarr" / "status" / str(victim)).exists():
        assert processes[victim].poll() is None, ended(processes[victim])
        time.sleep(0.01)
    processes[victim].send_signal(signal.SIGKILL)
    assert processes[victim].wait() == -signal.SIGKILL
    status, printed, complaint = ended(processes[1 - victim])
    assert (status, printed) == (team.LOST, "")
    assert is_sentence(complaint, f"process {victim} of 2", "was lost", "repeat the")
    finished = subsim.load_results(killed).sizes["seed"]
    assert 0 < finished < 96
    run(1, *options, "--out", "whole")
    for number in then:
        again = tmp_path / f"again{number}"
        shutil.copytree(killed, again)
        outcomes = run(number, *options, "--out", again.name)
        assert [status for status, *_ in outcomes] == [0] * number, outcomes
        assert contents(again) == contents(tmp_path / "whole")
        signs = [json.loads((again / "hosts" / f"{process}.json").read_text()) for process in range(number)]
        assert number == 1 or sum(sign["finished"] for sign in signs) == 96 - finished  # nothing is computed again


def test_what_one_process_refuses_ends_the_others_with_its_reason(run, tmp_path):
    ((status, *_),) = run(1, "--seeds", 4, "--out", "r")
    assert status == 0
    before = contents(tmp_path / "r")
    first, second = run(2, "--seeds", 4, "--out", "r", "--root-seed", 1)
    assert first[0] == 2
    assert is_sentence(first[2], "root_seed 0 and not 1")
    assert second[0] == team.LOST
    assert is_sentence(second[2], "process 0 of 2", "ended early", "root_seed 0 and not 1")
    assert contents(tmp_path / "r") == before


def test_other_seeds_than_process_0_are_refused(start):
    here = ("--coordinator", f"127.0.0.1:{free_port()}", "--processes", 2)
    first, second = (start("--seeds", seeds, *here, "--process", process) for process, seeds in enumerate((40, 5)))
    status, _, complaint = ended(second)
    assert status == 2
    assert is_sentence(complaint, "seeds is 5 and not 40 as in process 0")
    status, _, complaint = ended(first)
    assert status == team.LOST
    assert is_sentence(complaint, "process 1 of 2", "ended early (seeds is 5")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--hosts", "auto"], ["hosts: jax cannot bring the processes together", "srun", "--coordinator"]),
        (["--coordinator", "127.0.0.1:{port}", "--processes", "2", "--process", "1"], ["did not meet", "127.0.0.1"]),
        (["--coordinator", "127.0.0.1:{port}", "--processes", "2", "--process", "0"], ["did not meet", "start all"]),
    ],
    ids=["no cluster", "no coordinator", "no other"],
)
def test_processes_that_do_not_meet_end_in_a_sentence(start, tmp_path, options, words):
    status, printed, complaint = ended(start(*(word.format(port=free_port()) for word in options), patience=2))
    assert (status, printed) == (2, "")
    assert is_sentence(complaint, *words)
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"coordinator": "h:1"}, "processes is not given"),
        ({"coordinator": "h:1", "processes": 2}, "process is not given"),
        ({"processes": 2, "process": 0}, "coordinator is not given"),
        ({"hosts": "auto", "process": 0}, "coordinator is not given"),
        ({"hosts": "auto", "coordinator": "h:1", "processes": 2, "process": 0}, "hosts is 'auto'"),
        ({"coordinator": "h:1", "processes": 0, "process": 0}, "processes is 0"),
        ({"coordinator": "h:1", "processes": 2, "process": 2}, "process is 2; it must lie in 0 .. 1"),
        ({"coordinator": "h:1", "processes": 2, "process": -1}, "process is -1"),
        ({"coordinator": "h", "processes": 2, "process": 0}, "write HOST:PORT"),
        ({"coordinator": "127.0.0.1:99999", "processes": 2, "process": 0}, "write HOST:PORT"),
        ({"coordinator": "no host:1", "processes": 2, "process": 1}, r"coordinator is no host:1 \(.*\); name the host"),
    ],
)
def test_options_that_contradict_each_other_are_refused(tmp_path, options, words):
    with pytest.raises(UserError, match=words), hosts.joined(tmp_path, **options):
        pass


def test_a_port_in_use_is_refused(tmp_path):
    """jax's own service would take the process down with it."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        here = f"127.0.0.1:{server.getsockname()[1]}"
        with pytest.raises(UserError, match="in use"), hosts.joined(tmp_path, None, here, 2, 0):
            pass


def test_without_hosts_there_is_no_team(tmp_path):
    with hosts.joined(tmp_path) as alone:
        assert alone is None
    assert list(tmp_path.iterdir()) == []


def test_several_processes_need_a_folder(toy, tmp_path):
    with pytest.raises(UserError, match="out: several processes"):
        subsim.simulate(toy, team=team.Team(tmp_path, 0, 2, print))


def test_all_processes_keep_the_plan_that_was_measured(toy, tmp_path):
    """With other lanes the others would be slower than process 0, and round otherwise."""

    class Second(team.Team):
        def awaited(self, seeds):
            return team.Work(seeds, chunk=16, unit=16, todo=[(0, 0), (0, 1), (0, 2)])

        def finish(self, look):
            pass

    def stop(done, seeds):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        subsim.simulate(toy, seeds=40, out=tmp_path, progress=stop)
    store.Store(tmp_path / glance.FILE).keep_plan(Plan(16, 4))
    notices = []
    results = subsim.simulate(toy, seeds=40, out=tmp_path, team=Second(tmp_path, 1, 2, print), notice=notices.append)
    assert notices == ["chunk 16, 8 at once"]  # on two devices
    assert results.seed.values[results.status == store.FINISHED].tolist() == list(range(16, 32))


@pytest.mark.parametrize("processes", [1, 2, 3, 7])
@pytest.mark.parametrize(("unit", "seeds"), [(1, 5), (4, 50), (64, 1000)])
def test_portions_are_whole_stretches_and_together_everything(processes, unit, seeds):
    random = np.random.default_rng(seeds)
    missing = {(place,): np.flatnonzero(random.random(seeds) < 0.3) for place in range(3)}
    work = team.Work(seeds, unit, unit, team.stretches(missing, unit))
    portions = [team.portion(missing, work, process, processes) for process in range(processes)]
    owners = {}
    for process, mine in enumerate(portions):
        for place, its_seeds in mine.items():
            for seed in its_seeds:
                assert owners.setdefault((place, seed // unit), process) == process
    for place, its_seeds in missing.items():
        np.testing.assert_array_equal(np.sort(np.concatenate([mine[place] for mine in portions])), its_seeds)
    stretches = [list(owners.values()).count(process) for process in range(processes)]
    assert max(stretches) - min(stretches) <= 1


def test_a_process_whose_place_is_taken_ends(tmp_path, monkeypatch):
    """A survivor of an earlier run, when the command has been repeated before it noticed that it is one."""
    said, left = [], threading.Event()

    def leave(farewell, sentence, status):
        farewell(f"{sentence} ({status})")
        left.set()

    monkeypatch.setattr(team, "BEAT", 0.01)
    monkeypatch.setattr(team, "leave", leave)
    survivor, newcomer = (team.Team(tmp_path, 0, 1, said.append) for _ in range(2))
    survivor.sign()
    with survivor:
        newcomer.sign()
        assert left.wait(10)
    assert said == [f"another run has begun in {tmp_path.parent}; this one ends. (1)"]
