#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""A session whose client vanished is parked, kept for its time, and dropped; or dropped when told to."""
from harness import check, main, tail, wait_for


def test(world, arguments):
    world.criu
    images = world.folder / "img"

    # Dumped: parked, and still what it was when the program comes back.
    server = world.start_server()
    app = world.start("counter", "--steps", "0")
    app.progress()
    running = world.wait_state(app.pid, "running")
    check(running["program"].endswith("counter"), f"status calls the program '{running['program']}'")
    app.dump(images)
    parked = world.wait_state(app.pid, "parked")
    check(parked["id"] == running["id"], "the parked session is another one")
    check(parked["calls"] >= running["calls"], "calls were forgotten")
    app.restore(images)
    app.progress()
    world.wait_state(app.pid, "running")
    app.finish()
    wait_for(lambda: world.session_of(app.pid) is None, "the session of a program that ended to go")

    # Killed without a goodbye: parked as well, since nobody can tell it from a dump; dropped by word.
    app = world.start("counter", "--steps", "0")
    app.progress()
    app.kill()
    session = world.wait_state(app.pid, "parked")
    world.control("drop", session["id"])
    check(world.session_of(app.pid) is None, "the dropped session is still there")
    server.stop()

    # Dropped by time, with a line in the log.
    server = world.start_server("--park-timeout", "1")
    app = world.start("counter", "--steps", "0")
    app.progress()
    app.kill()
    session = world.wait_state(app.pid, "parked")
    wait_for(lambda: world.session_of(app.pid) is None, "the parked session to be dropped after its second", 20)
    check("drop" in server.log.read_text().lower(), f"no line about it in the server's log:\n{tail(server.log)}")
    world.refused("snapshot", app.pid, world.folder / "gone", naming=app.pid)
    world.refused("snapshot", session["id"], world.folder / "gone", naming=session["id"])
    check(not (world.folder / "gone").exists(), "a refused snapshot left a folder")
    server.stop()


main(__doc__, test)
