# SPDX-License-Identifier: MIT
# A PyTorch training dumped by plain `criu dump` in the middle, its server parked, restored: the losses go on bit-identically
# to those of a training that nobody disturbed. Variant `replaced`: the server is killed as well and a new one loads a snapshot.
# needs: torch
# alone
# exclusive
# limit: 400
# variant parked: parked
# variant replaced: replaced
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1] / "checkpoint"))
from harness import App, Failure, check, main, wait_for  # noqa: E402

TRAINING = HERE / "support/train_steps.py"


def losses(output):
    found = [line.split() for line in output.splitlines() if line.startswith("step ")]
    for wanted, words in enumerate(found):
        check(words[1] == str(wanted), f"the output goes on with step {words[1]} after {wanted - 1}")
    return [words[3] for words in found]


def test(world, arguments):
    world.criu  # a machine without one is told before anything starts
    server = world.start_server()
    command = [arguments.python, TRAINING, arguments.steps]
    began = time.monotonic()
    expected = losses(App(world, command).finish(stop=False, patience=300))
    check(len(expected) == arguments.steps, f"{len(expected)} losses of {arguments.steps} steps")
    print(f"undisturbed: {len(expected)} steps in {time.monotonic() - began:.1f} s")

    app = App(world, command)
    images, gpu = world.folder / "img", world.folder / "gpu"
    for cycle in range(arguments.cycles):
        goal = arguments.steps * (cycle + 1) // (arguments.cycles + 2) + world.random.randrange(arguments.steps // 10)

        def reached():
            if not app.alive():
                raise Failure(f"ended before it was dumped: {app.describe()}")
            return app.output().count("\nstep ") >= goal

        wait_for(reached, f"step {goal}", 240)
        started = time.monotonic()
        app.dump(images)
        dumped = time.monotonic()
        world.wait_state(app.pid, "parked")
        printed = app.output().count("step ")
        check(printed < arguments.steps, "the training was over before it was dumped")
        way = world.random.choice(("parked", "replaced")) if arguments.way == "mixed" else arguments.way
        if way == "replaced":
            world.control("snapshot", app.pid, gpu, patience=240)
            server.kill()
            server = world.start_server()
            world.control("load", gpu, patience=240)
        app.restore(images)
        app.progress(240)
        print(f"cycle {cycle} ({way}): dumped after {printed} steps in {dumped - started:.1f} s, "
              f"going on after {time.monotonic() - dumped:.1f} s")
    seen = losses(app.finish(stop=False, patience=300))
    for step, (a, b) in enumerate(zip(expected, seen, strict=True)):
        check(a == b, f"step {step}: loss {b}, undisturbed {a}")
    server.stop()
    print(f"{len(seen)} losses are the same to the bit")


def add_arguments(parser):
    parser.add_argument("--python", default=sys.executable, help="the interpreter that has PyTorch")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--cycles", type=int, default=2)
    parser.add_argument("way", choices=("parked", "replaced", "mixed"))


main(__doc__ or "PyTorch training through CRIU", test, add_arguments)
