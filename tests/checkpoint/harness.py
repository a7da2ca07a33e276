# SPDX-License-Identifier: MIT
"""What the checkpoint tests have in common: a server, an application under the shim, CRIU, and looking at them.

Everything a test starts lives in one World and is ended with it. The test process makes itself the reaper of its
orphans, so that it learns the exit status of a process that CRIU restored, which is nobody's child any more.
Nothing here sleeps for a guessed time: conditions are watched, with a limit that says what was waited for.
"""
import argparse
import contextlib
import ctypes
import json
import os
import random
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path

HERE = Path(__file__).resolve().parent
PATIENCE = float(os.environ.get("CRICKET_TEST_PATIENCE", "60"))  # seconds until a condition counts as never met


class Failure(Exception):
    """The product did something wrong."""


class Skip(Exception):
    """This machine cannot run the test."""


def check(condition, message):
    if not condition:
        raise Failure(message)


def wait_for(condition, what, patience=None):
    """Returns the first true value of condition(), which is asked every two milliseconds."""
    limit = time.monotonic() + (patience or PATIENCE)
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > limit:
            raise Failure(f"waited {patience or PATIENCE:g} s for {what() if callable(what) else what}")
        time.sleep(0.002)


def later(world, seconds, step=0.05):
    """The next moment at which to interrupt something, until it is over before that: where it takes longer, the steps grow, so that a
    busy machine has not many times the moments to go through, each of which takes many times as long."""
    return seconds * (1 + 0.2 * world.random.random()) + step * (0.2 + world.random.random())


class Timed:
    """With CRICKET_TEST_TIMES a test says of each step when it began and how long it took."""
    began = time.monotonic()

    def __init__(self, what):
        self.what, self.start = what, time.monotonic()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if os.environ.get("CRICKET_TEST_TIMES"):
            now = time.monotonic()
            print(f"[{self.start - Timed.began:7.2f} s, {now - self.start:6.2f} s] {self.what}", flush=True)


def tail(path, lines=15):
    try:
        text = Path(path).read_text(errors="replace").splitlines()
    except OSError as error:
        return f"  ({error})"
    return "\n".join("  " + line for line in text[-lines:]) or "  (empty)"


class Children:
    """Starts processes and keeps the exit status of each that ends, adopted ones too."""

    def __init__(self):
        PR_SET_CHILD_SUBREAPER = 36
        if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
            raise Skip("cannot become a subreaper here")
        self.status = {}

    def start(self, command, **kwargs):
        process = subprocess.Popen([str(word) for word in command], **kwargs)
        process.returncode = 0  # reaped below, so subprocess must not try
        self.status.pop(process.pid, None)
        return process.pid

    def reap(self):
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            self.status[pid] = os.waitstatus_to_exitcode(status)

    def ended(self, pid):
        self.reap()
        return pid in self.status

    def wait(self, pid, what, patience=None):
        with Timed(f"waiting for {what}"):
            wait_for(lambda: self.ended(pid), f"{what} (pid {pid}) to end", patience)
        return self.status[pid]


def free_tcp_address():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"tcp:127.0.0.1:{probe.getsockname()[1]}"


class Server:
    def __init__(self, world, *options, environment=None):
        self.world = world
        self.log = world.folder / f"server{world.next_number()}.log"
        command = [world.server_program, "--socket", world.socket, "--driver", world.driver,
                   "--state-dir", world.folder / "state", *options]
        if world.transport.startswith("tcp:"):
            command += ["--listen-rpc", world.transport]
        with open(self.log, "ab") as log:
            self.pid = world.children.start(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                            env=world.tool_environment() | (environment or {}))
        world.servers.append(self)

    def alive(self):
        return not self.world.children.ended(self.pid)

    def ready(self):
        """Waits until the control plane answers."""

        def answers():
            if not self.alive():
                raise Failure(f"the server ended with status {self.world.children.status[self.pid]}:\n{tail(self.log)}")
            return self.world.control("status", accept_failure=True).returncode == 0

        with Timed("the server's start"):
            wait_for(answers, lambda: f"the server to answer; its log:\n{tail(self.log)}")
        return self

    def kill(self):
        """The hard way. Its workers must not outlive it, or two would own one session."""
        workers = children_of(self.pid)
        os.kill(self.pid, signal.SIGKILL)
        self.world.children.wait(self.pid, "the killed server")
        for worker in workers:
            wait_for(lambda: self.world.children.reap() or not running(worker),
                     f"worker {worker} to end after its supervisor was killed")

    def stop(self):
        if not self.alive():
            return
        os.kill(self.pid, signal.SIGTERM)
        status = self.world.children.wait(self.pid, "the server, after SIGTERM,")
        check(status == 0, f"the server ended with status {status} after SIGTERM:\n{tail(self.log)}")


class App:
    """An application started as CRIU needs it: a session of its own, no terminal, output into files."""

    def __init__(self, world, command, shim=True, env=None, close_fds=True, preload=()):
        self.world = world
        self.command = [str(word) for word in command]
        name = Path(self.command[0]).name
        number = world.next_number()
        self.log = world.folder / f"{name}{number}.log"
        self.errors = world.folder / f"{name}{number}.err"
        environment = world.environment(**(env or {}))
        if shim:
            environment["LD_PRELOAD"] = " ".join(str(library) for library in [*preload, world.shim])
        elif world.driver == "soft":
            environment["LD_LIBRARY_PATH"] = str(world.soft_driver.parent)
        with open(self.log, "wb") as out, open(self.errors, "wb") as err:
            self.pid = world.children.start(command, stdin=subprocess.DEVNULL, stdout=out, stderr=err,
                                            start_new_session=True, cwd=world.folder, env=environment,
                                            close_fds=close_fds)
        self.sizes = {}
        world.apps.append(self)

    def alive(self):
        return not self.world.children.ended(self.pid)

    def output(self):
        return self.log.read_text(errors="replace")

    def describe(self):
        return (f"{shlex.join(self.command)} (pid {self.pid}); its output:\n{tail(self.log)}\n"
                f"its errors:\n{tail(self.errors)}")

    def progress(self, patience=None):
        """Waits until it has printed more than it had when asked."""
        before = self.log.stat().st_size

        def more():
            if self.log.stat().st_size > before:
                return True
            if not self.alive():
                raise Failure(f"ended with status {self.world.children.status[self.pid]}: {self.describe()}")
            return False

        wait_for(more, lambda: f"progress of {self.describe()}", patience)

    def finish(self, stop=True, patience=None):
        """Ends it in order and returns its output; its own verdict must be PASS and its status 0."""
        if stop:
            os.kill(self.pid, signal.SIGTERM)
        try:
            status = self.world.children.wait(self.pid, "the application", patience)
        except Failure as failure:
            raise Failure(f"{failure}: {self.describe()}") from None
        output = self.output()
        lines = output.splitlines()
        check(status == 0 and lines and lines[-1].startswith("PASS"),
              f"ended with status {status}: {self.describe()}")
        return output

    def kill(self):
        if self.alive():
            try:
                os.kill(self.pid, signal.SIGKILL)
            except ProcessLookupError:
                return  # it was about to be restored
            self.world.children.wait(self.pid, "the killed application")

    def check_clean(self, may_end=False):
        """Invariants 1 and 2: nothing of the GPU, and no connected socket, at any moment whatever. With `may_end` a
        program that ended while it was looked at is no failure: its own verdict is judged later."""
        try:
            self.look_clean()
        except OSError as gone:  # its files in /proc vanish a little before it can be waited for
            wait_for(lambda: not self.alive(), lambda: f"the end of pid {self.pid} ({gone})")
        if not self.alive() and not may_end:
            raise Failure(f"ended with status {self.world.children.status[self.pid]}: {self.describe()}")

    def look_clean(self):
        proc = Path("/proc") / str(self.pid)
        for line in (proc / "maps").read_text().splitlines():
            check("/dev/nvidia" not in line, f"pid {self.pid} maps the GPU: {line}")
        inodes = {}
        for entry in os.listdir(proc / "fd"):
            try:
                target = os.readlink(proc / "fd" / entry)
            except FileNotFoundError:
                continue  # closed meanwhile
            check(not target.startswith("/dev/nvidia"), f"pid {self.pid} has {target} open as {entry}")
            if target.startswith("socket:["):
                inodes[target[len("socket:["):-1]] = entry
        connected = {"unix": (6, 5, "03"), "tcp": (9, 3, "01"), "tcp6": (9, 3, "01")}
        for family, (inode_field, state_field, state) in connected.items():
            for line in (proc / "net" / family).read_text().splitlines()[1:]:
                fields = line.split()
                if len(fields) > inode_field and fields[inode_field] in inodes:
                    check(fields[state_field] != state,
                          f"pid {self.pid} holds a connected {family} socket as fd {inodes[fields[inode_field]]}")

    def dump(self, images, *options):
        """Plain criu, no flag but the two that name process and folder, unless the test adds one."""
        self.check_clean()
        images.mkdir(parents=True, exist_ok=True)
        result = self.world.run([self.world.criu, "dump", "-t", self.pid, "-D", images, *options])
        check(result.returncode == 0, f"criu dump of {self.describe()}\nfailed:\n{result.stdout[-3000:]}")
        if "--leave-running" not in options:
            self.world.children.wait(self.pid, "the dumped application")
        self.sizes[images] = [path.stat().st_size for path in (self.log, self.errors)]

    def restore(self, images):
        """From the newest image or an older one: CRIU wants the files as long as they were."""
        for path, size in zip((self.log, self.errors), self.sizes[images]):
            if path.stat().st_size > size:
                os.truncate(path, size)
        self.world.children.status.pop(self.pid, None)
        result = self.world.run([self.world.criu, "restore", "-d", "-D", images])
        check(result.returncode == 0, f"criu restore of {self.describe()}\nfailed:\n{result.stdout[-3000:]}")


def stat_of(pid):
    """The fields of /proc/PID/stat from the state on (number 3 of proc(5) is [0]); None when it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(errors="replace").rsplit(")", 1)[1].split()
    except (FileNotFoundError, ProcessLookupError):
        return None


def running(pid):
    stat = stat_of(pid)
    return stat is not None and stat[0] != "Z"


def children_of(pid):
    """The oldest first. Not out of /proc/PID/task/*/children: where threads or children end meanwhile, those miss others."""
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdecimal() and (stat := stat_of(entry)) and int(stat[1]) == pid:
            found.append((int(stat[19]), int(entry)))
    return [child for _, child in sorted(found)]


class World:
    def __init__(self, arguments):
        self.build = arguments.build.resolve()
        self.driver = arguments.driver
        self.random = random.Random(arguments.seed)
        self.folder = Path(tempfile.mkdtemp(prefix="cricket-test-"))
        self.socket = self.folder / "server.sock"
        self.transport = free_tcp_address() if arguments.transport == "tcp" else arguments.transport
        self.shim = self.build / "client/libcudashim.so"
        self.server_program = self.build / "server/cricket-server"
        self.control_program = self.build / "server/cricketctl"
        self.soft_driver = self.build / "tests/softgpu/driver/libcuda.so.1"
        self.children = Children()
        self.servers, self.apps = [], []
        self.number = 0
        self.criu_path = None

    def next_number(self):
        self.number += 1
        return self.number

    @property
    def criu(self):
        if not self.criu_path:
            finder = subprocess.run([HERE.parent / "setup/criu"], capture_output=True, text=True)
            if finder.returncode != 0:
                raise Skip(finder.stderr.strip() or "no criu that works")
            self.criu_path = finder.stdout.strip()
        return self.criu_path

    def environment(self, **more):
        environment = {name: value for name, value in os.environ.items()
                       if name not in ("LD_PRELOAD", "CRICKET_TRACE")}
        environment["CRICKET_SOCKET"] = str(self.socket)
        environment["CRICKET_TRANSPORT"] = self.transport
        if self.criu_path:
            environment["CRICKET_CRIU"] = self.criu_path
        environment.update(more)
        return environment

    def tool_environment(self):
        """For our own programs: a build that was carried to another machine has its libraries with it."""
        environment = self.environment()
        if (self.build / "lib").is_dir():
            environment["LD_LIBRARY_PATH"] = ":".join(
                filter(None, [str(self.build / "lib"), environment.get("LD_LIBRARY_PATH")]))
        return environment

    def run(self, command, patience=None, **kwargs):
        """Runs a helper program to its end; its output and errors come back as one text."""
        words = [str(word) for word in command]
        quiet = "status" in words[1:2]  # asked in a loop
        try:
            with contextlib.nullcontext() if quiet else Timed(" ".join([Path(words[0]).name, *words[1:]])):
                return subprocess.run(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                      text=True, errors="replace", timeout=patience or PATIENCE,
                                      env=kwargs.pop("env", None) or self.tool_environment(), **kwargs)
        except subprocess.TimeoutExpired as expired:
            so_far = expired.stdout or b""
            raise Failure(f"{shlex.join(map(str, command))} took longer than {expired.timeout:g} s; so far:\n"
                          f"{so_far.decode(errors='replace')}") from None

    def control(self, *words, accept_failure=False, patience=None, **kwargs):
        result = self.run([self.control_program, *words], patience, **kwargs)
        if not accept_failure:
            check(result.returncode == 0,
                  f"cricketctl {shlex.join(map(str, words))} ended with status {result.returncode}:\n{result.stdout}")
        return result

    def refused(self, *words, naming, **kwargs):
        """A command of cricketctl that must fail, with a message in which each of the words in `naming` stands."""
        result = self.control(*words, accept_failure=True, **kwargs)
        check_message(result.returncode, result.stdout, naming, "cricketctl " + shlex.join(map(str, words)))

    def sessions(self):
        result = self.run([self.control_program, "status", "--json"])
        check(result.returncode == 0, f"cricketctl status --json failed:\n{result.stdout}")
        answer = json.loads(result.stdout)
        return answer["sessions"] if isinstance(answer, dict) else answer

    def session_of(self, pid):
        return next((session for session in self.sessions() if session["pid"] == pid), None)

    def wait_state(self, pid, state, patience=None):
        def reached():
            session = self.session_of(pid)
            return session if session and session["state"] == state else None

        return wait_for(reached, lambda: f"the session of pid {pid} to be {state}; sessions: {self.sessions()}", patience)

    def start_server(self, *options, environment=None):
        return Server(self, *options, environment=environment).ready()

    def start_program(self, command, **kwargs):
        return App(self, command, **kwargs)

    def start(self, name, *options, **kwargs):
        return App(self, [self.build / "examples" / name, *options], **kwargs)

    def report(self):
        for app in self.apps:
            print(f"--- {app.describe()}")
        for server in self.servers[-2:]:
            print(f"--- server (pid {server.pid}), its log:\n{tail(server.log, 40)}")

    def close(self, keep):
        self.children.reap()
        for app in self.apps:
            app.kill()
        for server in self.servers:
            try:
                if server.alive():
                    server.kill()
            except Failure as failure:
                print(f"while ending: {failure}")
        if keep:
            print(f"kept: {self.folder}")
        else:
            shutil.rmtree(self.folder, ignore_errors=True)


def at_work(world, app, more=100):
    """Its session runs, and it makes so many more calls."""
    wait_for(lambda: (world.session_of(app.pid) or {}).get("state") == "running" or not app.alive(), lambda: f"a running session of {app.describe()}")
    check(app.alive(), f"it has ended: {app.describe()}")
    before = world.session_of(app.pid)["calls"]
    wait_for(lambda: (world.session_of(app.pid) or {"calls": 0})["calls"] > before + more or not app.alive(), lambda: f"calls of {app.describe()}")
    check(app.alive(), f"it has ended: {app.describe()}")


def there_and_back(world, app, server, folder, saved=(), restored=(), environment=None):
    """A checkpoint that ends the program, and the way back on a server that knows nothing of it, which it returns."""
    world.control("checkpoint", app.pid, folder, *saved)
    world.children.wait(app.pid, "the checkpointed program")
    server.kill()
    server = world.start_server(environment=environment)
    world.children.status.pop(app.pid, None)
    world.control("restore", folder, *restored)
    at_work(world, app)
    return server


def check_message(status, text, naming, what):
    check(status != 0, f"{what} should have been refused, but ended with status 0:\n{text}")
    check(status > 0, f"{what} died of signal {-status}:\n{text}")
    for word in naming if isinstance(naming, (tuple, list)) else [naming]:
        check(str(word).lower() in text.lower(), f"{what}: the message does not name '{word}':\n{text}")


def losses(output):
    """The sequence that train printed, which must have no gap and no repetition."""
    result = []
    for line in output.splitlines():
        if line.startswith("step "):
            _, step, _, loss, _ = line.split()
            check(int(step) == len(result), f"train's output goes on with step {step} after {len(result) - 1}")
            result.append(loss)
    return result


def enter_own_pids():
    """Goes on in a pid namespace of its own, where that is allowed.

    A restored process needs its old pid, which on a busy machine somebody else may have been given meanwhile; and
    whatever a failed test leaves behind ends with the namespace.
    """
    if os.environ.get("CRICKET_TEST_NAMESPACE") or os.geteuid() != 0:
        return
    wrapper = ["unshare", "--mount", "--pid", "--fork", "--mount-proc", "--kill-child"]
    try:
        allowed = subprocess.run([*wrapper, "true"], capture_output=True).returncode == 0
    except FileNotFoundError:
        allowed = False
    os.environ["CRICKET_TEST_NAMESPACE"] = "own" if allowed else "shared"
    if allowed:
        sys.stdout.flush()
        os.execvp(wrapper[0], [*wrapper, sys.executable, *sys.argv])


def main_of_parts(description, parts, said, needs_criu=False):
    """main() of a test whose parts, functions of the world by name, can be named on the command line."""

    def test(world, arguments):
        if needs_criu:
            world.criu
        for name in arguments.parts or parts:
            parts[name](world)
            print(f"{name}: {said}", flush=True)

    main(description, test, lambda parser: parser.add_argument("parts", nargs="*", choices=[[], *parts], help="all, when none is named"))


def main(description, test, add_arguments=lambda parser: None):
    """Runs test(world, arguments) and exits as meson expects: 0, 1, or 77 for a skip."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--build", type=Path, default=HERE.parents[1] / "build", help="the build folder")
    parser.add_argument("--driver", default=os.environ.get("CRICKET_TEST_DRIVER", "soft"),
                        help="soft, real, or a path, as for cricket-server")
    parser.add_argument("--transport", default="ring", help="value of CRICKET_TRANSPORT")
    parser.add_argument("--seed", type=int, default=None, help="of all random choices; a fresh one by default")
    parser.add_argument("--keep", action="store_true", help="leave the temporary folder")
    add_arguments(parser)
    arguments = parser.parse_args()
    enter_own_pids()
    if arguments.seed is None:
        arguments.seed = random.SystemRandom().randrange(1 << 32)
    print(f"seed {arguments.seed}", flush=True)
    world = None
    keep = arguments.keep
    status = 1
    try:
        if arguments.driver == "real" and not Path("/dev/nvidiactl").exists():
            raise Skip("there is no NVIDIA driver here")
        world = World(arguments)
        test(world, arguments)
        status = 0
    except Skip as skip:
        print(f"SKIP: {skip}")
        status = 77
    except (Failure, OSError, ValueError, KeyError) as failure:
        print(f"FAILED: {failure}")
        if not isinstance(failure, Failure):
            traceback.print_exc(file=sys.stdout)
        if world:
            world.report()
        words = sys.argv[1:]
        if "--seed" not in words:
            words = ["--seed", str(arguments.seed), *words]
        print(f"run it again: {shlex.join([sys.executable, str(Path(sys.argv[0]).resolve()), *words])}")
    finally:
        if world:
            world.close(keep)
    sys.exit(status)
