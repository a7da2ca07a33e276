#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""An example from start to end with nobody disturbing it: native, or under the shim on a transport."""

from harness import main, wait_for


def test(world, arguments):
    name, *options = arguments.program
    if arguments.native:
        print(world.start(name, *options, shim=False).finish(stop=False, patience=300).splitlines()[-1])
        return
    server = world.start_server()
    app = world.start(name, *options)
    if world.transport == "ring":
        # Seen while it runs, as far as it runs long enough to be seen.
        wait_for(lambda: app.log.stat().st_size > 0 or not app.alive(), "a first line of output")
        if app.alive():
            app.check_clean(may_end=True)
    print(app.finish(stop=False, patience=300).splitlines()[-1])
    wait_for(lambda: world.sessions() == [], "the session of a program that ended to go")
    server.stop()


def add_arguments(parser):
    parser.add_argument("--native", action="store_true", help="without shim and server")
    parser.add_argument("program", nargs="+", help="an example and its options (after --)")


main(__doc__, test, add_arguments)
