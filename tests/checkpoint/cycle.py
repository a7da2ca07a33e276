#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""The cycle test: an example is dumped by plain criu at random moments and goes on as if nothing had been.

Half the time the server is killed as well, and the session comes back from a snapshot in a new one. The example
checks every step itself; train's losses are compared with those of a run that nobody disturbed.
"""
import shutil
import time

from harness import Failure, check, check_message, losses, main

# The longest pause between the first sign of life and the dump, in seconds; the moment is drawn from it.
WINDOW = 0.06


def test(world, arguments):
    world.criu  # a machine without one is told before anything starts
    name, *options = arguments.program
    server = world.start_server()
    app = world.start(name, "--steps", "0", *options)
    app.progress()
    images, gpu = world.folder / "img", world.folder / "gpu"
    replaced = refused = 0
    for cycle in range(arguments.cycles):
        try:
            moment = world.random.random() * WINDOW
            replace = world.random.random() < 0.5
            time.sleep(moment)  # not a wait for anything: the moment is the test's input
            app.dump(images)
            if replace and arguments.refused_for:
                # Device work that waits for a callback of the frozen program cannot be saved, nor can graphs: refused by name.
                saved = world.control("snapshot", app.pid, gpu, accept_failure=True)
                replace = saved.returncode == 0
                if not replace:
                    refused += 1
                    named = [word for word in arguments.refused_for if word in saved.stdout]
                    check_message(saved.returncode, saved.stdout, named or arguments.refused_for, "the snapshot")
            elif replace:
                world.control("snapshot", app.pid, gpu)
            if replace:
                replaced += 1
                server.kill()
                server = world.start_server()
                world.control("load", gpu)
            app.restore(images)
            app.progress()
        except Failure as failure:
            raise Failure(f"cycle {cycle} of {arguments.cycles}: {failure}") from None
        for folder in (images, gpu):
            shutil.rmtree(folder, ignore_errors=True)
    output = app.finish()
    if name == "train":
        sequence = losses(output)
        check(len(sequence) >= arguments.cycles, f"only {len(sequence)} steps were printed")
        # Without the shim where that can be: the software GPU has not the tables that the CUDA runtime asks for.
        undisturbed = world.start(name, "--steps", len(sequence), *options, shim=world.driver == "soft")
        expected = losses(undisturbed.finish(stop=False, patience=300))
        for step, (seen, wanted) in enumerate(zip(sequence, expected, strict=True)):
            check(seen == wanted, f"step {step}: the loss is {seen}, undisturbed it is {wanted}")
    server.stop()
    print(f"{arguments.cycles} dumps and restores, {replaced} of them with a new server"
          f"{f', {refused} snapshots refused' if arguments.refused_for else ''}; {output.splitlines()[-1]}")


def add_arguments(parser):
    parser.add_argument("--cycles", type=int, default=60)
    parser.add_argument("--refused-for", action="append", metavar="WORD", default=[],
                        help="a snapshot may be refused with a message that names this; may be repeated")
    parser.add_argument("program", nargs="+", help="an example and its options (after --)")


main(__doc__, test, add_arguments)
