#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""A snapshot on other devices: refused by name, before anything is made, where they cannot do; on a second device by
--devices; from a folder that was moved. Every refused restore can be tried again."""
import os
import shutil
import subprocess

from harness import Skip, check, check_message, main, wait_for


def calls(world, app, more=50):
    wait_for(lambda: (world.session_of(app.pid) or {"device_bytes": 0})["device_bytes"],
             lambda: f"device memory of {app.describe()}")
    before = world.session_of(app.pid)["calls"]
    wait_for(lambda: world.session_of(app.pid)["calls"] > before + more, lambda: f"calls of {app.describe()}")


def refused(world, words, naming):
    result = world.control(*words, accept_failure=True)
    check_message(result.returncode, result.stdout, naming, " ".join(map(str, words)))
    check(world.sessions() == [], f"a refused restore left {world.sessions()}")


def other_multiprocessors(world):
    """A GPU whose multiprocessors are other ones: only who has a part of them is refused."""
    for kind, naming in (("green-contexts", ["green context", "multiprocessors"]), ("device-memory", None)):
        server = world.start_server()
        app = world.start_program([world.build / "tests/checkpoint/kinds/kinds", kind])
        wait_for(lambda: "ready" in app.output(), lambda: f"'ready' of {app.describe()}")
        app.dump(world.folder / "img")
        world.wait_state(app.pid, "parked")
        world.control("snapshot", app.pid, world.folder / kind)
        server.kill()
        server = world.start_server(environment={"SOFTGPU_MULTIPROCESSORS": "12"})
        if naming:
            refused(world, ["load", world.folder / kind], naming)
            server.kill()
            server = world.start_server()
        world.control("load", world.folder / kind)
        check("all as saved" in world.control("verify", "--live", app.pid).stdout, "not all is as it was")
        app.restore(world.folder / "img")
        app.finish()
        server.stop()
        shutil.rmtree(world.folder / "img")


def only_one_gpu():
    listed = subprocess.run(["nvidia-smi", "--list-gpus"], capture_output=True, text=True)
    return len(listed.stdout.split("\n")) < 3


def test(world, arguments):
    world.criu
    soft = world.driver == "soft"
    if not soft and only_one_gpu():
        raise Skip("one GPU")
    two = {"SOFTGPU_DEVICES": "2"}
    mib = 64

    # A whole checkpoint, moved to another folder, on devices that cannot do, and then on those that can.
    server = world.start_server(environment=two)
    app = world.start("copies", "--steps", "0", "--mib", mib, "--quiet")
    calls(world, app)
    world.control("checkpoint", app.pid, world.folder / "there")
    world.children.wait(app.pid, "the checkpointed program")
    shutil.move(world.folder / "there", world.folder / "here")
    folder = world.folder / "here"
    server.kill()
    if soft:
        for environment, naming in (({"SOFTGPU_MEMORY": "32M"}, ["needs", "MiB", "Cricket Software GPU", "has 32 MiB"]),
                                    ({"SOFTGPU_COMPUTE": "70"}, ["kernel", "sm_75", "sm_70"]),
                                    ({"SOFTGPU_COMPUTE": "70", "SOFTGPU_MEMORY": "32M"}, ["sm_70", "32 MiB"])):
            server = world.start_server(environment=environment)
            refused(world, ["load", folder / "gpu"], naming)
            refused(world, ["restore", folder], naming)
            check(not os.path.exists(f"/proc/{app.pid}"), "a refused restore began the program")
            world.control("verify", folder)
            server.kill()
    server = world.start_server(environment=two)
    world.children.status.pop(app.pid, None)
    world.control("restore", folder)
    calls(world, app)
    world.control("verify", "--live", app.pid)

    # Both ways between two devices. The session stays where it was put, over further snapshots.
    for cycle, devices in enumerate(("1", None, "0", None)):
        app.dump(world.folder / f"img{cycle}")
        world.wait_state(app.pid, "parked")
        world.control("snapshot", app.pid, world.folder / f"gpu{cycle}")
        server.kill()
        server = world.start_server(environment=two)
        world.control("load", world.folder / f"gpu{cycle}", *(["--devices", devices] if devices else []))
        check("all as saved" in world.control("verify", "--live", app.pid).stdout, "not all is as it was")
        moved = "takes the place of" in server.log.read_text()
        check(moved == (devices is not None), f"--devices {devices}, and the log says:\n{server.log.read_text()}")
        app.restore(world.folder / f"img{cycle}")
        calls(world, app)
    app.finish()

    # Too few devices: of a program that was started on the second.
    app = world.start("copies", "--steps", "0", "--quiet", env={"CUDA_VISIBLE_DEVICES": "1"})
    calls(world, app)
    app.dump(world.folder / "img")
    world.wait_state(app.pid, "parked")
    world.control("snapshot", app.pid, world.folder / "gpu")
    server.kill()
    if soft:
        server = world.start_server()
        refused(world, ["load", world.folder / "gpu"], ["CUDA_VISIBLE_DEVICES=1", "--devices"])
    else:
        server = world.start_server()
    world.control("load", world.folder / "gpu", "--devices", "0")
    app.restore(world.folder / "img")
    calls(world, app)
    app.finish()
    server.stop()
    shutil.rmtree(world.folder / "img")
    if soft:
        other_multiprocessors(world)


main(__doc__, test)
