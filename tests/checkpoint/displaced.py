#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Code that was loaded after things which are gone had moved where the driver places it (displaced.cu): it comes back at its old
place, again and again, and nothing of what led the driver there stays."""
from harness import check, main, wait_for

MOVED = "once more, with the driver led there"


def at_work(world, app, more=100):
    wait_for(lambda: (world.session_of(app.pid) or {}).get("state") == "running" or not app.alive(), lambda: f"a session of {app.describe()}")
    check(app.alive(), app.describe())
    before = world.session_of(app.pid)["calls"]
    wait_for(lambda: (world.session_of(app.pid) or {"calls": 0})["calls"] > before + more or not app.alive(), lambda: f"calls of {app.describe()}")
    check(app.alive(), app.describe())


def test(world, arguments):
    world.criu
    blocks = {"SOFTGPU_BLOCKS": "1"}
    for words in ([], ["--nodes", "20", "--streams", "0"], ["--nodes", "15000", "--streams", "40"]):
        if world.driver == "soft" and words and words[1] == "15000":
            continue
        server = world.start_server(environment=blocks)
        app = world.start_program([world.build / "tests/checkpoint/displaced", "--steps", "0", "--quiet", *words])
        at_work(world, app)
        for cycle in range(2):
            folder = world.folder / f"both{world.next_number()}"
            world.control("checkpoint", app.pid, folder)
            world.children.wait(app.pid, "the checkpointed program")
            server.kill()
            server = world.start_server(environment=blocks)
            world.children.status.pop(app.pid, None)
            world.control("restore", folder)
            at_work(world, app)
            moved = MOVED in server.log.read_text()
            print(f"{' '.join(words)} cycle {cycle}: {'led to its places' if moved else 'the order of loads was enough'}", flush=True)
            check(moved or world.driver != "soft", "nothing had moved it")
        app.finish()
        server.stop()


main(__doc__, test)
