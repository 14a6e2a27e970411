"""A command in its shell: settings that the shell makes, and signals that it sends."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from test_commands import TOY, refused

import subsim
from subsim.cli import commands
from subsim.engine import integrity, store

# ---- What the shell sets.


def run_of(words, **environment):
    """Run a command in a process of its own; returns what `command` does."""
    call = [sys.executable, "-m", "subsim.cli", *words]
    done = subprocess.run(call, env=os.environ | environment, capture_output=True, text=True)
    return done.returncode, done.stdout, done.stderr


@pytest.mark.skipif(Path("/dev/nvidiactl").exists(), reason="has CUDA")
@pytest.mark.parametrize("words", [["single_step"], ["./mine.py"], ["throughput", "--peers", "jax-vmap"]])
def test_a_platform_that_is_not_there_is_one_sentence(tmp_path, words):
    """Also where a study asks jax for numbers while it is imported."""
    (tmp_path / "mine.py").write_text(TOY.replace("def run", "KEY = jax.random.key(0)\n\ndef run"))
    outcome = run_of(["run", *words, "--seeds", "2"], JAX_PLATFORMS="cuda")
    assert refused(outcome, "JAX_PLATFORMS is 'cuda', but jax finds no device to run on", "set JAX_PLATFORMS=cpu.")
    assert not Path("results").exists()


@pytest.mark.parametrize(
    ("words", "name"),
    [
        (["run", "single_step"], "JAX_ENABLE_X64"),
        (["run", "single_step", "--help"], "JAX_NUM_CPU_DEVICES"),
        (["verify"], "JAX_DEBUG_NANS"),
        (["figure", "single_step"], "JAX_DEFAULT_PRNG_IMPL"),
        (["report"], "JAX_LOGGING_LEVEL"),
        (["compile", "single_step", "--topology", "v5e:2x2"], "JAX_ENABLE_X64"),
    ],
)
def test_a_setting_that_jax_refuses_is_one_sentence(tmp_path, words, name):
    (tmp_path / "results" / "single_step").mkdir(parents=True)
    outcome = run_of(words, **{name: "foo"})
    assert refused(outcome, f"{name} is 'foo', which jax does not accept; correct or unset the variable.")


def test_a_value_error_of_another_kind_is_no_setting_of_jax(monkeypatch):
    monkeypatch.setenv("JAX_ENABLE_X64", "1")
    with pytest.raises(ValueError, match="jax_enable_x64"), commands.jax_refusals():
        raise ValueError("not jax_enable_x64")


def test_a_cache_that_cannot_be_written_is_one_sentence_and_no_more(tmp_path):
    (tmp_path / "mine.py").write_text(TOY)
    (tmp_path / "file").touch()
    twice = "from subsim.cli import main; main(['run', './mine.py']); main(['run', './mine.py', '--seeds', '5'])"
    environment = os.environ | {"XDG_CACHE_HOME": str(tmp_path / "file")}
    done = subprocess.run([sys.executable, "-c", twice], env=environment, capture_output=True, text=True, check=True)
    sentence, *progress = done.stderr.splitlines()
    assert sentence.startswith("subsim: Compiled programs are not kept: ")
    assert "XDG_CACHE_HOME" in sentence
    assert [line.partition(" ")[0] for line in progress] == ["mine"] * 4
    assert subsim.load_results("results/mine").sizes["seed"] == 5


# ---- Stopping.


def test_ctrl_c_while_a_command_is_imported_ends_it_quietly():
    interrupted = """
import sys

class Interrupt:
    def find_spec(self, name, *_):
        if name == "subsim.cli.commands":
            raise KeyboardInterrupt

sys.meta_path.insert(0, Interrupt())
from subsim.cli import main
main(["list"])
"""
    ended = subprocess.run([sys.executable, "-c", interrupted], capture_output=True, text=True)
    assert (ended.returncode, ended.stdout, ended.stderr) == (130, "", "")


LONG_CALL = """
'''Computes for hours in one call of its program.'''
import jax
import subsim

def run(key, hyper):
    body = lambda _, x: x * 1.0000001 + jax.numpy.sin(x)
    return {"number": jax.lax.fori_loop(0, 2_000_000_000, body, jax.random.normal(key))}

study = subsim.Study(name="mine", title=__doc__, make_run=lambda config, data: run, seeds=3,
                     variables={"number": subsim.Variable("a number")})
"""
LONG_COMPILE = LONG_CALL.replace(
    "    body = lambda",
    "    x = jax.random.normal(key, (8, 8))\n"
    "    for number in range(600):\n"
    "        x = jax.numpy.sin(x @ x + number) + jax.numpy.cumsum(x, 0)\n"
    "    return {'number': x.sum()}\n"
    "    body = lambda",
)


@pytest.fixture
def running(tmp_path):
    """Start `subsim run` of a study with this text; its process is returned when it compiles."""
    processes = []

    def start(text, handler="default_int_handler"):
        (tmp_path / "mine.py").write_text(text)
        # As a shell starts it, whatever pytest was started from.
        code = f"import signal; signal.signal(signal.SIGINT, signal.{handler}); "
        code += "from subsim.cli import main; main(['run', './mine.py'])"
        processes.append(subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True))
        assert processes[0].stderr.readline() == "mine (compiling): 0/3 seeds\n"
        return processes[0]

    yield start
    for process in processes:
        process.kill()
        process.wait()
        process.stderr.close()


def stopped(process, number):
    """Whether a signal ends the process at once, with the sentence and the status that shells know."""
    process.send_signal(number)
    assert process.wait(timeout=3) == 128 + number
    assert process.stderr.read() == "subsim: stopped; what is finished is on disk. Repeat the command to continue.\n"
    assert integrity.damages(Path("results/mine/run.zarr")) == []
    assert store.finished(Path("results/mine")) == (0, 3)
    return True


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_a_run_in_the_midst_of_a_call(running, number):
    process = running(LONG_CALL)
    time.sleep(4)  # compiled, and at work
    assert stopped(process, number)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_a_run_that_compiles(running, number):
    process = running(LONG_COMPILE)
    time.sleep(1)
    assert stopped(process, number)


def test_a_signal_that_the_shell_has_it_ignore_is_ignored(running):
    """As Ctrl-C is in the background of a shell's script."""
    process = running(LONG_CALL, "SIG_IGN")
    process.send_signal(signal.SIGINT)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(timeout=1)
    assert stopped(process, signal.SIGTERM)


def test_a_signal_ends_a_command_whose_output_nobody_reads():
    code = """
import os, threading, signal
from subsim.cli.stopping import stopping_at_once
from subsim.cli.terminal import say
with stopping_at_once():
    threading.Timer(1, os.kill, (os.getpid(), signal.SIGTERM)).start()
    say("x" * 10_000_000)
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.wait(timeout=10) == 143
        process.stdout.read()


def test_handlers_of_signals_are_as_before_when_a_command_has_ended(command):
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    assert command("list")[0] == 0
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
