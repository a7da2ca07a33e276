#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""One program of several processes, each with a session of its own: one checkpoint holds them all, of the same moment, and brings
them all back, or none."""
import json
import os
import shlex
import signal
import subprocess
import sys

from harness import HERE, check, check_message, children_of, losses, main_of_parts, there_and_back, wait_for


def programs_of(world):
    return {session["pid"]: session for session in world.sessions()}


class Pair:
    """Two programs under a script, each with a file for its output."""

    def __init__(self, world, *commands):
        self.world = world
        self.outputs = [world.folder / f"output{world.next_number()}" for _ in commands]
        words = [f"{shlex.join(map(str, command))} > {output} 2>&1 &" for command, output in zip(commands, self.outputs)]
        self.script = world.start_program(["/bin/sh", "-c", " ".join(words) + " wait"])
        wait_for(lambda: self.at_work() or not self.script.alive(), lambda: f"both to work; {self.describe()}")

    def at_work(self, more=30):
        sessions = self.world.sessions()
        return len(sessions) == len(self.outputs) and all(one["state"] == "running" and one["calls"] > more for one in sessions)

    def goes_on(self):
        wait_for(lambda: self.at_work(), lambda: f"both to run; {self.describe()}")
        before = programs_of(self.world)
        wait_for(lambda: all(one["calls"] > before[one["pid"]]["calls"] for one in self.world.sessions()), lambda: f"calls; {self.describe()}")

    def describe(self):
        return f"{self.world.sessions()}, {[output.read_text()[-500:] for output in self.outputs if output.exists()]}"

    def ended(self):
        self.world.children.wait(self.script.pid, "the script")
        check(self.world.sessions() == [], f"sessions are left: {self.world.sessions()}")

    def restore(self, folder):
        self.world.children.status.pop(self.script.pid, None)
        said = self.world.control("restore", folder).stdout
        check(said.count("restored from") == len(self.outputs), said)

    def group_there(self):
        try:
            os.killpg(self.script.pid, 0)
            return True
        except ProcessLookupError:
            return False

    def kill(self):
        for pid in programs_of(self.world):
            os.kill(pid, signal.SIGKILL)
        self.script.kill()
        wait_for(lambda: self.world.children.reap() or not self.group_there(), "the script's programs to be gone")
        wait_for(lambda: all(one["state"] == "parked" for one in self.world.sessions()), "the sessions to be parked")
        for one in self.world.sessions():
            self.world.control("drop", one["id"])


def counters(world):
    counter = [world.build / "examples/counter", "--steps", "0", "--quiet"]
    return Pair(world, counter, counter)


def right(world):
    """Ended, brought back by another server, and finished as if nothing had been."""
    server = world.start_server()
    steps = [3000, 2000]
    pair = Pair(world, *([world.build / "examples/train", "--steps", count] for count in steps))
    folder = world.folder / "right"
    said = world.control("checkpoint", pair.script.pid, folder).stdout
    check(said.count("saved in") == 2, said)
    pair.ended()
    check({"gpu", "gpu-2"} <= set(os.listdir(folder)), f"it holds {os.listdir(folder)}")
    said = world.control("verify", folder).stdout
    check("train and train" in said, said)
    server.stop()
    server = world.start_server()
    pair.restore(folder)
    check(world.children.wait(pair.script.pid, "the script") == 0, pair.describe())
    for count, output in zip(steps, pair.outputs):
        undisturbed = world.start("train", "--steps", count).finish(stop=False)
        check(losses(output.read_text()) == losses(undisturbed), f"the losses of {count} steps are not those of an undisturbed run")
        check(output.read_text().splitlines()[-1] == undisturbed.splitlines()[-1], output.read_text()[-200:])
    server.stop()


def series(world):
    """Left running, again and again: each session shares with its own past. What is asked beforehand is of both."""
    server = world.start_server()
    state = [world.build / "examples/state", "--steps", "0", "--quiet"]  # 4 MiB of its memory never change
    pair = Pair(world, state, [world.build / "examples/copies", "--steps", "0", "--mib", "2", "--quiet"])
    row = world.folder / "row"
    row.mkdir()
    for number in range(3):
        before = programs_of(world)
        world.control("checkpoint", pair.script.pid, row / str(number), "--leave-running", "--series")
        check(set(before) == set(programs_of(world)), f"sessions before: {before}, now {programs_of(world)}")
        pair.goes_on()
        world.control("verify", row / str(number))
        for folder in ("gpu", "gpu-2"):
            manifest = json.loads((row / str(number) / folder / "manifest.json").read_text())
            if number:
                last = json.loads((row / str(number - 1) / folder / "manifest.json").read_text())
                check(manifest["session"] == last["session"], f"{folder} of {number} is of another session than the one before")
    name = next(one["id"] for one in world.sessions() if one["program"] == "state")
    check("compared" in world.control("verify", "--live", name, row / "2", accept_failure=True).stdout, "verify --live took no notice")
    asked = json.loads(world.control("checkpoint", pair.script.pid, row / "3", "--dry-run", "--json").stdout)
    check(len(asked["sessions"]) == 2 == len(asked["surveys"]), f"{asked}")
    check(asked["bytes"]["device"] == sum(device["bytes"] + device["arrays"] + device["variables"]
                                          for one in asked["surveys"] for device in one["devices"]), f"{asked}")
    pair.kill()
    pair.restore(row / "2")
    pair.goes_on()
    pair.kill()
    server.stop()


def refused(world):
    """What is wrong with one is wrong with all: nothing is stopped, or begun, that does not go on or go away."""
    server = world.start_server()
    pair = counters(world)
    folder = world.folder / "whole"
    some = next(iter(programs_of(world)))
    world.control("quiesce", some)
    world.refused("checkpoint", pair.script.pid, folder, naming=[f"pid {some})", "quiesced"])
    world.control("resume", some)
    pair.goes_on()
    check(not folder.exists(), "a refused checkpoint left something")

    pair.kill()  # and one that cannot be saved
    heap = Pair(world, [world.build / "examples/counter", "--steps", "0", "--quiet"], [world.build / "examples/heap", "--steps", "0"])
    wait_for(lambda: world.control("checkpoint", heap.script.pid, folder, "--dry-run", accept_failure=True).returncode, "a kernel that calls malloc()")
    result = world.control("checkpoint", heap.script.pid, folder, accept_failure=True)
    check_message(result.returncode, result.stdout, ["(heap, pid", "malloc"], "a checkpoint of two, one of which cannot be saved")
    heap.goes_on()
    check(not folder.exists(), "a refused checkpoint left something")
    heap.kill()

    pair = counters(world)
    world.control("checkpoint", pair.script.pid, folder)
    pair.ended()
    pack = max((folder / "gpu-2").iterdir(), key=lambda path: path.stat().st_size)
    content = pack.read_bytes()
    pack.write_bytes(content[:-1])
    world.refused("verify", folder, naming=str(pack))
    world.refused("restore", folder, naming=str(pack))
    check(world.sessions() == [], f"the refused restore left {world.sessions()}")
    pack.write_bytes(content)
    pair.restore(folder)
    pair.goes_on()
    pair.kill()
    server.stop()


def busy(world):
    """They stop at the same time, also where one must be waited for: meanwhile the other goes on."""
    server = world.start_server()
    pair = Pair(world, [world.build / "examples/counter", "--steps", "0", "--quiet"],
                [world.build / "examples/copies", "--steps", "0", "--mib", "1", "--rounds", "30000000", "--quiet"])
    for _ in range(3):
        world.control("checkpoint", pair.script.pid, world.folder / "busy", "--leave-running")
        pair.goes_on()
    pair.kill()
    server.stop()


def one_by_one(world):
    """A checkpoint as they were when they held one session is read."""
    server = world.start_server()
    app = world.start("counter", "--steps", "0", "--quiet")
    wait_for(lambda: (world.session_of(app.pid) or {"calls": 0})["calls"] > 30, "calls")
    folder = world.folder / "older"
    world.control("checkpoint", app.pid, folder)
    world.children.wait(app.pid, "the program")
    (folder / "cricket.json").rename(world.folder / "newer.json")
    result = world.run([world.build / "tests/checkpoint/to_format1", world.folder / "newer.json", folder / "cricket.json"])
    check(result.returncode == 0, f"to_format1 failed: {result.stdout}")
    check(json.loads((folder / "cricket.json").read_text())["format"] == 1, "it is not of format 1")
    world.control("verify", folder)
    world.children.status.pop(app.pid, None)
    world.control("restore", folder)
    app.finish()
    server.stop()


def run(world):
    """The same under cricketctl run: told to stop, and begun again; with a lock of which criu must be told."""
    folder = world.folder / "job"
    outputs = [world.folder / f"train{count}" for count in (3000, 2000)]
    script = f"exec 9> {world.folder}/lock; flock 9; " + " ".join(f"{world.build}/examples/train --steps {count} > {output} &" for count, output in zip((3000, 2000), outputs)) + " wait"
    words = [world.control_program, "run", folder, "--driver", world.driver, "--criu-option=--file-locks", "--", "/bin/sh", "-c", script]

    said = world.folder / "job.said"

    def begin():
        with open(said, "ab") as file:
            return world.children.start(list(map(str, words)), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=file,
                                        start_new_session=True, env=world.tool_environment())

    job = begin()
    wait_for(lambda: all(output.exists() and len(losses(output.read_text())) > 50 for output in outputs), "both to be at work")
    os.kill(job, signal.SIGTERM)
    check(world.children.wait(job, "cricketctl run") == 75, f"it was not saved: {said.read_text()}")
    saved = [len(losses(output.read_text())) for output in outputs]
    check(all(count < total for count, total in zip(saved, (3000, 2000))), f"they had ended: {saved}")
    check(not children_of(os.getpid()), "something is left")
    check(world.children.wait(begin(), "cricketctl run, once more", 300) == 0, f"it has not ended well: {said.read_text()}")
    server = world.start_server()
    for count, output in zip((3000, 2000), outputs):
        check(losses(output.read_text()) == losses(world.start("train", "--steps", count).finish(stop=False)), f"the losses of {count} steps")
    server.stop()


def ranks(world):
    """Processes that wait for each other in every step: away and back twice, and the sums are those of an undisturbed run."""
    command = [sys.executable, HERE / "ranks.py", 1500 if world.driver == "soft" else 10000]
    server = world.start_server()
    app = world.start_program(command)
    for number in range(2):
        before = app.output()
        wait_for(lambda: app.output() > before or not app.alive(), lambda: f"steps of {app.describe()}")
        check(len(world.sessions()) == 3, f"sessions: {world.sessions()}")
        server = there_and_back(world, app, server, world.folder / f"ranks{number}")
    disturbed = app.finish(stop=False, patience=300)
    check(disturbed == world.start_program(command).finish(stop=False, patience=300), f"not as undisturbed: {disturbed}")
    server.stop()


PARTS = {"right": right, "series": series, "refused": refused, "busy": busy, "one-by-one": one_by_one, "ranks": ranks, "run": run}


main_of_parts(__doc__, PARTS, "done", needs_criu=True)
