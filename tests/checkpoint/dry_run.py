#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""cricketctl checkpoint/snapshot --dry-run: says what the real one would do, and does nothing of it."""
import json
import os
import socket

from harness import check, main, wait_for

REFUSED = 3  # exit status


def dry(world, *words, status=0):
    result = world.control(*words, "--dry-run", "--json", accept_failure=True)
    check(result.returncode == status, f"{words} --dry-run ended with status {result.returncode}:\n{result.stdout}")
    return json.loads(result.stdout)


def calls_go_on(world, app, more=50):
    before = world.session_of(app.pid)["calls"]
    wait_for(lambda: world.session_of(app.pid)["calls"] > before + more, f"calls of {app.describe()}")


def start(world, name, *options):
    app = world.start(name, "--steps", "0", "--quiet", *options)
    wait_for(lambda: (world.session_of(app.pid) or {}).get("calls", 0) > 50, f"calls of {app.describe()}")
    return app


def folder_bytes(folder):
    return sum(path.stat().st_blocks * 512 for path in folder.rglob("*") if path.is_file())


def test(world, arguments):
    world.criu
    server = world.start_server()
    place = world.folder / "place"
    place.mkdir()

    # What it says is close to what the real one then writes; nothing is made, nothing stands still.
    app = start(world, "copies", "--mib", "8")
    said = dry(world, "checkpoint", app.pid, place / "one", "--leave-running")
    check(said["refused"] == [] and said["for_now"] == [], f"copies would be refused: {said}")
    check(os.listdir(place) == [], f"a dry run left {os.listdir(place)}")
    check(said["bytes"]["device"] >= 8 << 20, f"8 MiB of device memory, but {said['bytes']}")
    check(said["seconds"]["all"] > 0 and said["room"] > 0, f"no times or no room: {said}")
    calls_go_on(world, app)
    text = world.control("checkpoint", app.pid, place / "one", "--dry-run").stdout
    for word in ("would be taken", "device 0", "written", "MiB"):
        check(word in text, f"the text says nothing of '{word}':\n{text}")
    world.control("checkpoint", app.pid, place / "one", "--leave-running")
    real = folder_bytes(place / "one")
    check(0.5 * real <= said["bytes"]["all"] <= 2 * real + (32 << 20),
          f"{said['bytes']} were to be written, {real} bytes were")

    images = folder_bytes(place / "one" / "app")
    check(0.7 * images <= said["bytes"]["application"] <= 1.4 * images + (4 << 20),
          f"criu was to write {said['bytes']['application']} bytes, and wrote {images}")
    check("measured" in said["times_from"], f"times from where? {said['times_from']}")
    said = dry(world, "checkpoint", app.pid, place / "two", "--leave-running")
    check(said["times_from"] == "as one took", f"times from where? {said['times_from']}")

    # Every reason, not only the first: a place that cannot be, and a socket that criu does not know.
    (place / "mine").mkdir()
    (place / "mine" / "precious").write_text("kept")
    said = dry(world, "checkpoint", app.pid, place / "mine", status=REFUSED)
    check(any("precious" in why or "not empty" in why for why in said["refused"]), f"{said['refused']}")
    said = dry(world, "checkpoint", app.pid, world.folder / "no" / "where", status=REFUSED)
    check(any("where" in why for why in said["refused"]), f"{said['refused']}")
    said = dry(world, "snapshot", app.pid, place / "gpu", status=REFUSED)
    check(any("running" in why for why in said["refused"]), f"{said['refused']}")
    calls_go_on(world, app)
    check((place / "mine" / "precious").read_text() == "kept", "a dry run changed what was there")

    # A parked session: the same for its snapshot.
    app.dump(world.folder / "img")
    world.wait_state(app.pid, "parked")
    said = dry(world, "snapshot", app.pid, place / "gpu")
    check(said["bytes"]["application"] == 0 and said["bytes"]["host"] > 0, f"{said['bytes']}")
    world.control("snapshot", app.pid, place / "gpu")
    real = folder_bytes(place / "gpu")
    check(0.5 * real <= said["bytes"]["all"] <= 2 * real + (32 << 20),
          f"{said['bytes']} were to be written, {real} bytes were")
    app.restore(world.folder / "img")
    calls_go_on(world, app)
    app.finish()

    # A program that criu would refuse: it is told which descriptor is in the way.
    here, there = socket.socketpair()
    os.set_inheritable(there.fileno(), True)
    command = ["/bin/sh", "-c", f"exec {world.build}/examples/counter --steps 0 --quiet 7<&{there.fileno()}"]
    app = world.start_program(command, close_fds=False)
    wait_for(lambda: (world.session_of(app.pid) or {}).get("calls", 0) > 50, f"calls of {app.describe()}")
    said = dry(world, "checkpoint", app.pid, place / "refused", status=REFUSED)
    check(any("descriptor" in why and "unix socket" in why for why in said["refused"]), f"{said['refused']}")
    here.close()
    there.close()
    app.finish()
    server.stop()


main(__doc__, test)
