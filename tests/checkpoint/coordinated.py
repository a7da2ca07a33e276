#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""cricketctl checkpoint and restore: both halves in one folder under one name, ending the program or not."""
import os
import signal

from harness import check, check_message, main, wait_for


def running(world, app):
    session = world.session_of(app.pid)
    return session is not None and session["state"] == "running"


def ending(world, server, folder, arguments):
    app = world.start(arguments.example, "--steps", "0")
    app.progress()
    app.check_clean()
    world.control("checkpoint", app.pid, folder)
    wait_for(lambda: not app.alive(), "the checkpointed program to end")
    check(world.session_of(app.pid) is None, "the session is still there though its program was checkpointed away")
    for half in ("app", "gpu"):
        check((folder / half).is_dir(), f"{folder} has no half '{half}'")
    world.control("verify", folder)
    return app


def restored(world, app, folder):
    world.children.status.pop(app.pid, None)
    world.control("restore", folder)
    app.progress()
    app.finish()


def test(world, arguments):
    world.criu
    server = world.start_server()

    # Ended and brought back, by the same server and by another.
    for number, new_server in enumerate((False, True)):
        folder = world.folder / f"ended{number}"
        app = ending(world, server, folder, arguments)
        if new_server:
            server.kill()
            server = world.start_server()
        restored(world, app, folder)

    # Left running: it must neither stop nor notice. The files it writes may not grow, or CRIU would refuse to
    # bring back the older image, so it says nothing and its calls are counted by the server.
    folder = world.folder / "left"
    app = world.start(arguments.example, "--steps", "0", "--quiet")
    wait_for(lambda: running(world, app), "the session to run")
    world.control("checkpoint", app.pid, folder, "--leave-running")
    before = world.session_of(app.pid)
    wait_for(lambda: world.session_of(app.pid)["calls"] > before["calls"] + 100, "more calls after the checkpoint")
    world.control("verify", folder)
    app.check_clean()
    os.kill(app.pid, signal.SIGKILL)
    world.children.wait(app.pid, "the killed program")
    server.kill()
    server = world.start_server()
    world.children.status.pop(app.pid, None)
    world.control("restore", folder)
    wait_for(lambda: running(world, app), "the session of the restored program")
    calls = world.session_of(app.pid)["calls"]
    wait_for(lambda: world.session_of(app.pid)["calls"] > calls + 100, "more calls after the restore")
    app.finish()

    # Two checkpoints of the same program have two names, and their halves do not mix.
    app = world.start(arguments.example, "--steps", "0", "--quiet")
    wait_for(lambda: running(world, app), "the session to run")
    first, second = world.folder / "first", world.folder / "second"
    world.control("checkpoint", app.pid, first, "--leave-running")
    world.control("checkpoint", app.pid, second)
    wait_for(lambda: not app.alive(), "the checkpointed program to end")
    mixed = world.folder / "mixed"
    mixed.mkdir()
    (second / "app").rename(mixed / "app")
    (first / "gpu").rename(mixed / "gpu")
    result = world.control("restore", mixed, accept_failure=True)
    check_message(result.returncode, result.stdout, "epoch", "restoring halves of two checkpoints")
    check(world.session_of(app.pid) is None, "the refused restore left a session behind")
    (mixed / "app").rename(second / "app")
    world.children.status.pop(app.pid, None)
    world.control("restore", second)
    wait_for(lambda: running(world, app), "the session of the restored program")
    app.finish()
    server.stop()


main(__doc__, test, lambda parser: parser.add_argument("--example", default="counter", help="the program"))
