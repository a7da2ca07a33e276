#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Snapshots in two phases and in series: what is written while the program runs, shared with the one before, compressed,
copied aside on the device, in the host's memory or nowhere; and what becomes of one whose session or cricketctl ends."""
import json
import os
import re
import resource
import shutil
import signal
import subprocess

from harness import check, children_of, main, wait_for


def running(world, app):
    session = world.session_of(app.pid)
    return session is not None and session["state"] == "running"


def more_calls(world, app, calls=30):
    before = world.session_of(app.pid)["calls"]
    wait_for(lambda: world.session_of(app.pid)["calls"] > before + calls, lambda: f"more calls of {app.describe()}")


def quiet(world, *words):
    app = world.start(words[0], "--steps", "0", "--quiet", *words[1:])
    wait_for(lambda: running(world, app), "the session to run")
    more_calls(world, app, 5)
    return app


def figures(folder):
    return json.loads((folder / "manifest.json").read_text())["figures"]


def gone_on(world, app, folder):
    """Killed, and brought back by another server."""
    os.kill(app.pid, signal.SIGKILL)
    world.children.wait(app.pid, "the killed program")
    world.servers[-1].kill()
    world.start_server()
    world.children.status.pop(app.pid, None)
    world.control("restore", folder)
    wait_for(lambda: running(world, app), "the session of the restored program")
    more_calls(world, app)
    app.finish()


def series(world):
    """The second shares with the first what did not change, and is whole without it."""
    app = quiet(world, "state")  # 4 MiB of its memory never change
    row = world.folder / "row"
    row.mkdir()
    sizes = []
    for number in range(4):
        folder = row / f"c{number}"
        more_calls(world, app, 10 if number else 200)  # its memory is what it will be
        world.control("checkpoint", app.pid, folder, "--leave-running", "--series", "--compress", "1" if number == 2 else "0")
        world.control("verify", folder)
        sizes.append(figures(folder / "gpu"))
    check(sizes[0]["shared"] == 0, f"the first of a series shares: {sizes[0]}")
    for one in sizes[1:]:
        check(one["shared"] > 0, f"nothing is shared with the one before: {one}")
        check(one["shared"] + one["zeros"] + one["written"] <= one["bytes"], f"figures that cannot be: {one}")
    for number in range(3):
        shutil.rmtree(row / f"c{number}")
    world.control("verify", row / "c3")
    gone_on(world, app, row / "c3")


def late(world):
    """Code that is loaded after snapshots of its session were taken comes back at its place; what changed is written alone."""
    app = world.start_program([world.build / "tests/bench/checkpoint_app", "32", "--percent", "10", "--late"])
    wait_for(lambda: "ready" in app.output(), "the program to be ready")
    row = world.folder / "late"
    row.mkdir()

    def change():
        before = app.output().count("changed")
        os.kill(app.pid, signal.SIGUSR1)
        wait_for(lambda: app.output().count("changed") > before, "the memory to be changed")

    sizes = []
    for number in range(3):
        change()
        world.control("snapshot", app.pid, row / f"s{number}", "--running", "--series")
        world.control("verify", row / f"s{number}")
        sizes.append(figures(row / f"s{number}"))
    for one in sizes[1:]:
        check(one["written"] < 5 << 20 and one["shared"] > 28 << 20, f"a tenth of 32 MiB was changed, and written was: {one}")
    check("is hashed here" not in world.servers[-1].log.read_text(), "the device's memory was not hashed there")
    for number in range(2):
        change()
        folder = world.folder / f"late{number}"
        world.control("checkpoint", app.pid, folder)
        wait_for(lambda: not app.alive(), "the checkpointed program to end")
        world.servers[-1].kill()
        world.start_server()
        world.children.status.pop(app.pid, None)
        world.control("restore", folder)
        wait_for(lambda: running(world, app), "the session of the restored program")
        change()
    app.finish()


def base(world):
    """An explicit base, of a restored session as well; and one that is none."""
    app = quiet(world, "train")
    first, second = world.folder / "first", world.folder / "second"
    world.control("checkpoint", app.pid, first, "--series")
    wait_for(lambda: not app.alive(), "the checkpointed program to end")
    world.children.status.pop(app.pid, None)
    world.control("restore", first)
    wait_for(lambda: running(world, app), "the restored program to run")
    world.refused("checkpoint", app.pid, second, "--base", world.folder / "none", naming="none")
    more_calls(world, app)
    world.control("checkpoint", app.pid, second, "--base", first, "--leave-running")
    check(figures(second / "gpu")["shared"] > 0, f"nothing is shared with the base: {figures(second / 'gpu')}")
    shutil.rmtree(first)
    gone_on(world, app, second)


def aside(world):
    """However the content is secured, it is the same."""
    world.servers[-1].stop()
    for limits, part in (({"CRICKET_ASIDE_DEVICE": "0"}, "stream"), ({"CRICKET_ASIDE_DEVICE": str(3 << 20)}, "both"),
                         ({"CRICKET_ASIDE_DEVICE": "0", "CRICKET_ASIDE_HOST": "0"}, "files")):
        os.environ.update(limits)
        world.start_server()
        app = quiet(world, "copies", "--mib", "6")
        folder = world.folder / f"aside-{part}"
        world.control("checkpoint", app.pid, folder, "--leave-running", "--series")
        world.control("verify", folder)
        for name in limits:
            del os.environ[name]
        gone_on(world, app, folder)
        world.servers[-1].stop()
    world.start_server()


def live(world):
    """Of a running session; the program does not notice."""
    app = quiet(world, "copies", "--mib", "2")
    world.refused("snapshot", app.pid, world.folder / "refused", naming="running")
    result = world.control("snapshot", app.pid, world.folder / "live", "--running", "--series")
    check(re.search(r"stood still [0-9.]+ m?s", result.stdout), f"no word of the pause: {result.stdout}")
    world.control("verify", world.folder / "live")
    world.control("snapshot", app.pid, world.folder / "live", "--running", "--series")  # in place of its base
    world.control("verify", world.folder / "live")
    more_calls(world, app)
    app.finish()


def short_of_memory(world):
    """Device memory that a copy holds until it is written is the application's when it asks for it; and a context that ends
    waits for the copy."""
    world.servers[-1].stop()
    os.environ["SOFTGPU_MEMORY"] = "256M"
    world.start_server()
    del os.environ["SOFTGPU_MEMORY"]
    app = large(world, "--grow", "120")
    folder = world.folder / "short"
    control = slow_snapshot(world, app, folder)
    os.kill(app.pid, signal.SIGUSR1)
    wait_for(lambda: "changed" in app.output(), lambda: f"memory for {app.describe()}", 240)
    check(world.children.wait(control, "cricketctl", 240) == 0, "no snapshot")
    world.control("verify", folder)
    control = slow_snapshot(world, app, world.folder / "reset")
    app.finish(patience=240)
    check(world.children.wait(control, "cricketctl", 240) == 0, f"no snapshot of a program that reset its device: {(world.folder / 'control-reset.log').read_text()}")
    world.control("verify", world.folder / "reset")
    world.servers[-1].stop()
    world.start_server()


def slow_snapshot(world, app, folder):
    """Begins one that takes a while to be written; returns when its content is secured."""
    log = open(world.folder / f"control-{folder.name}.log", "wb")
    before = world.session_of(app.pid)["calls"]
    control = world.children.start([world.control_program, "snapshot", app.pid, folder, "--running", "--compress", "19"],
                                   stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=world.environment())
    wait_for(lambda: list(world.folder.glob(folder.name + ".partial-*/*.pack")), "the snapshot to be written")
    wait_for(lambda: world.session_of(app.pid)["calls"] > before + 10, "calls while it is written")
    check(not folder.exists(), "the snapshot was complete before the program went on: this test needs a slower one")
    return control


def limited_files(world):
    """A file that may not grow ends the snapshot, before or after its content is secured, and nothing else."""
    app = large(world)
    worker = children_of(world.servers[-1].pid)[-1]
    resource.prlimit(worker, resource.RLIMIT_FSIZE, (1 << 20, resource.RLIM_INFINITY))
    world.refused("snapshot", app.pid, world.folder / "limited", "--running", naming=["cannot write", "too large"])
    world.refused("checkpoint", app.pid, world.folder / "limited", "--leave-running", naming=["cannot write", "too large"])
    world.refused("checkpoint", app.pid, world.folder / "limited", naming=["cannot write", "too large"])
    check(not list(world.folder.glob("limited*")), f"left: {list(world.folder.glob('limited*'))}")
    resource.prlimit(worker, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    more_calls(world, app)
    world.control("checkpoint", app.pid, world.folder / "limited", "--leave-running")
    gone_on(world, app, world.folder / "limited")


def format1(world):
    """A snapshot of the format before this one still comes back."""
    for words in (["textures"], ["train"], ["copies", "--mib", "3"]):
        app = quiet(world, *words)
        images = world.folder / f"img-{words[0]}"
        app.dump(images)
        session = world.wait_state(app.pid, "parked")
        world.control("snapshot", session["id"], world.folder / f"new-{words[0]}", "--series")
        old = world.folder / f"old-{words[0]}"
        result = world.run([world.build / "tests/checkpoint/to_format1", world.folder / f"new-{words[0]}", old])
        check(result.returncode == 0, f"to_format1 failed: {result.stdout}")
        world.control("verify", old)
        world.servers[-1].kill()
        world.start_server()
        world.control("load", old)
        app.restore(images)
        more_calls(world, app)
        result = world.control("snapshot", app.pid, world.folder / "after", "--running", "--base", old)  # nothing to share
        check(figures(world.folder / "after")["shared"] == 0, "something is shared with a snapshot of format 1")
        app.finish()


def large(world, *words):
    app = world.start_program([world.build / "tests/bench/checkpoint_app", "80", *words])
    wait_for(lambda: "ready" in app.output(), "the program to be ready")
    return app


def interrupted(world):
    """The program ends, is killed; cricketctl is killed: the snapshot is completed. Dropped by force: nothing stays."""
    for how in ("end", "kill", "control"):
        app = large(world)
        folder = world.folder / f"interrupted-{how}"
        control = slow_snapshot(world, app, folder)
        if how == "end":
            app.finish()
        elif how == "kill":
            app.kill()
        else:
            os.kill(control, signal.SIGKILL)
        status = world.children.wait(control, "cricketctl", 240)
        check(status == (-signal.SIGKILL if how == "control" else 0), f"cricketctl ended with {status} ({how})")
        wait_for(folder.exists, "the snapshot to be complete", 240)
        world.control("verify", folder)
        if how == "end":
            wait_for(lambda: world.session_of(app.pid) is None, "the session of the program that ended to go")
        elif how == "kill":
            world.control("drop", world.wait_state(app.pid, "parked")["id"])
        else:
            app.finish()
    app = large(world)
    folder = world.folder / "dropped"
    control = slow_snapshot(world, app, folder)
    app.kill()
    world.control("drop", world.wait_state(app.pid, "parked")["id"], "--force")
    check(world.children.wait(control, "cricketctl") != 0, "a dropped session's snapshot was complete")
    check(not list(world.folder.glob("dropped*")), f"left: {list(world.folder.glob('dropped*'))}")


PARTS = {part.__name__: part for part in (series, late, base, aside, live, interrupted, short_of_memory, limited_files, format1)}


def test(world, arguments):
    world.criu
    world.start_server()
    for name in arguments.parts or PARTS:
        PARTS[name](world)
        print(f"{name}: good", flush=True)
    world.servers[-1].stop()


main(__doc__, test, lambda parser: parser.add_argument("parts", nargs="*", choices=[[], *PARTS], help="all, when none is named"))
