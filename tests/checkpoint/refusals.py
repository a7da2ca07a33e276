#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Bad input of every kind gets an error that names it, and nothing is lost: what ran goes on, what was saved stays."""
import json
import os
import shutil
import signal
import struct
import subprocess

import hello
from harness import PATIENCE, Server, check, check_message, main_of_parts, tail, wait_for

REFUSALS = {}


def refusal(function):
    REFUSALS[function.__name__.replace("_", "-")] = function
    return function


def fails(world, app, naming):
    """The application must end by itself, with its own words for a CUDA error, and the shim's reason beside it."""
    status = world.children.wait(app.pid, "the refused application")
    check_message(status, app.errors.read_text() + app.output(), naming, app.describe())


def works(world):
    """The server still serves: the shortest complete life of an application."""
    world.start("counter", "--steps", "3").finish(stop=False)


def parked_counter(world):
    """A counter that was dumped after it had made some calls. It says nothing, so that its files never change."""
    app = world.start("counter", "--steps", "0", "--quiet")
    busy(world, app)
    app.dump(world.folder / "img")
    world.wait_state(app.pid, "parked")
    return app


def busy(world, app, calls=50):
    """Waits until the application has made so many more calls."""
    wait_for(lambda: world.session_of(app.pid), lambda: f"a session of {app.describe()}")
    before = world.session_of(app.pid)["calls"]
    wait_for(lambda: world.session_of(app.pid)["calls"] >= before + calls, lambda: f"calls of {app.describe()}")


@refusal
def no_server(world):
    app = world.start("counter", "--steps", "3", env={"CRICKET_RECONNECT_TIMEOUT": "1"})
    fails(world, app, world.socket)
    world.refused("status", naming=world.socket)
    world.refused("snapshot", "1", world.folder / "gpu", naming=world.socket)


@refusal
def driver_path(world):
    for path, naming in ((world.folder / "none.so", "none.so"), (world.folder, str(world.folder)),
                         (world.shim, "shim")):
        world.driver = path
        server = Server(world)
        status = world.children.wait(server.pid, f"a server with the driver {path}")
        check_message(status, server.log.read_text(), naming, f"--driver {path}")


@refusal
def other_protocol(world):
    """A newer client meets the server, and the client meets a newer server."""
    server = world.start_server()
    client = hello.Client(world.socket)
    client.attach(protocol=hello.PROTOCOL + 1)
    wait_for(lambda: client.answer()[0] != hello.WAITING, "an answer to a hello of another protocol")
    state, reason, text = client.answer()
    check(state == hello.REFUSED and reason == hello.REFUSAL_PROTOCOL,
          f"the hello of protocol {hello.PROTOCOL + 1} was answered with state {state}, refusal {reason}: {text}")
    check("protocol" in text, f"the refusal does not say why: '{text}'")
    client.close()
    works(world)
    server.stop()

    newer = hello.RefusingServer(world.socket)
    app = world.start("counter", "--steps", "3", env={"CRICKET_RECONNECT_TIMEOUT": "5"})
    wait_for(lambda: newer.refuse_one(hello.REFUSAL_PROTOCOL, "speaks protocol 4711") or not app.alive(), "a hello")
    fails(world, app, "protocol")
    newer.close()


@refusal
def other_user(world):
    """Another user's programs are turned away even where the socket's mode would let them in."""
    server = world.start_server()
    world.folder.chmod(0o755)
    for path in world.folder.glob("server.sock*"):
        path.chmod(0o777)
    nobody = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"]
    result = world.run([*nobody, world.control_program, "status"])
    check(result.returncode != 0, f"another user may ask for the status:\n{result.stdout}")
    copy = world.folder / "counter"
    shutil.copy(world.build / "examples/counter", copy)
    shim = world.folder / "libcudashim.so"
    shutil.copy(world.shim, shim)
    result = world.run([*nobody, "env", f"LD_PRELOAD={shim}", copy, "--steps", "3"],
                       env=world.environment(CRICKET_RECONNECT_TIMEOUT="2"))
    check(result.returncode != 0, f"another user may use the GPU:\n{result.stdout}")
    check("65534" in server.log.read_text(), f"the server does not say whom it refused:\n{tail(server.log)}")
    check(world.sessions() == [], f"sessions of another user: {world.sessions()}")
    works(world)
    server.stop()


@refusal
def unknown_session(world):
    server = world.start_server()
    for verb in ("snapshot", "checkpoint"):
        world.refused(verb, "999999", world.folder / "gpu", naming="999999")
    for verb in ("drop", "resume"):
        world.refused(verb, "999999", naming="999999")
    check(not (world.folder / "gpu").exists(), "a refused command left a folder")
    world.refused("load", world.folder / "none", naming="none")
    world.refused("verify", world.folder / "none", naming="none")
    world.refused("restore", world.folder / "none", naming="none")
    world.refused("snapshot", "no-number", world.folder / "gpu", naming="no-number")
    works(world)
    server.stop()


@refusal
def damaged_snapshot(world):
    """Each file of a snapshot, shortened, with one bit turned, or gone: refused by name; the whole one loads after."""
    server = world.start_server()
    app = parked_counter(world)
    whole = world.folder / "whole"
    world.control("snapshot", app.pid, whole)
    world.control("verify", whole)
    server.kill()
    server = world.start_server()
    files = sorted(path.relative_to(whole) for path in whole.rglob("*") if path.is_file())
    check(files, "the snapshot has no files")
    broken = world.folder / "broken"

    def attempt(name, damage, naming):
        shutil.rmtree(broken, ignore_errors=True)
        shutil.copytree(whole, broken)
        damage(broken / name)
        world.refused("verify", broken, naming=naming)
        world.refused("load", broken, naming=naming)
        check(world.sessions() == [], f"a refused load of {name} left {world.sessions()}")

    def flip(path):
        data = bytearray(path.read_bytes())
        data[world.random.randrange(len(data))] ^= 1 << world.random.randrange(8)
        path.write_bytes(data)

    for name in files:
        size = (whole / name).stat().st_size
        attempt(name, lambda path: path.unlink(), name.name)
        if size > 0:
            attempt(name, lambda path: os.truncate(path, world.random.randrange(size)), name.name)
            for _ in range(8):
                attempt(name, flip, name.name)
    world.control("load", whole)
    app.restore(world.folder / "img")
    busy(world, app)
    app.finish()
    server.stop()


@refusal
def other_snapshot_version(world):
    server = world.start_server()
    app = parked_counter(world)
    folder = world.folder / "gpu"
    world.control("snapshot", app.pid, folder)
    manifest = next(path for path in folder.rglob("*manifest*"))
    content = json.loads(manifest.read_text())
    key = next(key for key in ("version", "format", "format_version") if key in content)
    content[key] = content[key] + 1
    manifest.write_text(json.dumps(content))
    world.refused("verify", folder, naming="version")
    world.refused("load", folder, naming="version")
    server.stop()


@refusal
def full_disk(world):
    """A snapshot that finds no room is refused, leaves nothing, and can be taken elsewhere."""
    server = world.start_server()
    app = world.start("copies", "--steps", "0", "--mib", "4", "--quiet")
    busy(world, app, 20)
    app.dump(world.folder / "img")
    world.wait_state(app.pid, "parked")
    small = world.folder / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", small], check=True)
    try:
        world.refused("snapshot", app.pid, small / "gpu", naming="space")
        check(os.listdir(small) == [], f"the failed snapshot left {os.listdir(small)}")
    finally:
        subprocess.run(["umount", small], check=True)
    world.control("snapshot", app.pid, world.folder / "gpu")
    server.kill()
    server = world.start_server()
    world.control("load", world.folder / "gpu")
    app.restore(world.folder / "img")
    busy(world, app, 20)
    app.finish()
    server.stop()


@refusal
def killed_while_snapshotting(world):
    """What was being written is not taken for a snapshot; the one before it still is one."""
    server = world.start_server()
    app = world.start("copies", "--steps", "0", "--mib", "64", "--quiet")
    busy(world, app, 20)
    app.dump(world.folder / "img")
    world.wait_state(app.pid, "parked")
    snapshots = world.folder / "snapshots"
    snapshots.mkdir()
    world.control("snapshot", app.pid, snapshots / "good")
    with open(world.folder / "control.log", "wb") as log:
        control = world.children.start([world.control_program, "snapshot", app.pid, snapshots / "bad"],
                                       stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=world.environment())
    wait_for(lambda: len(os.listdir(snapshots)) > 1, "the second snapshot to begin")
    server.kill()
    status = world.children.wait(control, "cricketctl, whose server was killed,")
    if status != 0:
        check(status > 0, f"cricketctl died of signal {-status}")
        check((world.folder / "control.log").read_text().strip(), "cricketctl failed without a word")
        check(not (snapshots / "bad").exists(), "half a snapshot has the name of a whole one")
    server = world.start_server()
    if (snapshots / "bad").exists():
        world.control("verify", snapshots / "bad")
    world.control("load", snapshots / "good")
    app.restore(world.folder / "img")
    busy(world, app, 20)
    app.finish()
    server.stop()


@refusal
def image_older_than_session(world):
    """An application brought back from an image that its session has left behind must not repeat calls."""
    server = world.start_server()
    app = world.start("counter", "--steps", "0", "--quiet", env={"CRICKET_RECONNECT_TIMEOUT": "5"})
    busy(world, app)
    app.dump(world.folder / "old")
    app.restore(world.folder / "old")
    busy(world, app)
    app.dump(world.folder / "new")
    calls = world.wait_state(app.pid, "parked")["calls"]
    app.restore(world.folder / "old")
    fails(world, app, "older")
    parked = world.wait_state(app.pid, "parked")
    check(parked["calls"] == calls, f"the session counted {calls} calls before the old image came, now {parked['calls']}")
    app.restore(world.folder / "new")
    busy(world, app)
    app.finish()
    server.stop()


@refusal
def session_older_than_image(world):
    """The other way round: a snapshot that lacks calls which the application has made already."""
    server = world.start_server()
    app = world.start("counter", "--steps", "0", "--quiet", env={"CRICKET_RECONNECT_TIMEOUT": "5"})
    busy(world, app)
    app.dump(world.folder / "img1")
    world.wait_state(app.pid, "parked")
    world.control("snapshot", app.pid, world.folder / "gpu1")
    app.restore(world.folder / "img1")
    busy(world, app, 1000)
    app.dump(world.folder / "img2")
    world.wait_state(app.pid, "parked")
    world.control("snapshot", app.pid, world.folder / "gpu2")
    server.kill()
    server = world.start_server()
    world.control("load", world.folder / "gpu1")
    app.restore(world.folder / "img2")
    fails(world, app, "older")
    server.kill()
    server = world.start_server()
    world.control("load", world.folder / "gpu2")
    app.restore(world.folder / "img2")
    busy(world, app)
    app.finish()
    server.stop()


@refusal
def device_heap(world):
    """What cannot be restored is refused by name, and the application goes on from its image all the same."""
    server = world.start_server()
    app = world.start("heap", "--steps", "0", "--quiet")
    busy(world, app)
    app.dump(world.folder / "img")
    world.wait_state(app.pid, "parked")
    world.refused("snapshot", app.pid, world.folder / "gpu", naming=["malloc", "heap"])
    check(not (world.folder / "gpu").exists(), "the refused snapshot left a folder behind")
    app.restore(world.folder / "img")
    busy(world, app)
    app.finish()
    server.stop()


@refusal
def garbage_datagrams(world):
    """Whatever comes to the socket, the supervisor lives, and the application that runs meanwhile does not notice."""
    server = world.start_server()
    app = world.start("counter", "--steps", "0")
    app.progress()
    client = hello.Client(world.socket)
    for length in (0, 1, 7, hello.HELLO.size - 1, hello.HELLO.size, hello.HELLO.size + 1, 4096, 65536):
        client.send(world.random.randbytes(length))
        client.send(world.random.randbytes(length), [client.fd])
    null = os.open("/dev/null", os.O_RDWR)
    tiny = os.memfd_create("tiny")
    os.ftruncate(tiny, 100)
    for fds in ([], [client.fd], [null, null], [tiny, tiny], [client.fd, null], [client.fd] * 20):
        client.attach(fds=fds)
    good = client.geometry[:]
    for index in range(len(good)):
        for value in (0, 1, 4097, 1 << 40, (1 << 64) - 1, (1 << 64) - 4096):
            client.geometry = good[:]
            client.geometry[index] = value
            client.attach()
    client.geometry = good
    for changed in ({"host_bytes": 1 << 62}, {"first_seq": 9, "next_seq": 3}, {"first_offset": 1 << 60},
                    {"program": b"x" * 64}, {"token": bytes(16)}):
        client.attach(**changed)
    with open(world.folder / "closed", "wb"):
        pass
    os.close(null)
    os.close(tiny)
    check(server.alive(), f"the supervisor died:\n{tail(server.log)}")
    app.progress()
    works(world)
    app.finish()
    client.close()
    server.stop()


@refusal
def garbage_records(world):
    """A client that attached in order and then fills its ring with nonsense may lose its session, nobody else's."""
    server = world.start_server()
    app = world.start("counter", "--steps", "0")
    app.progress()

    def record(size=hello.RECORD.size, kind=1, seq=1, slot=hello.NO_SLOT, message=0, offset=0, capacity=0, up_end=0):
        return hello.RECORD.pack(size & 0xFFFFFFFF, kind, seq, slot, message, offset, capacity, up_end)

    call = struct.pack(">6I", 1, 0, 2, 0x20435544, 1, 16)
    nonsense = [world.random.randbytes(hello.RECORD.size), record(size=0), record(size=0xFFFFFFF8), record(kind=99),
                record(seq=1 << 60), record(message=0xFFFFFFFF), record(slot=12345), record(message=64) + bytes(64),
                record(offset=1 << 60, capacity=1 << 60), record(up_end=1 << 60),
                record(size=hello.RECORD.size + 24, message=24) + call,
                record(size=hello.RECORD.size + 24, message=24) + world.random.randbytes(24)]
    for bad in nonsense:
        client = hello.Client(world.socket)
        client.attach()
        wait_for(lambda: client.answer()[0] != hello.WAITING, lambda: f"an answer to a hello:\n{tail(server.log)}")
        check(client.answer()[0] == hello.ATTACHED, f"a correct hello was refused: {client.answer()}")
        client.post(bad)
        app.progress()
        check(server.alive(), f"the supervisor died of {bad[:48].hex()}:\n{tail(server.log)}")
        client.close()
    works(world)
    app.finish()
    server.stop()


main_of_parts(__doc__, REFUSALS, "refused as it should be")
