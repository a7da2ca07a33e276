#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Whatever is said to the server's sockets, and whoever says it: it is named in the log, costs nobody else anything, and leaves
neither memory nor descriptors nor threads behind."""
import contextlib
import functools
import os
import resource
import shutil
import signal
import socket
import struct
import sys
import time
from pathlib import Path

import hello
from harness import at_work, check, main_of_parts, tail, wait_for

PARTS = {}
PROGRAM, VERSION = 0x20435443, 2
STATUS, RESUME, SNAPSHOT, GUARD = 1, 3, 4, 25
LAST = 0x80000000  # of a record's fragments


def part(function):
    PARTS[function.__name__.replace("_", "-")] = function
    return function


def call(procedure, arguments=b"", program=PROGRAM, version=VERSION, rpc=2, direction=0, credential=0, xid=7):
    return struct.pack(">6I", xid, direction, rpc, program, version, procedure) + struct.pack(">2I", 0, credential) + struct.pack(">2I", 0, 0) + arguments


def record(message, last=True, length=None):
    return struct.pack(">I", (LAST if last else 0) | (len(message) if length is None else length)) + message


def string(text, length=None):
    return struct.pack(">I", len(text) if length is None else length) + text + bytes(-len(text) % 4)


class Peer:
    """A connection that says what it is told to."""

    def __init__(self, world, path="server.sock.control", waits=True):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.setblocking(waits)
        self.socket.connect(str(world.folder / path))
        self.socket.settimeout(60)

    def send(self, data):
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.socket.sendall(data)
        return self

    def reply(self):
        """The next message; None once the server has closed."""
        got = b""
        try:
            while len(got) < 4 or len(got) < 4 + (struct.unpack(">I", got[:4])[0] & ~LAST):
                more = self.socket.recv(65536)
                if not more:
                    return None
                got += more
        except ConnectionResetError:
            return None
        return got[4:]

    def accepted(self):
        """How an accepted call ended (RFC 5531: 0 success, 1 other program, 2 other version, 3 no procedure, 4 garbage)."""
        reply = self.reply()
        return reply and struct.unpack_from(">I", reply, 20)[0]

    def close(self):
        self.socket.close()


class Held:
    """What the server has of what could leak."""

    def __init__(self, server):
        proc = Path(f"/proc/{server.pid}")
        self.descriptors, self.threads = len(os.listdir(proc / "fd")), len(os.listdir(proc / "task"))
        self.kib = next(int(line.split()[1]) for line in (proc / "status").read_text().splitlines() if line.startswith("VmRSS"))


def nothing_left(server, before, kib=2048):
    def as_before():
        now = Held(server)
        return now.descriptors <= before.descriptors and now.threads <= before.threads and now.kib <= before.kib + kib

    wait_for(as_before, lambda: f"the server to hold what it did before, {vars(before)}, instead of {vars(Held(server))}:\n{tail(server.log)}")


def stranger(kib=2048):
    """A part in which a server with a program at work is spoken to: then it holds what it did before, but for so much memory, and the program
    goes on to its end."""

    def of(function):
        @part
        @functools.wraps(function)
        def run(world):
            server = world.start_server()
            app = world.start("counter", "--steps", "0", "--quiet")
            at_work(world, app)
            for _ in range(20):  # threads have had their stacks, malloc its arenas
                world.sessions()
            before = Held(server)
            function(world, server, app, before)
            nothing_left(server, before, kib)
            at_work(world, app)
            app.finish()
            server.stop()
        return run
    return of


@stranger()
def other_calls(world, server, app, before):
    """Calls that are well-formed and nobody's business: answered as RFC 5531 says, on a connection that goes on."""
    peer = Peer(world)
    for message, status in ((call(STATUS, program=99), 1), (call(STATUS, version=1), 2), (call(STATUS, version=1 << 31), 2), (call(999), 3),
                            (call(GUARD), 4), (call(GUARD, string(b"x", 100)), 4), (call(GUARD, string(b"x" * 5000)), 4),
                            (call(GUARD, string(b"", 0xFFFFFFFF)), 4), (call(GUARD, string(b"", 0x7FFFFFFF)), 4),
                            (call(RESUME, string(b"s" * 200)), 4), (call(GUARD, string(b"/tmp/a\0b")), 4), (call(STATUS), 0)):
        got = peer.send(record(message)).accepted()
        check(got == status, f"answered with {got} instead of {status}: {message.hex()}")
    peer.send(b"".join(record(call(STATUS)[at:at + 4], last=at == 36) for at in range(0, 40, 4)))  # in pieces
    check(peer.accepted() == 0, "a call in fragments was not answered")
    peer.close()


@stranger()
def no_calls(world, server, app, before):
    """What is no call ends its connection, and only that."""
    for data in (world.random.randbytes(64), record(b""), record(b"", length=0x7FFFFFFF) + bytes(1000), record(bytes(40)), record(call(STATUS, rpc=3)),
                 record(call(STATUS, direction=1)), record(call(STATUS, credential=401) + bytes(404)), record(call(STATUS, credential=0xFFFFFFFF)),
                 record(call(STATUS)[:20])):
        peer = Peer(world)
        peer.send(data)
        peer.socket.shutdown(socket.SHUT_WR)
        while peer.reply() is not None:
            pass
        peer.close()
    for _ in range(3000):  # each leaves what was understood of it, if anything does
        peer = Peer(world) if _ % 100 == 0 else peer
        peer.send(record(call(SNAPSHOT, string(b"t" * 100) + string(b"/" * 4000) + string(b"", 999))))
        check(peer.accepted() == 4, "garbage was not called that")
        if _ % 100 == 99:
            peer.close()


@stranger()
def large_calls(world, server, app, before):
    """A length is no reason to take memory, and neither is what follows it."""
    peer = Peer(world)
    block = bytes(1 << 20)
    peer.send(struct.pack(">I", LAST | 0x7FFFFFFC) + call(RESUME, struct.pack(">I", 0x7FFFFF00)))
    for _ in range(256):
        peer.send(block)
    now = Held(server)
    check(now.kib < before.kib + 8192, f"256 MiB in one call made the server grow from {before.kib} to {now.kib} KiB")
    peer.close()


@stranger(8192)  # malloc's arenas, of 256 threads
def half_open(world, server, app, before):
    """Connections that say nothing, or begin and stop, hold up nobody, and do not stay for ever."""
    peers = [Peer(world) for _ in range(150)]
    for number, peer in enumerate(peers):
        peer.send(record(call(STATUS))[:number % 40])
    check(world.session_of(app.pid) is not None, "no status beside half-open connections")
    more = []
    for _ in range(1000):  # the server has room for 256
        with contextlib.suppress(OSError):
            more.append(Peer(world))
    wait_for(lambda: world.control("status", accept_failure=True).returncode == 0, "the control socket to have room again")
    app.check_clean()
    for peer in peers:
        check(peer.reply() is None, "a connection that never said a call was answered")
    for peer in peers + more:
        peer.close()


@stranger()
def never_read(world, server, app, before):
    """Who asks and does not listen is given up."""
    peers = [Peer(world) for _ in range(4)]
    for peer in peers:
        peer.socket.setblocking(False)
        with contextlib.suppress(BlockingIOError, BrokenPipeError):
            while True:
                peer.socket.send(record(call(STATUS)) * 1000)
    check(world.session_of(app.pid) is not None, "no status beside who does not listen")
    nothing_left(server, before)
    for peer in peers:
        peer.close()


@stranger(16384)
def gone_in_the_middle(world, server, app, before):
    """Whoever asks and goes away before the answer."""
    for again in (False, True):  # the first time malloc gets its arenas
        before = Held(server) if again else before
        for number in range(300):
            peer = Peer(world)
            peer.send(record(call((STATUS, RESUME, SNAPSHOT, GUARD)[number % 4], string(str(app.pid).encode()) + string(b"relative") + string(b"x"))))
            peer.close()
        nothing_left(server, before, 2048 if again else 16384)


def cpu_seconds(pid):
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@stranger()
def no_descriptors(world, server, app, before):
    """A server that can open nothing more turns away who comes, without turning round and round, and goes on when it can again."""
    held = Held(server).descriptors
    limits = resource.prlimit(server.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(server.pid, resource.RLIMIT_NOFILE, (held + 8, limits[1]))
    peers = []
    for path in ["server.sock.control"] * 20 + ["server.sock.rpc"] * 20:
        with contextlib.suppress(OSError):
            peers.append(Peer(world, path, waits=False))
    began, used = time.monotonic(), cpu_seconds(server.pid)
    wait_for(lambda: time.monotonic() - began > 2, "two seconds")
    used = cpu_seconds(server.pid) - used
    check(used < 0.5, f"the server used {used:.2f} s of two, waiting for descriptors:\n{tail(server.log)}")
    app.check_clean()
    resource.prlimit(server.pid, resource.RLIMIT_NOFILE, limits)
    for peer in peers:
        peer.close()
    check("Too many open files" in server.log.read_text(), f"nobody says what it lacks:\n{tail(server.log)}")


@stranger()
def descriptors_of_strangers(world, server, app, before):
    """Descriptors that come with what is no hello are closed."""
    client = hello.Client(world.socket)
    for number in range(500):
        client.send(world.random.randbytes(number), [client.fd] * (1 + number % 200))
    client.close()
    nothing_left(server, before)
    check(len(server.log.read_text().splitlines()) < 200, "as many lines in the log as there was nonsense")


@part
def names(world):
    """Names of programs and files are bytes: what is shown of them is text of one line, and what is saved comes back."""
    world.criu
    server = world.start_server()
    for name in (b"new\nline", b"esc\x1b[31mape", b"caf\xe9", "ni\u00f1o".encode(), b"x" * 200):
        program = os.fsencode(world.folder) + b"/" + name
        shutil.copy(world.build / "examples/counter", program)
        app = world.start_program([os.fsdecode(program), "--steps", "0", "--quiet"])
        at_work(world, app)
        text = world.control("status").stdout
        check(len(text.splitlines()) == 3 and all(letter.isprintable() for letter in text.replace("\n", "")), f"the status of {name}: {text!r}")
        place = world.folder / f"place{world.next_number()}"
        world.control("checkpoint", app.pid, place)
        world.children.wait(app.pid, "the checkpointed program")
        world.children.status.pop(app.pid, None)
        world.control("verify", place)
        world.control("restore", place)
        at_work(world, app)
        app.finish()
    check(all(line.isprintable() for line in server.log.read_text().splitlines()), f"the log has what cannot be printed:\n{tail(server.log)}")
    server.stop()


main_of_parts(__doc__, PARTS, "nobody was harmed")
