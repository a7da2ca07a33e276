#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""cricketctl checkpoint --without-gpu: the application's half alone. Restored, its calls answer one documented error until it
resets the device; then all works, further checkpoints with everything too. Nothing is lost without having been asked for."""
import os

from harness import at_work, check, main, there_and_back, wait_for

ERROR = "cudaErrorContextIsDestroyed"


def says(app, words):
    wait_for(lambda: app.output().split("\n")[:-1] == words or not app.alive(), lambda: f"the words {words} of {app.describe()}")
    check(app.alive(), f"it has ended: {app.describe()}")


def fewer_devices(world, program):
    """Restored where its device does not exist any more: the same error until the reset, which says so; then it works on what there is. And
    with devices of which it had used another: there nothing is different."""
    two, one = {"SOFTGPU_DEVICES": "2"}, {"SOFTGPU_DEVICES": "1"}
    for device, there, more in ((1, one, [f"lost {ERROR}", "gone cudaErrorInvalidDevice, cudaErrorInvalidDevice, not listed", "works again"]),
                                (0, one, [f"lost {ERROR}", "works again"]), (1, two, [f"lost {ERROR}", "works again"]),
                                (0, two, [f"lost {ERROR}", "works again"])):
        for saved in ([], ["--without-gpu"]):
            server = world.start_server(environment=two)
            app = world.start_program([program, "--steps", "0", "--quiet", "--device", device])
            at_work(world, app)
            server = there_and_back(world, app, server, world.folder / f"devices{world.next_number()}", saved,
                                    [] if saved else ["--without-gpu"], there)
            says(app, more)
            # And from there on as always.
            server = there_and_back(world, app, server, world.folder / f"devices{world.next_number()}", environment=there)
            says(app, more)
            app.finish()
            server.stop()


def test(world, arguments):
    world.criu
    program = world.build / "tests/checkpoint/resets"
    server = world.start_server()
    app = world.start_program([program, "--steps", "0", "--quiet"])
    at_work(world, app)

    words = []
    for cycle, (options, other_server) in enumerate(((["--leave-running"], True), ([], False), ([], True))):
        folder = world.folder / f"half{cycle}"
        world.control("checkpoint", app.pid, folder, "--without-gpu", *options)
        if options:  # nothing is noticed by the one that goes on
            at_work(world, app)
            check(app.output().split("\n")[:-1] == words, f"it noticed: {app.describe()}")
            app.kill()
        else:
            world.children.wait(app.pid, "the checkpointed program")
        said = world.control("verify", folder).stdout
        check("without the GPU" in said, f"verify says: {said}")
        if other_server:
            server.kill()
            server = world.start_server()
        world.children.status.pop(app.pid, None)
        said = world.control("restore", folder).stdout
        check("without the GPU" in said and "reset" in said, f"restore says: {said}")
        words += [f"lost {ERROR}", "works again"]
        says(app, words)
        at_work(world, app)

        # After the reset there is nothing special about it: a whole checkpoint, and its way back.
        server = there_and_back(world, app, server, world.folder / f"whole{cycle}")
        says(app, words)

    # A whole checkpoint, of which the application's half alone is wanted: here, where a first attempt has left all of it, and on a
    # server that knows nothing of it. And all of it is still there for another time.
    folder = world.folder / "both"
    world.control("checkpoint", app.pid, folder)
    world.children.wait(app.pid, "the checkpointed program")
    world.control("load", folder / "gpu")
    for options in (["--without-gpu"], ["--without-gpu"], []):
        world.children.status.pop(app.pid, None)
        os.truncate(app.log, sum(len(word) + 1 for word in words))
        said = world.control("restore", folder, *options).stdout
        check(("without the GPU" in said) == bool(options), f"restore {options} says: {said}")
        says(app, words + [f"lost {ERROR}", "works again"] * bool(options))
        at_work(world, app)
        if options:
            app.kill()
            server.kill()
            server = world.start_server()
    app.finish()
    server.stop()
    if world.driver == "soft":
        fewer_devices(world, program)


main(__doc__, test)
