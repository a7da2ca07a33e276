#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Code that was loaded after things which are gone had moved where the driver places it (displaced.cu): it comes back at its old
place, again and again, and nothing of what led the driver there stays."""
from harness import check, main, there_and_back, wait_for

MOVED = "once more, with the driver led there"


def test(world, arguments):
    world.criu
    blocks = {"SOFTGPU_BLOCKS": "1"}
    for words in ([], ["--nodes", "20", "--streams", "0"], ["--nodes", "15000", "--streams", "40"]):
        if world.driver == "soft" and words and words[1] == "15000":
            continue
        server = world.start_server(environment=blocks)
        app = world.start_program([world.build / "tests/checkpoint/displaced", "--steps", "0", "--quiet", *words])
        wait_for(lambda: "all is loaded" in app.output() or not app.alive(), lambda: f"the end of the loads of {app.describe()}")
        for cycle in range(2):
            server = there_and_back(world, app, server, world.folder / f"both{world.next_number()}", environment=blocks)
            moved = MOVED in server.log.read_text()
            print(f"{' '.join(words)} cycle {cycle}: {'led to its places' if moved else 'the order of loads was enough'}", flush=True)
            check(moved or world.driver != "soft", "nothing had moved it")
        app.finish()
        server.stop()


main(__doc__, test)
