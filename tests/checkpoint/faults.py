#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Everything that can go wrong with a checkpoint or a restore is made to go wrong: the program runs on as before, nothing
half-written has the name of a whole, what was saved before stays, and the next attempt works."""
import os
import resource
import signal
import subprocess
import time
from pathlib import Path

from harness import HERE, Skip, check, check_message, children_of, later, main, running, stat_of, wait_for

FAULTS = {}
MIB = 48


def fault(function):
    FAULTS[function.__name__.replace("_", "-")] = function
    return function


def calls_of(world, app):
    return (world.session_of(app.pid) or {"calls": 0})["calls"]


def at_work(world, app, more=30):
    """It makes calls, and its own checks of what they answer go well."""
    wait_for(lambda: (world.session_of(app.pid) or {"device_bytes": 0})["device_bytes"],
             lambda: f"device memory of {app.describe()}")
    before = calls_of(world, app)
    wait_for(lambda: calls_of(world, app) > before + more or not app.alive(), lambda: f"calls of {app.describe()}")
    check(app.alive(), f"it has ended: {app.describe()}")


def unharmed(world, app):
    """After a failure: as before it."""
    wait_for(lambda: (world.session_of(app.pid) or {}).get("state") == "running",
             lambda: f"the session to run; sessions: {world.sessions()}")
    at_work(world, app)


def start(world, mib=MIB):
    app = world.start("copies", "--steps", "0", "--mib", mib, "--quiet")
    at_work(world, app)
    return app


def place_of(world):
    place = world.folder / f"place{world.next_number()}"
    place.mkdir()
    return place


def empty(place):
    check(os.listdir(place) == [], f"a failure left {os.listdir(place)}")


def faulty(world, fault, more=None):
    """The environment of a cricketctl whose criu has this fault."""
    done = world.folder / f"fault{world.next_number()}"
    return done, world.tool_environment() | {"CRICKET_CRIU": str(HERE / "criu_faulty"), "CRICKET_REAL_CRIU": world.criu,
                                             "CRICKET_FAULT": fault, "CRICKET_FAULT_DONE": str(done)} | (more or {})


def hanging_checkpoint(world, app, folder, *words):
    """The pid of a cricketctl whose criu has begun and does not go on."""
    done, environment = faulty(world, "hang")
    control = world.children.start([world.control_program, "checkpoint", app.pid, folder, *words], stdin=subprocess.DEVNULL,
                                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment)
    wait_for(done.exists, "criu to begin")
    return control


def hanging_after_one(world, *words):
    """(server, program, the folder of one checkpoint of it, cricketctl whose criu hangs in the next there)"""
    server = world.start_server()
    app, place = start(world), place_of(world)
    world.control("checkpoint", app.pid, place / "earlier", "--leave-running")
    return server, app, place, hanging_checkpoint(world, app, place / "earlier", *words)


def fails_without_criu(world, control, who, how=signal.SIGKILL):
    """Its criu ends, and it with a failure."""
    for child in children_of(control):
        os.kill(child, how)
    status = world.children.wait(control, who)
    check(status == 1, f"cricketctl ended with status {status}")


def goes_on_from(world, app, folder):
    """A program that is gone comes back from a checkpoint, and works."""
    world.control("verify", folder)
    world.children.status.pop(app.pid, None)
    for path in (app.log, app.errors):  # criu wants them as long as they were
        os.truncate(path, 0)
    world.control("restore", folder)
    unharmed(world, app)
    app.finish()


def works_after_all(world, app, place):
    """The next checkpoint there is a whole one, brings the program back, and clears away what was left."""
    world.control("checkpoint", app.pid, place / "good")
    wait_for(lambda: not app.alive(), "the checkpointed program to end")
    world.control("verify", place / "good")
    world.children.status.pop(app.pid, None)
    world.control("restore", place / "good")
    unharmed(world, app)
    app.finish()


BOTH = ([], ["--leave-running"])


@fault
def criu_refuses(world):
    server = world.start_server()
    app, place = start(world), place_of(world)
    for words in BOTH:
        done, environment = faulty(world, "refuse-dump")
        result = world.control("checkpoint", app.pid, place / "one", *words, accept_failure=True, env=environment)
        check_message(result.returncode, result.stdout, "told to fail", "a checkpoint without criu")
        unharmed(world, app)
        empty(place)
    works_after_all(world, app, place)
    server.stop()


@fault
def disk_full(world):
    server = world.start_server()
    app, place = start(world), place_of(world)
    if subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={MIB // 4}m", "tmpfs", place]).returncode != 0:
        raise Skip("cannot mount a small tmpfs")
    try:
        for words in BOTH:
            result = world.control("checkpoint", app.pid, place / "one", *words, accept_failure=True)
            check_message(result.returncode, result.stdout, "space", "a checkpoint onto a full disk")
            unharmed(world, app)
            empty(place)
    finally:
        subprocess.run(["umount", place], check=True)
    works_after_all(world, app, place)
    server.stop()


@fault
def file_too_large(world):
    """The limit of files stands for a disk that is full for the server alone."""
    server = world.start_server()
    app, place = start(world), place_of(world)
    worker = children_of(server.pid)[0]
    for words in BOTH:
        before = resource.prlimit(worker, resource.RLIMIT_FSIZE, (1 << 20, resource.RLIM_INFINITY))
        result = world.control("checkpoint", app.pid, place / "one", *words, accept_failure=True)
        resource.prlimit(worker, resource.RLIMIT_FSIZE, before)
        check_message(result.returncode, result.stdout, "large", "a checkpoint with too large files")
        unharmed(world, app)
        empty(place)
    works_after_all(world, app, place)
    server.stop()


@fault
def no_device_memory(world):
    """Without device memory for a copy the snapshot takes longer, and is taken."""
    if world.driver != "soft":
        raise Skip("the software GPU can be made small")
    server = world.start_server(environment={"SOFTGPU_MEMORY": f"{3 * MIB}M"})
    app, place = start(world), place_of(world)
    world.control("checkpoint", app.pid, place / "one", "--leave-running")
    world.control("verify", place / "one")
    unharmed(world, app)
    works_after_all(world, app, place)
    server.stop()


@fault
def no_host_memory(world):
    server = world.start_server()
    app, place = start(world), place_of(world)
    worker = children_of(server.pid)[0]

    def address_space():
        with open(f"/proc/{worker}/statm") as text:
            return int(text.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")

    for words in BOTH:
        before = resource.prlimit(worker, resource.RLIMIT_AS, (address_space() + (1 << 20), resource.RLIM_INFINITY))
        result = world.control("checkpoint", app.pid, place / "one", *words, accept_failure=True)
        resource.prlimit(worker, resource.RLIMIT_AS, before)
        check(result.returncode >= 0, f"cricketctl died of a signal:\n{result.stdout}")
        if result.returncode == 0:  # it did with what it had
            world.control("verify", place / "one")
            break
        unharmed(world, app)
        empty(place)
    else:
        works_after_all(world, app, place)
    check(server.alive(), "the server ended")
    server.stop()


@fault
def worker_killed(world):
    """The session goes with its worker, which its program is told; what was saved before brings it back."""
    for words in BOTH:
        server, app, place, control = hanging_after_one(world, *words)
        os.kill(children_of(server.pid)[0], signal.SIGKILL)
        fails_without_criu(world, control, "cricketctl, whose session's worker was killed,")
        status = world.children.wait(app.pid, "the program, which is to hear of it")
        check_message(status, app.output() + app.errors.read_text(), "lost", app.describe())
        check(os.listdir(place) == ["earlier"], f"left behind: {os.listdir(place)}")
        goes_on_from(world, app, place / "earlier")
        server.stop()


@fault
def server_killed(world):
    for words in BOTH:
        server, app, place, control = hanging_after_one(world, *words)
        server.kill()
        fails_without_criu(world, control, "cricketctl, whose server was killed,")
        check(os.listdir(place) == ["earlier"], f"left behind: {os.listdir(place)}")
        check(app.alive(), f"the program did not wait for a server: {app.describe()}")
        app.kill()
        server = world.start_server()
        goes_on_from(world, app, place / "earlier")
        server.stop()


@fault
def cricketctl_killed(world):
    """At each of its steps. What was begun is not finished, or is a whole checkpoint."""
    server = world.start_server()
    place = place_of(world)
    for fault in ("kill-before", "kill-orphan", "kill-after"):
        for words in BOTH:
            app = start(world)
            done, environment = faulty(world, fault)
            result = world.control("checkpoint", app.pid, place / "one", *words, accept_failure=True, env=environment)
            check(result.returncode == -signal.SIGKILL, f"{fault}: cricketctl ended with status {result.returncode}")
            wait_for(done.exists, f"{fault} {words} to have happened")
            if (place / "one").exists():  # complete before it died: then that is what there is
                world.control("verify", place / "one")
                check(fault == "kill-after" and not words, f"{fault} {words}: a checkpoint all the same")
                world.children.wait(app.pid, "the checkpointed program")
                brought_back(world, app, place / "one")
            unharmed(world, app)
            nothing_half_made(place)
            world.control("checkpoint", app.pid, place / "one", "--leave-running")
            check(os.listdir(place) == ["one"], f"{fault} {words}: left behind: {os.listdir(place)}")
            world.control("verify", place / "one")
            app.finish()
            subprocess.run(["rm", "-r", place / "one"], check=True)
    server.stop()


@fault
def killed_anywhere(world):
    """cricketctl is killed at any moment of a checkpoint or of a restore, after a time that is longer each time until it is over before
    that. criu ends by itself, the program goes on or is whole on the disk, and nothing half-made is left."""
    server = world.start_server()
    place = place_of(world)
    for words in BOTH:
        app = start(world)
        seconds, finished = 0.0, False
        while not finished:
            finished = not killed_after(world, seconds, "checkpoint", app.pid, place / "one", *words)
            nothing_half_made(place)
            ended = not app.alive()
            if (place / "one").exists():
                world.control("verify", place / "one")
            check((place / "one").exists() or not (finished or ended), f"no checkpoint, after {seconds:.3f} s of {words}")
            if ended:
                brought_back(world, app, place / "one")
            unharmed(world, app)
            subprocess.run(["rm", "-rf", place / "one"], check=True)
            seconds = later(world, seconds)
        app.finish()

    app = start(world)
    world.control("checkpoint", app.pid, place / "one")
    world.children.wait(app.pid, "the checkpointed program")
    seconds, finished = 0.0, False
    while not finished:
        world.children.status.pop(app.pid, None)
        finished = not killed_after(world, seconds, "restore", place / "one")
        world.control("verify", place / "one")

        def decided():  # criu kills what it does not finish, and does not wait for its end
            world.children.reap()
            return not running(app.pid) or (world.session_of(app.pid) or {}).get("state") == "running"

        wait_for(decided, lambda: f"the program to run or to end; it is {stat_of(app.pid)}")
        if not running(app.pid):
            world.children.status.pop(app.pid, None)
            check(not finished, "restored, and not there")
            world.control("restore", place / "one")
        unharmed(world, app)
        app.kill()
        world.wait_state(app.pid, "parked")
        world.control("drop", app.pid)
        seconds = later(world, seconds)
    server.stop()


def killed_after(world, seconds, *words):
    """True when cricketctl was killed before it had ended. What it had started has ended when this returns."""
    said = world.folder / f"said{world.next_number()}"
    with open(said, "wb") as out:
        control = world.children.start([world.control_program, *words], stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                                       env=world.tool_environment())
    time.sleep(seconds)
    if not world.children.ended(control):
        os.kill(control, signal.SIGKILL)
    status = world.children.wait(control, "the killed cricketctl")
    check(status in (0, -signal.SIGKILL), f"cricketctl ended with status {status}: {said.read_text()}")
    place = next(word for word in words if isinstance(word, Path))

    def at_work_there():  # criu, or what is to become criu
        for entry in os.listdir("/proc"):
            try:
                command = Path(f"/proc/{entry}/cmdline").read_bytes()
                if str(place).encode() in command and b"--worker" not in command and running(int(entry)):
                    return True
            except (NotADirectoryError, FileNotFoundError, ProcessLookupError):
                continue
        return False

    wait_for(lambda: world.children.reap() or not at_work_there(), "criu, whose cricketctl was killed, to end")
    return status != 0


def nothing_half_made(place):
    """The server removes it by itself."""
    wait_for(lambda: not any(".partial-" in name for name in os.listdir(place)), lambda: f"{os.listdir(place)} to be tidied")


def brought_back(world, app, checkpoint):
    """A program that criu has ended: from its checkpoint, whose session may still be parked."""
    # Whether cricketctl came to say that it may go, or was killed before.
    wait_for(lambda: (world.session_of(app.pid) or {"state": "parked"})["state"] == "parked", "the session to be parked or gone")
    if session := world.session_of(app.pid):
        world.control("drop", session["id"], "--force", accept_failure=True)
        wait_for(lambda: not world.session_of(app.pid), "the session to go")
    world.children.status.pop(app.pid, None)
    world.control("restore", checkpoint)


@fault
def cricketctl_interrupted(world):
    server = world.start_server()
    app, place = start(world), place_of(world)
    for words in BOTH:
        control = hanging_checkpoint(world, app, place / "one", *words)
        os.kill(control, signal.SIGINT)
        fails_without_criu(world, control, "the interrupted cricketctl", signal.SIGTERM)
        unharmed(world, app)
        empty(place)
    works_after_all(world, app, place)
    server.stop()


def in_long_kernel(world):
    """A program that makes no call for a long time to come."""
    app = world.start("copies", "--steps", "0", "--mib", "8", "--rounds", "3000000000", "--quiet")
    last = [0, time.monotonic()]

    def no_calls():  # for half a second
        now = world.session_of(app.pid)
        if not now or not now["device_bytes"] or now["calls"] != last[0]:
            last[:] = [now and now["calls"], time.monotonic()]
        return time.monotonic() - last[1] > 0.5

    wait_for(no_calls, lambda: f"the kernel of {app.describe()}")
    return app


def waiting_checkpoint(world, app, place):
    """(pid, file with its words) of a cricketctl that waits for the program's kernel."""
    said = world.folder / f"said{world.next_number()}"
    with open(said, "wb") as out:
        control = world.children.start([world.control_program, "checkpoint", app.pid, place / "one", "--timeout", "600"],
                                       stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=world.tool_environment())
    wait_for(lambda: os.listdir(place) or world.children.ended(control), "the checkpoint to begin")
    return control, said


@fault
def interrupted_while_waiting(world):
    """Whoever goes away while a kernel is waited for, waits no more, and nothing of the session does: the next one has its turn."""
    server = world.start_server()
    place = place_of(world)
    app = in_long_kernel(world)
    for how in (signal.SIGINT, signal.SIGKILL):
        control, said = waiting_checkpoint(world, app, place)
        os.kill(control, how)
        status = world.children.wait(control, "cricketctl, which waited for a kernel,")
        check(status == (1 if how == signal.SIGINT else -how), f"cricketctl ended with status {status}: {said.read_text()}")
        check(how == signal.SIGKILL or "interrupted" in said.read_text(), f"it said: {said.read_text()}")
        nothing_half_made(place)
        result = world.control("checkpoint", app.pid, place / "one", "--timeout", "1", accept_failure=True)
        if result.returncode == 0:
            raise Skip("the kernel ends too soon here")
        check_message(result.returncode, result.stdout, "busy", "a checkpoint of a busy session")
        empty(place)
    check(app.alive(), "it has ended")
    app.kill()
    server.kill()


@fault
def worker_stopped(world):
    """One that says nothing is named, by its process, and not waited for; when it goes on, so does all else."""
    server = world.start_server(environment={"CRICKET_WORKER_PATIENCE": "1"})
    app, place = start(world), place_of(world)
    worker = children_of(server.pid)[0]
    words = ["unresponsive", "does not answer"]
    with stopped(worker):
        world.wait_state(app.pid, "unresponsive")
        for command in (["checkpoint", app.pid, place / "one"], ["checkpoint", app.pid, place / "one", "--dry-run"]):
            world.refused(*command, naming=words)
        world.refused("quiesce", app.pid, naming=[str(worker), "does not answer"])
        empty(place)
    unharmed(world, app)
    for words in BOTH:  # in the middle of it
        control = hanging_checkpoint(world, app, place / "one", *words)
        with stopped(worker):
            fails_without_criu(world, control, "cricketctl, whose session's worker was stopped,")
            check(not (place / "one").exists(), "there is a checkpoint")
        unharmed(world, app)
        nothing_half_made(place)
        empty(place)
    works_after_all(world, app, place)

    app = in_long_kernel(world)
    worker = next(child for child in children_of(server.pid) if child != worker)
    control, said = waiting_checkpoint(world, app, place_of(world))
    with stopped(worker):
        status = world.children.wait(control, "cricketctl, which waited for a worker that was stopped meanwhile,")
        check_message(status, said.read_text(), [str(worker), "does not answer"], "cricketctl")
    wait_for(lambda: (world.session_of(app.pid) or {}).get("state") == "running", "the session to run")
    app.kill()
    server.kill()


class stopped:
    def __init__(self, pid):
        self.pid = pid

    def __enter__(self):
        os.kill(self.pid, signal.SIGSTOP)

    def __exit__(self, *_):
        os.kill(self.pid, signal.SIGCONT)


@fault
def timeout(world):
    """A kernel that does not end in time: nothing is done."""
    server = world.start_server()
    place = place_of(world)
    app = in_long_kernel(world)
    refused = 0
    for _ in range(5):
        result = world.control("checkpoint", app.pid, place / "one", "--timeout", "1", accept_failure=True)
        if result.returncode == 0:
            raise Skip("the kernel ends too soon here")
        check_message(result.returncode, result.stdout, "busy", "a checkpoint of a busy session")
        empty(place)
        wait_for(lambda: (world.session_of(app.pid) or {}).get("state") == "running", "the session to run")
        refused += 1
    check(refused == 5 and app.alive(), "it has ended")
    app.kill()
    server.kill()


@fault
def timeout_capture(world):
    """A capture that does not end in time: the program goes on with it, and is saved when it has ended."""
    server = world.start_server()
    place = place_of(world)
    app = world.start_program([world.build / "tests/checkpoint/capturing"])
    wait_for(lambda: "capturing" in app.output() or not app.alive(), lambda: f"the capture of {app.describe()}")
    for words in BOTH:
        began = time.monotonic()
        result = world.control("checkpoint", app.pid, place / "one", "--timeout", "1", *words, accept_failure=True)
        check_message(result.returncode, result.stdout, ["captured", "1000 ms"], "a checkpoint of a session with a capture")
        check(time.monotonic() - began > 1, "it did not wait for the capture")
        empty(place)
        unharmed(world, app)
    os.kill(app.pid, signal.SIGUSR1)
    wait_for(lambda: "captured" in app.output() or not app.alive(), lambda: f"the end of the capture of {app.describe()}")
    works_after_all(world, app, place)
    server.stop()


@fault
def blocked_call(world):
    """A call that does not come back from the driver: nobody waits longer than was said, and a server that is to end ends."""
    server = world.start_server()
    place = place_of(world)

    def blocked():
        app = world.start_program([world.build / "tests/checkpoint/blocked"])
        wait_for(lambda: "blocked" in app.output() or not app.alive(), lambda: f"the call of {app.describe()}")
        return app

    app = blocked()
    for command in (["checkpoint", app.pid, place / "one", "--timeout", "1"], ["quiesce", app.pid, "--timeout", "1"]):
        result = world.control(*command, accept_failure=True)
        check_message(result.returncode, result.stdout, "1000 ms", "what waits for a call that does not come back")
    empty(place)
    os.kill(app.pid, signal.SIGUSR1)
    app.finish(stop=False)

    app = blocked()
    began = time.monotonic()
    server.stop()
    check(time.monotonic() - began < 50, "the server waited for the call")
    app.kill()


@fault
def failed_restores(world):
    """criu fails, cricketctl dies, the server has the session already: the checkpoint stays, and can be tried again."""
    server = world.start_server()
    app, place = start(world), place_of(world)
    world.control("checkpoint", app.pid, place / "one")
    world.children.wait(app.pid, "the checkpointed program")
    done, environment = faulty(world, "refuse-restore")
    for _ in range(2):
        result = world.control("restore", place / "one", accept_failure=True, env=environment)
        check_message(result.returncode, result.stdout, "told to fail", "a restore without criu")
        check(world.sessions() == [], f"the failed restore left {world.sessions()}")
        world.control("verify", place / "one")
    for fault in ("kill-before-restore", "kill-after-restore"):
        done, environment = faulty(world, fault)
        result = world.control("restore", place / "one", accept_failure=True, env=environment)
        check(result.returncode == -signal.SIGKILL, f"cricketctl ended with status {result.returncode}")
        wait_for(done.exists, "the fault")
        world.control("verify", place / "one")
        if fault == "kill-before-restore":  # the session that it loaded serves the next attempt
            world.wait_state(app.pid, "parked")
    world.children.status.pop(app.pid, None)
    unharmed(world, app)  # the last had done it all
    world.refused("restore", place / "one", naming="drop")
    unharmed(world, app)
    app.finish()
    server.stop()


def test(world, arguments):
    world.criu
    for name in arguments.names or [name for name in FAULTS if name not in arguments.but]:
        try:
            FAULTS[name](world)
            print(f"{name}: nothing was lost", flush=True)
        except Skip as skip:
            if arguments.names == [name]:
                raise
            print(f"{name}: not tried, {skip}", flush=True)


def add_arguments(parser):
    parser.add_argument("names", nargs="*", choices=[[], *FAULTS], help="all, when none is named")
    parser.add_argument("--but", action="append", default=[], choices=[*FAULTS], help="not this one, when none is named")


main(__doc__, test, add_arguments)
