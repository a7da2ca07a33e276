#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Attaches that are cut in two by a dump.

middle: the server has answered, the program has not seen it, and device work that the server began meanwhile waits for one
of the program's host functions. The answer in the image is of an earlier life; a program that took it for the new server's
would attach once more, and wait for ever.
old-answer: the same from the program's side, against a server played by hand: it may not be believed when the lock is there.
clock: where it is restored meanwhile, the clock says something else; it neither waits for its time to come nor gives up.
late: it is dumped and restored again before its worker comes to the hello, which is then of a process that is no more, but
has its number.
behind: a snapshot is asked for, and refused, while a copy of the parked session is still to be made.
cancelled: the thread that attaches is cancelled (pthread_cancel); the others can go on.
once-more: the same from the server's side, by a program played by hand: a second attach on a channel is answered.
"""
import os
import secrets
import signal
import struct
from pathlib import Path

import hello
from harness import Failure, check, children_of, main, tail, wait_for

ATTACH_STATE, CALLBACK_TICKET = 4096, 4096 + 448  # in the channel memfd (include/cricket/wire.h, ServerPage)
WAITING, ATTACHED = 0, 1
FUTEX = 202


class Channel:
    """The channel memfd of a process, as its server writes it."""

    def __init__(self, pid):
        links = [Path(f"/proc/{pid}/fd") / fd for fd in os.listdir(f"/proc/{pid}/fd")]
        found = [link for link in links if "memfd:cricket-channel" in os.readlink(link)]
        check(found, f"pid {pid} has no channel")
        self.fd = os.open(found[0], os.O_RDONLY)

    def word(self, offset, code):
        return struct.unpack(code, os.pread(self.fd, struct.calcsize(code), offset))[0]

    def attach_state(self):
        return self.word(ATTACH_STATE, "<I")

    def shown(self):
        return self.word(CALLBACK_TICKET, "<Q")


def says(server, text):
    return lambda: text in server.log.read_text(errors="replace")


def in_futex(task):
    return (task / "syscall").read_text().split()[0] == str(FUTEX)


def all_wait(pid):
    return all(in_futex(task) for task in Path(f"/proc/{pid}/task").iterdir())


def pausing(app):
    """In the pause before a launch with a host function, which makes no call."""
    if not app.alive():
        raise Failure(f"ended: {app.describe()}")
    lines = app.output().splitlines()
    return lines and lines[-1].startswith("pause ") and int(lines[-1].split()[1]) % 2 == 1


def middle(world):
    world.criu
    server = world.start_server()
    app = world.start("graphs", "--steps", "0", "--late-ms", "200", "--delay-ms", "1500")
    wait_for(lambda: pausing(app), lambda: f"a pause of {app.describe()}")
    images, gpu = world.folder / "img", world.folder / "gpu"
    # What it posts after the pause is in its ring, not executed yet.
    world.control("quiesce", app.pid)
    wait_for(lambda: in_futex(Path(f"/proc/{app.pid}")), "the program to wait for its launch")
    app.dump(images)
    world.control("snapshot", app.pid, gpu)
    server.kill()
    server = world.start_server()
    world.control("load", gpu)

    # The program says hello to a server that does not listen yet.
    os.kill(server.pid, signal.SIGSTOP)
    app.restore(images)
    channel = Channel(app.pid)
    wait_for(lambda: channel.attach_state() == WAITING and all_wait(app.pid), "the program to attach")
    os.kill(app.pid, signal.SIGSTOP)
    os.kill(server.pid, signal.SIGCONT)
    wait_for(lambda: channel.attach_state() == ATTACHED, lambda: f"the server to answer; its log:\n{tail(server.log)}")
    wait_for(channel.shown, lambda: f"the host function to be due; the server's log:\n{tail(server.log)}")

    app.dump(world.folder / "middle")
    wait_for(says(server, "device work waits for"), "the session to be parked with work that waits")
    app.restore(world.folder / "middle")
    os.kill(app.pid, signal.SIGCONT)  # it was stopped when it was dumped
    app.progress()
    wait_for(lambda: pausing(app), lambda: f"another round of {app.describe()}")
    print(app.finish().splitlines()[-1])
    server.stop()


def old_answer(world):
    server = hello.PlayedServer(world.socket)
    app = world.start("graphs", "--steps", "1")
    first = wait_for(server.next_hello, "a hello")
    # As an image would have it: answered, and nobody holds the lock.
    first.answer_attached()
    second = wait_for(server.next_hello, "the same hello again, since nobody holds the lock")
    check(second.next_epoch == first.next_epoch, "the second hello is another one")
    state = second.state()
    second.lock()
    check(state == hello.WAITING, "the answer to the hello before is still there when the hello is sent again")
    wait_for(server.next_hello, "another hello, since this one was not answered")
    check(second.posted() == 0, "the program takes an old answer for this server's, and makes calls")
    second.answer_attached()
    wait_for(second.posted, "the program's first call after an answer that is this server's")
    app.kill()
    server.close()


def clock(world):
    server = hello.PlayedServer(world.socket)
    seconds = world.folder / "clock"
    app = world.start("counter", "--steps", "1", preload=[world.build / "tests/checkpoint/libother_clock.so"],
                      env={"CRICKET_TEST_CLOCK": str(seconds), "CRICKET_RECONNECT_TIMEOUT": "30"})
    first = wait_for(server.next_hello, "a hello")
    for offset in (-3600, 86400):
        # Not a write in place: it may be read meanwhile.
        (world.folder / "next").write_text(str(offset))
        (world.folder / "next").rename(seconds)
        for _ in range(3):
            again = wait_for(server.next_hello, lambda: f"the hello again, the clock off by {offset} s; {app.describe()}", 15)
            check(again.next_epoch == first.next_epoch, "the hello is another one")
            check(app.alive(), f"it gave up: {app.describe()}")
    app.kill()
    server.close()


def callback_runs(pid):
    tasks = list(Path(f"/proc/{pid}/task").iterdir())
    return any((task / "comm").read_text().strip() == "cuda-callbacks" and not in_futex(task) for task in tasks)


def late(world):
    dumped_twice(world, "counter")
    dumped_twice(world, "hostfn", "--in-flight", "1", "--work-us", "2000000")
    check("device work waits for" in world.servers[-1].log.read_text(errors="replace"), "no host function was awaited")


def dumped_twice(world, *program):
    world.criu
    folder = world.folder / program[0]
    server = world.start_server()
    app = world.start(*program, "--steps", "0")
    app.progress()
    if program[0] == "hostfn":
        wait_for(lambda: callback_runs(app.pid), "a host function")
    app.dump(folder / "first")
    world.wait_state(app.pid, "parked")
    workers = children_of(server.pid)
    for worker in workers:
        os.kill(worker, signal.SIGSTOP)
    app.restore(folder / "first")
    # Asleep with its hello sent, whose page says that there is no answer; a host function is still at work.
    wait_for(lambda: Channel(app.pid).attach_state() == WAITING and in_futex(Path(f"/proc/{app.pid}")), "the program to attach")
    app.dump(folder / "second")
    app.restore(folder / "second")
    for worker in workers:
        os.kill(worker, signal.SIGCONT)
    app.progress(20)
    print(app.finish().splitlines()[-1])
    server.stop()


def behind(world):
    world.criu
    server = world.start_server()
    app = world.start_program([world.build / "tests/checkpoint/behind", "--steps", "0", "--work-us", "1000000"])
    app.progress()
    wait_for(lambda: callback_runs(app.pid) and in_futex(Path(f"/proc/{app.pid}")), "a copy behind a host function")
    app.dump(world.folder / "img")
    world.wait_state(app.pid, "parked")
    world.refused("snapshot", app.pid, world.folder / "gpu", naming="host function")
    app.restore(world.folder / "img")
    app.progress()
    print(app.finish().splitlines()[-1])
    server.stop()


def cancelled(world):
    played = hello.PlayedServer(world.socket)
    app = world.start_program([world.build / "tests/checkpoint/cancelled"])
    wait_for(played.next_hello, "a hello")
    os.kill(app.pid, signal.SIGUSR1)
    wait_for(lambda: "cancelled" in app.output(), "the thread to be cancelled")
    for _ in range(2):  # the first may have been under way
        wait_for(played.next_hello, "a further hello of the thread that is in its call", 10)
    played.close()
    world.socket.unlink()
    server = world.start_server()
    os.kill(app.pid, signal.SIGUSR1)
    print(app.finish(stop=False).splitlines()[-1])
    server.stop()


def once_more(world):
    server = world.start_server()
    client = hello.Client(world.socket)
    token, epochs = secrets.token_bytes(16), [0] + [secrets.randbits(62) * 2 + 1 for _ in range(3)]
    for before, after in zip(epochs, epochs[1:]):
        client.forget_answer()
        client.attach(token=token, epoch=before, next_epoch=after)
        wait_for(lambda: client.answered(after), lambda: f"an answer; the server's log:\n{tail(server.log)}")
        check(client.answer()[0] == hello.ATTACHED, f"a hello was answered with {client.answer()}")
    client.close()
    server.stop()


CASES = {"middle": middle, "old-answer": old_answer, "clock": clock, "late": late, "behind": behind, "cancelled": cancelled,
         "once-more": once_more}
main(__doc__, lambda world, arguments: CASES[arguments.case](world),
     lambda parser: parser.add_argument("case", choices=CASES))
