#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Every kind of state through every kind of checkpoint: what rpc/spec/snapshot.spec promises of each comes true.

Without names: all that come back, in one program, through all ways; and each refused one, by its name. `--way`: parked (plain criu
dump, snapshot, another server), coordinated (cricketctl checkpoint and restore), leave-running (the same, and the program goes on; then
the copy), other-gpu (parked, and loaded onto another GPU: `load --devices`).
"""
import os
import shutil
import signal
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from harness import HERE, Failure, Skip, check, main, wait_for
from kinds_program import Program

sys.path.insert(0, str(HERE.parents[1] / "rpc/gen"))
from snapshot import read_kinds  # noqa: E402

WAYS = ("parked", "coordinated", "leave-running", "other-gpu")


def other_gpus(world):
    """For cricketctl load: another GPU in the place of the first."""
    count = 2 if world.driver == "soft" else len(list(Path("/dev").glob("nvidia[0-9]*")))
    if count < 2:
        raise Skip("there is one GPU here")
    return ["--devices", ",".join(str(gpu) for gpu in reversed(range(count)))]


def come_back(world, way, names):
    others = other_gpus(world) if way == "other-gpu" else []
    server = world.start_server()
    program = Program(world, names)
    program.look()
    images, gpu, both = world.folder / "img", world.folder / "gpu", world.folder / "both"
    if way in ("parked", "other-gpu"):
        program.app.dump(images)
        world.wait_state(program.pid, "parked")
        world.control("snapshot", program.pid, gpu)
        server.kill()
        server = world.start_server()
        world.control("load", gpu, *others)
        program.app.restore(images)
    elif way == "coordinated":
        # What came back comes back again: before it has called CUDA, when the server ends in order meanwhile, and after.
        for life in ("first", "not called", "called"):
            if life == "not called":
                server.stop()
                server = world.start_server()
            if life == "called":
                program.look()
            shutil.rmtree(both, ignore_errors=True)
            world.control("checkpoint", program.pid, both)
            wait_for(program.ended, "the checkpointed program to end")
            server.kill()
            server = world.start_server()
            program.adopt()
            world.control("restore", both)
    else:
        world.control("checkpoint", program.pid, both, "--leave-running")
        program.look()
        program.app.kill()
        server.kill()
        server = world.start_server()
        program.adopt()
        world.control("restore", both)
    program.look()
    program.app.finish()
    server.stop()
    for folder in (images, gpu, both):
        shutil.rmtree(folder, ignore_errors=True)


def is_refused(world, way, name, naming):
    server = world.start_server()
    program = Program(world, [name])
    images, folder = world.folder / "img", world.folder / "refused"
    if way == "parked":
        program.app.dump(images)
        world.wait_state(program.pid, "parked")
        world.refused("snapshot", program.pid, folder, naming=naming)
        program.app.restore(images)
    else:
        options = ["--leave-running"] if way == "leave-running" else []
        world.refused("checkpoint", program.pid, folder, *options, naming=naming)
    check(not folder.exists(), f"the refused {way} snapshot of {name} left a folder")
    program.look()
    program.app.finish()
    server.stop()


def is_waited_for(world, way, name):
    """The checkpoint waits until the program has done what ends it; then it comes back."""
    server = world.start_server()
    program = Program(world, [name])
    folder = world.folder / "both"
    calls = world.session_of(program.pid)["calls"]
    options = ["--leave-running"] if way == "leave-running" else []
    with ThreadPoolExecutor(1) as pool:
        saving = pool.submit(world.control, "checkpoint", program.pid, folder, *options)
        wait_for(lambda: list(world.folder.glob("both.partial-*")) or saving.done(), "the checkpoint to begin")
        check(not saving.done(), f"the checkpoint did not wait for {name}")
        os.kill(program.pid, signal.SIGUSR1)
        saving.result()
    if way == "leave-running":
        program.look()
        program.app.kill()
    else:
        wait_for(program.ended, "the checkpointed program to end")
    server.kill()
    server = world.start_server()
    program.adopt()
    world.control("restore", folder)
    program.look()
    check(world.session_of(program.pid)["calls"] >= calls, "calls were lost")
    program.app.finish()
    server.stop()
    shutil.rmtree(folder, ignore_errors=True)


def side_by_side(world, arguments, ways):
    """Each way in a process of its own, with process ids of its own."""
    environment = {name: value for name, value in os.environ.items() if name != "CRICKET_TEST_NAMESPACE"}
    started = []
    for way in ways:
        log = world.folder / f"{way}.log"
        with open(log, "wb") as out:
            started.append((way, log, world.children.start(
                [sys.executable, __file__, "--build", world.build, "--driver", world.driver, "--seed", arguments.seed,
                 "--way", way, *arguments.names], stdout=out, stderr=out, env=environment)))
    failed = []
    for way, log, pid in started:
        status = world.children.wait(pid, f"the {way} run", 600)
        print(log.read_text(errors="replace"), flush=True)
        if status not in (0, 77):
            failed.append(way)
    check(not failed, f"failed: {', '.join(failed)}")


def test(world, arguments):
    world.criu
    ways = arguments.way or WAYS
    if arguments.jobs > 1 and len(ways) > 1:
        side_by_side(world, arguments, ways)
        return
    os.environ["SOFTGPU_DEVICES"] = "2"
    kinds = read_kinds(HERE.parents[1] / "rpc/spec/snapshot.spec")
    program = world.build / "tests/checkpoint/kinds/kinds"
    known = dict((line.split() + [""])[:2] for line in
                 world.run([program, "--list"], env=world.environment(LD_PRELOAD=str(world.shim))).stdout.splitlines())
    tested = {kind.test: kind for kind in kinds if kind.test}
    check(set(tested) == set(known), f"snapshot.spec and {program} do not agree: {sorted(set(tested) ^ set(known))}")
    for name in arguments.names:
        check(name in known, f"there is no kind {name}; there are {sorted(known)}")
    for way in ways:
        together = [name for name in known if not known[name] and tested[name].verdict(way).restored]
        alone = [[name] for name in known if known[name] and tested[name].verdict(way).restored]
        groups = [[name] for name in arguments.names] if arguments.names else [together, *alone]
        for group in groups:
            try:
                if not tested[group[0]].verdict(way).restored:
                    continue
                come_back(world, way, group)
            except Skip as skip:
                print(f"{way:14}{' '.join(group)}: SKIP {skip}", flush=True)
                continue
            except Failure as failure:
                raise Failure(f"{way}, {' '.join(group)}: {failure}") from None
            print(f"{way:14}{' '.join(group)}: back", flush=True)
        for name, kind in tested.items():
            verdict = kind.verdict(way)
            if verdict.restored or (arguments.names and name not in arguments.names) or way == "other-gpu":
                continue
            try:
                if verdict.word == "waits":
                    is_waited_for(world, way, name)
                else:
                    is_refused(world, way, name, verdict.naming)
            except Failure as failure:
                raise Failure(f"{way}, {name}: {failure}") from None
            print(f"{way:14}{name}: {'finished first' if verdict.word == 'waits' else 'refused by name'}", flush=True)


def add_arguments(parser):
    parser.add_argument("--way", action="append", choices=WAYS, help="of saving; may be given again; default: all")
    parser.add_argument("--jobs", type=int, default=1, help="more than 1: the ways run side by side")
    parser.add_argument("names", nargs="*", help="kinds; default: all")


main(__doc__, test, add_arguments)
