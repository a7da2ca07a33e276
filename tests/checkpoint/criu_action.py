#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""cricketctl as criu's action script: criu dump and criu restore alone do the whole thing, ending the program or not; halves that do
not belong together are refused before criu begins; what cannot be saved leaves the program running. With pre-dump
iterations where the kernel tracks memory."""
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

from harness import at_work, check, check_message, children_of, free_tcp_address, later, main, running, wait_for


def start(world, name, *options):
    app = world.start(name, "--steps", "0", "--quiet", *options)
    wait_for(lambda: (world.session_of(app.pid) or {"calls": 0})["calls"] > 100, lambda: f"calls of {app.describe()}")
    return app


def criu(world, *words):
    """With the script alone; the socket is in criu's environment."""
    return world.run([world.criu, *words, "--action-script", world.control_program], env=world.tool_environment() |
                     {"CRICKET_SOCKET": str(world.socket)})


def dump(world, app, images, *options, ends=True):
    images.mkdir(exist_ok=True)
    result = criu(world, "dump", "-t", app.pid, "-D", images, *options)
    check(result.returncode == 0, f"criu dump failed:\n{result.stdout[-3000:]}")
    if ends:
        world.children.wait(app.pid, "the dumped program")
        wait_for(lambda: world.session_of(app.pid) is None, "the session of the dumped program to go")


def restore(world, app, images):
    world.children.status.pop(app.pid, None)
    result = criu(world, "restore", "-d", "-D", images)
    check(result.returncode == 0, f"criu restore failed:\n{result.stdout[-3000:]}")
    at_work(world, app)


def refused(world, images, naming):
    result = criu(world, "restore", "-d", "-D", images)
    check_message(result.returncode, result.stdout, naming, f"criu restore of {images}")
    check(world.sessions() == [], f"the refused restore left {world.sessions()}")


def cycles_of(example):
    def cycles(world):
        server = world.start_server()
        app = start(world, example)

        # Ended, and brought back by the same server and by another, each time from the last.
        for cycle in range(4):
            images = world.folder / f"{example}{cycle}"
            dump(world, app, images)
            if cycle % 2:
                server.kill()
                server = world.start_server()
            world.control("verify", images)
            restore(world, app, images)

        # Left running: nothing is noticed. Killed later, the older state comes back.
        images = world.folder / f"{example}-left"
        dump(world, app, images, "--leave-running", ends=False)
        at_work(world, app)
        app.kill()
        server.kill()
        server = world.start_server()
        restore(world, app, images)
        app.finish()
        server.stop()

    return cycles


def mixed_and_refused(world):
    # Two dumps of one program do not mix, and a damaged half is found before criu begins.
    server = world.start_server()
    app = start(world, "counter")
    first, second = world.folder / "first", world.folder / "second"
    dump(world, app, first, "--leave-running", ends=False)
    dump(world, app, second)
    folder = next(path.name for path in first.iterdir() if path.name.startswith("cricket-") and path.is_dir())
    shutil.move(second / folder, world.folder / "put-aside")
    shutil.copytree(first / folder, second / folder)
    refused(world, second, ["epoch"])
    shutil.rmtree(second / folder)
    refused(world, second, [folder])
    shutil.move(world.folder / "put-aside", second / folder)
    restore(world, app, second)

    # The server is not there, or the worker fails: criu fails and the program goes on.
    images = world.folder / "failed"
    images.mkdir()
    result = world.run([world.criu, "dump", "-t", app.pid, "-D", images, "--action-script", world.control_program],
                       env=world.tool_environment() | {"CRICKET_SOCKET": str(world.folder / "nobody.sock")})
    check_message(result.returncode, result.stdout, "nobody.sock", "a dump without a server")
    at_work(world, app)
    (images / f"{folder}").write_text("in the way")
    result = criu(world, "dump", "-t", app.pid, "-D", images)
    check_message(result.returncode, result.stdout, folder, "a dump onto something else")
    at_work(world, app)
    app.finish()

    # A shell whose child has the GPU: the whole tree is looked at.
    app = world.start_program(["/bin/sh", "-c", f"{world.build}/examples/counter --steps 0 --quiet; exit $?"])
    child = wait_for(lambda: next(iter(children_of(app.pid)), None), "the shell's child")
    wait_for(lambda: (world.session_of(child) or {"calls": 0})["calls"] > 100, lambda: f"calls of {app.describe()}")
    images = world.folder / "tree"
    images.mkdir()
    result = criu(world, "dump", "-t", app.pid, "-D", images)
    check(result.returncode == 0, f"criu dump failed:\n{result.stdout[-3000:]}")
    world.children.wait(app.pid, "the dumped shell")
    server.kill()
    server = world.start_server()
    world.children.status.pop(app.pid, None)
    result = criu(world, "restore", "-d", "-D", images)
    check(result.returncode == 0, f"criu restore failed:\n{result.stdout[-3000:]}")
    wait_for(lambda: (world.session_of(child) or {"calls": 0})["state"] == "running", "the restored child's session")
    before = world.session_of(child)["calls"]
    wait_for(lambda: world.session_of(child)["calls"] > before + 50, "calls of the restored child")
    os.kill(child, 15)
    check(world.children.wait(app.pid, "the shell") == 0, app.describe())
    server.stop()


def iterations(world):
    """Memory copied while the program runs, and only what changed since with the last dump."""
    if world.run([world.criu, "check", "--feature", "mem_dirty_track"]).returncode != 0:
        print("pre-dump iterations: not tried, this kernel does not track memory (criu check --feature mem_dirty_track)")
        return
    server = world.start_server()
    app = start(world, "copies", "--mib", "4")
    before = None
    for number in range(3):
        images = world.folder / f"iteration{number}"
        images.mkdir()
        previous = ["--prev-images-dir", f"../iteration{number - 1}"] if number else []
        if number < 2:
            result = world.run([world.criu, "pre-dump", "-t", app.pid, "-D", images, "--track-mem", *previous])
            check(result.returncode == 0, f"criu pre-dump failed:\n{result.stdout[-3000:]}")
            at_work(world, app)
        else:
            dump(world, app, images, "--track-mem", *previous)
    server.kill()
    server = world.start_server()
    restore(world, app, images)
    app.finish()
    server.stop()
    print("pre-dump iterations: done")


def page_server(world):
    """The pages go over the network to another folder, the rest and the sessions' part are brought there afterwards: with the action
    script, and of a program that is parked without it."""
    for script in (True, False):
        server = world.start_server()
        app = start(world, "copies", "--mib", "4")
        there, here = world.folder / f"there{script}", world.folder / f"here{script}"
        there.mkdir()
        here.mkdir()
        address = free_tcp_address().rsplit(":", 1)
        port = ["--address", "127.0.0.1", "--port", address[1]]
        pages = world.children.start([world.criu, "page-server", "-D", there, *port], stdin=subprocess.DEVNULL,
                                     stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        listening = f":{int(address[1]):04X} "
        wait_for(lambda: any(listening in line and " 0A " in line for line in Path("/proc/net/tcp").read_text().splitlines()),
                 "criu page-server to listen")
        words = ["dump", "-t", app.pid, "-D", here, "--page-server", *port]
        result = criu(world, *words) if script else world.run([world.criu, *words])
        check(result.returncode == 0, f"criu {words} failed:\n{result.stdout[-3000:]}")
        world.children.wait(app.pid, "the dumped program")
        check(world.children.wait(pages, "criu page-server") == 0, "criu page-server failed")
        check(list(there.glob("pages-*.img")) and not list(here.glob("pages-*.img")), "the pages took another way")
        shutil.copytree(here, there, dirs_exist_ok=True)
        shutil.rmtree(here)
        if script:
            wait_for(lambda: world.session_of(app.pid) is None, "the session of the dumped program to go")
            server.kill()
            server = world.start_server()
            world.control("verify", there)
            restore(world, app, there)
        else:
            world.wait_state(app.pid, "parked")
            world.children.status.pop(app.pid, None)
            result = world.run([world.criu, "restore", "-d", "-D", there])
            check(result.returncode == 0, f"criu restore failed:\n{result.stdout[-3000:]}")
            at_work(world, app)
        app.finish()
        server.stop()


class Driven:
    """A criu with the action script that the test can stop and kill."""

    def __init__(self, world, *words):
        self.world, self.words = world, words
        self.log = world.folder / f"criu{world.next_number()}.log"
        with open(self.log, "wb") as out:
            self.pid = world.children.start([world.criu, *words, "--action-script", world.control_program], stdin=subprocess.DEVNULL,
                                            stdout=out, stderr=out, env=world.tool_environment() | {"CRICKET_SOCKET": str(world.socket)})

    def script(self, stage):
        """The process that is the script at this stage; None when criu ended without."""

        def found():
            for child in children_of(self.pid):
                try:
                    if f"CRTOOLS_SCRIPT_ACTION={stage}".encode() in Path(f"/proc/{child}/environ").read_bytes().split(b"\0") and \
                            os.readlink(f"/proc/{child}/exe") == str(self.world.control_program):
                        return child
                except OSError:
                    continue
            return self.world.children.ended(self.pid) and -1

        script = wait_for(found, lambda: f"the script at {stage}: {self.log.read_text()}")
        return script if script > 0 else None

    def ended(self):
        return self.world.children.wait(self.pid, f"criu {self.words[0]}: {self.log.read_text()}")


def kill(pid):
    """False when there is nothing to kill any more."""
    if not pid or not running(pid):
        return False
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: not running(pid), f"the killed process {pid} to end")
    return True


def parts_in(images):
    return [path for path in images.iterdir() if path.name.startswith("cricket-") and path.is_dir()]


def goes_on_without(world, app, images):
    """After a dump that was not finished: the program runs, nothing of its session is left, and nobody takes the rest for a dump."""
    at_work(world, app)
    wait_for(lambda: not parts_in(images), lambda: f"{parts_in(images)} to be removed")
    if (images / "cricket-sessions.json").exists():
        world.refused("verify", images, naming="not finished")


def goes_on(world, app):
    """After criu was killed. What it had killed just before is there for a moment still, and its session quiesced."""
    wait_for(lambda: not app.alive() or (world.session_of(app.pid) or {}).get("state") == "running", lambda: f"{app.describe()} to go on, or to end")
    return app.alive()


def begin_dump(world, app, options):
    """A dump whose script is at work: its folder, criu, and the script."""
    images = world.folder / f"killed{world.next_number()}"
    images.mkdir()
    criu = Driven(world, "dump", "-t", app.pid, "-D", images, *options)
    return images, criu, criu.script("post-dump")


def killed(world):
    """The script, or criu itself, is killed at any moment of the script's work, after a time that is longer each time until it is over
    before that: the program goes on and nothing is left, or it has ended and is whole on the disk."""
    server = world.start_server()
    app = start(world, "copies", "--mib", "12")
    count = {"script": 0, "criu": 0}

    for options in (["--leave-running"], []):
        for victim in count:
            seconds, over = 0.0, False
            while not over:
                images, criu, script = begin_dump(world, app, options)
                time.sleep(seconds)
                over = not kill(script if victim == "script" else criu.pid)
                count[victim] += not over
                status = criu.ended()
                wait_for(lambda: not running(script), "the script to end")
                world.children.reap()
                if options and (status == 0 or parts_in(images)):
                    at_work(world, app)  # complete, and it was to go on
                    if status:  # killed when all was done, or before: then it is as it was to be, or goes
                        wait_for(lambda: not parts_in(images) or world.control("verify", images, accept_failure=True).returncode == 0,
                                 "the rest of a dump to be removed")
                elif goes_on(world, app):
                    check(status != 0, f"criu says that the dump is done, and the program goes on: {criu.log.read_text()}")
                    goes_on_without(world, app, images)
                else:  # criu had decided already
                    wait_for(lambda: world.session_of(app.pid) is None, "the session of the dumped program to go")
                    world.control("verify", images)
                    restore(world, app, images)
                shutil.rmtree(images)
                seconds = later(world, seconds)

    # Between the script's end and what criu makes of it.
    for options, left in (([], False), (["--leave-running"], True)):
        images, criu, script = begin_dump(world, app, options)
        os.kill(criu.pid, signal.SIGSTOP)
        wait_for(lambda: not running(script), "the script to end")
        check(world.session_of(app.pid)["state"] == "quiesced", f"criu has not let it go, and its session is {world.session_of(app.pid)}")
        os.kill(criu.pid, signal.SIGKILL)
        criu.ended()
        if left:  # it was to go on, and does
            at_work(world, app)
            world.control("verify", images)
        else:
            goes_on_without(world, app, images)

    app.finish()
    server.stop()
    print(f"killed: the script {count['script']} times, criu {count['criu']} times", flush=True)


def end_what_criu_began(world, server):
    """What a killed criu had begun came to us."""
    for child in children_of(os.getpid()):
        if child != server.pid and running(child):
            os.kill(child, signal.SIGKILL)
            world.children.wait(child, "what criu had begun")


def drop_parked(world, app):
    """After a restore that was killed when its program was there, which is not any more."""
    wait_for(lambda: (world.session_of(app.pid) or {"state": "parked"})["state"] == "parked", "the session to be parked")
    for session in world.sessions():
        world.control("drop", session["id"], accept_failure=True)


def killed_restore(world):
    """The same on the way back: the program is restored, or what was loaded for it goes and the next attempt works."""
    server = world.start_server()
    app = start(world, "copies", "--mib", "12")
    images = world.folder / "images"
    dump(world, app, images)
    count = {"script": 0, "criu": 0}
    for victim in count:
        seconds, over = 0.0, False
        while not over:
            world.children.status.pop(app.pid, None)
            criu = Driven(world, "restore", "-d", "-D", images)
            script = criu.script("pre-restore")
            time.sleep(seconds)
            over = not kill(script if victim == "script" else criu.pid)
            count[victim] += not over
            status = criu.ended()
            wait_for(lambda: not running(script), "the script to end")
            if status == 0:
                at_work(world, app)
            lives = running(app.pid)  # killed so late, criu may have restored it
            end_what_criu_began(world, server)
            check(status != 0 or lives, f"restored, and not there: {app.describe()}")
            if lives:
                drop_parked(world, app)
            wait_for(lambda: not world.sessions(), lambda: f"the sessions of the failed restore to go: {world.sessions()}")
            world.control("verify", images)
            seconds = later(world, seconds, 0.02)
    restore(world, app, images)
    app.finish()
    server.stop()
    print(f"killed: the script {count['script']} times, criu {count['criu']} times", flush=True)


def at_once(world):
    """Restored while the server is still giving back what the session had: after the dump, and after a restore that was killed."""
    server = world.start_server()
    app = start(world, "copies", "--mib", "12")
    images, dumping, script = begin_dump(world, app, [])
    os.kill(dumping.pid, signal.SIGSTOP)
    wait_for(lambda: not running(script), "the script to end")
    worker = children_of(server.pid)[0]
    os.kill(worker, signal.SIGSTOP)
    os.kill(dumping.pid, signal.SIGCONT)
    check(dumping.ended() == 0, f"criu dump failed: {dumping.log.read_text()}")
    world.children.wait(app.pid, "the dumped program")
    world.children.status.pop(app.pid, None)
    restoring = Driven(world, "restore", "-d", "-D", images)
    restoring.script("pre-restore")
    check(world.session_of(app.pid) is not None, "the session was gone before anybody asked for it")
    os.kill(worker, signal.SIGCONT)
    check(restoring.ended() == 0, f"criu restore failed: {restoring.log.read_text()}")
    at_work(world, app)

    shutil.rmtree(images)
    dump(world, app, images)
    seconds, killed_ones, over = 0.0, 0, False
    while not over:
        world.children.status.pop(app.pid, None)
        killed_one = Driven(world, "restore", "-d", "-D", images)
        killed_one.script("pre-restore")
        time.sleep(seconds)
        over = not kill(killed_one.pid)
        killed_ones += not over
        if killed_one.ended() != 0:
            lives = running(app.pid)
            end_what_criu_began(world, server)
            if lives:
                drop_parked(world, app)
            restore(world, app, images)
        seconds = later(world, seconds, 0.02)
        if not over:
            at_work(world, app)
            shutil.rmtree(images)
            dump(world, app, images)
    at_work(world, app)
    app.finish()
    server.stop()
    print(f"at once: criu was killed {killed_ones} times", flush=True)


PARTS = {example: cycles_of(example) for example in ("counter", "streams", "state")}
PARTS |= {"mixed": mixed_and_refused, "page-server": page_server, "iterations": iterations, "killed": killed,
          "killed-restore": killed_restore, "at-once": at_once}


def test(world, arguments):
    world.criu
    for name in arguments.parts or PARTS:
        PARTS[name](world)


main(__doc__, test, lambda parser: parser.add_argument("parts", nargs="*", choices=[[], *PARTS], help="all, when none is named"))
