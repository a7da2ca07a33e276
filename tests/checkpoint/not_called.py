#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""A program that was restored and has not called CUDA since: its session is parked, and it is there. Each way to save it saves both,
as often as one likes, and so does a server that ends in order; what comes to its session meanwhile waits."""
import json
import os
import shutil
import signal
import subprocess

from harness import check, children_of, main_of_parts, wait_for
from kinds_program import Program

KINDS = ["pointers", "host-memory", "graph-executable"]


def restored(world, *options):
    """A server with these options, and a program that cricketctl has just restored there."""
    server = world.start_server()
    program = Program(world, KINDS)
    folder = world.folder / "first"
    world.control("checkpoint", program.pid, folder)
    return replaced(world, server, program, folder, *options), program


def replaced(world, server, program, folder, *options, calling=False):
    wait_for(program.ended, "the saved program to end")
    server.kill()
    server = world.start_server(*options)
    program.adopt()
    world.control("restore", folder)
    check(calling or world.session_of(program.pid)["state"] == "parked", "it has called CUDA")
    return server


def finish(program, server):
    program.look()
    program.app.finish()
    server.stop()


def checkpointed(world):
    server, program = restored(world)
    text = world.control("checkpoint", program.pid, world.folder / "tried", "--dry-run").stdout
    check("pinned" not in text or "saved with the program" in text, text)
    for number in range(2):
        folder = world.folder / f"again{number}"
        world.control("checkpoint", program.pid, folder, "--leave-running")
        world.control("verify", folder)
        ended = world.folder / f"ended{number}"
        world.control("checkpoint", program.pid, ended, "--base", folder)
        server = replaced(world, server, program, ended)
    finish(program, server)

    # Of a snapshot of the session that a plain dump parked: the session has the newest host memory, also when saved once more.
    server = world.start_server()
    program = Program(world, KINDS)
    program.app.dump(world.folder / "images")
    world.wait_state(program.pid, "parked")
    program.app.restore(world.folder / "images")
    for dry in (["--dry-run"], []):
        world.refused("checkpoint", program.pid, world.folder / "without", "--without-gpu", *dry, naming=["host memory"])
    world.control("checkpoint", program.pid, world.folder / "plain")
    finish(program, replaced(world, server, program, world.folder / "plain"))


def without_gpu(world):
    server, program = restored(world)
    folder = world.folder / "without"
    world.control("checkpoint", program.pid, folder, "--without-gpu")
    server = replaced(world, server, program, folder)
    program.app.kill()
    server.stop()


def held(world):
    server, program = restored(world)
    session = world.session_of(program.pid)["id"]
    world.control("quiesce", session)
    program.begin_look()
    world.control("snapshot", session, world.folder / "snapshot")
    world.refused("drop", session, naming=[str(program.pid), "next CUDA call"])
    check(not program.looked.exists() and world.session_of(program.pid)["state"] == "parked", "it came to its session, which is held")
    world.control("resume", session)
    program.end_look()

    # Saved while it waits for its session.
    world.control("checkpoint", program.pid, world.folder / "second")
    server = replaced(world, server, program, world.folder / "second")
    session = world.session_of(program.pid)["id"]
    world.control("quiesce", session)
    program.begin_look()
    world.control("checkpoint", program.pid, world.folder / "third")
    server = replaced(world, server, program, world.folder / "third", calling=True)
    program.end_look()
    finish(program, server)


def kept(world):
    """However long a program does without CUDA, its session is not dropped; that of one that vanished is."""
    server, program = restored(world, "--park-timeout", "1")
    vanished = world.start("counter", "--steps", "0", "--quiet")
    wait_for(lambda: (world.session_of(vanished.pid) or {"calls": 0})["calls"] > 100, lambda: f"calls of {vanished.describe()}")
    vanished.kill()
    world.wait_state(vanished.pid, "parked")
    wait_for(lambda: world.session_of(vanished.pid) is None, "the parked session to be dropped")
    check(world.session_of(program.pid)["state"] == "parked", "it has called CUDA")
    finish(program, server)


def criu_action(world):
    """criu with cricketctl as its action script."""
    server, program = restored(world)
    environment = world.tool_environment() | {"CRICKET_SOCKET": str(world.socket)}

    def criu(*words):
        result = world.run([world.criu, *words, "--action-script", world.control_program], env=environment)
        check(result.returncode == 0, f"criu {words[0]} failed:\n{result.stdout[-3000:]}")

    for options in (["--leave-running"], [], []):
        images = world.folder / "images"
        shutil.rmtree(images, ignore_errors=True)
        images.mkdir()
        criu("dump", "-t", program.pid, "-D", images, *options)
        check(len(json.loads((images / "cricket-sessions.json").read_text())["sessions"]) == 1, "its session is not in the dump")
        if options:
            check(world.session_of(program.pid)["state"] == "parked", "it was to go on as it was")
            continue
        wait_for(program.ended, "the dumped program to end")
        wait_for(lambda: world.session_of(program.pid) is None, "the session of the dumped program to go")
        server.kill()
        server = world.start_server()
        program.adopt()
        criu("restore", "-d", "-D", images)
    finish(program, server)


def run(world):
    """cricketctl run, told to stop as soon as it has begun again."""
    folder, looked = world.folder / "job", world.folder / "looked"
    words = [world.control_program, "run", folder, "--driver", world.driver, "--every", "600", "--",
             world.build / "tests/checkpoint/kinds/kinds", *KINDS]

    def begin():
        said = open(world.folder / "said", "wb")
        return world.children.start(words, stdin=subprocess.DEVNULL, stdout=said, stderr=said, start_new_session=True,
                                    env=world.tool_environment(), cwd=world.folder)

    def said():
        return (world.folder / "said").read_text(errors="replace")

    def program_of(job):
        return next((pid for pid in children_of(job) if os.readlink(f"/proc/{pid}/exe").endswith("/kinds")), None)

    job = begin()
    wait_for(lambda: "ready" in said(), lambda: f"the program to be ready: {said()}")
    for number in (1, 2, 3):
        os.kill(job, signal.SIGTERM)
        check(world.children.wait(job, "cricketctl run") == 75, said())
        check("nothing of the program uses CUDA" not in said(), said())
        newest = max(path.name for path in (folder / "checkpoints").iterdir() if path.name.isdigit())
        check(int(newest) == number, f"{newest} is the newest checkpoint, not {number}: {said()}")
        job = begin()
        wait_for(lambda: (folder / "server.sock").exists() and "restored" in said(), lambda: f"the program to be restored: {said()}")
    looked.unlink(missing_ok=True)
    os.kill(wait_for(lambda: program_of(job), "the program"), signal.SIGUSR1)
    wait_for(looked.exists, lambda: f"a look of the program: {said()}")
    os.kill(program_of(job), signal.SIGTERM)
    check(world.children.wait(job, "cricketctl run") == 0, said())


PARTS = {"checkpointed": checkpointed, "without-gpu": without_gpu, "held": held, "kept": kept, "criu-action": criu_action, "run": run}


main_of_parts(__doc__, PARTS, "back", needs_criu=True)
