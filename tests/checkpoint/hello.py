# SPDX-License-Identifier: MIT
"""A client and a server reduced to the attach (include/cricket/wire.h), to say what no well-behaved one would say."""
import array
import fcntl
import mmap
import os
import secrets
import socket
import struct

PROTOCOL = 3
PAGE = 4096
HELLO = struct.Struct("<QII16sQQQQQQ64sQ4096s")
HELLO_MAGIC = int.from_bytes(b"CHELLO01", "little")
CHANNEL_MAGIC = int.from_bytes(b"CCHANN01", "little")
TAIL_OFFSET = 128
WAITING, ATTACHED, REFUSED = range(3)
REFUSAL_PROTOCOL = 1
RECORD = struct.Struct("<IIQIIQQQ")
NO_SLOT = 0xFFFFFFFF


class Client:
    """Holds a channel memfd as the shim would make it; attach() sends the one datagram."""

    def __init__(self, path):
        self.path = str(path)
        sizes = {"ring": 1 << 16, "slots": 16 * PAGE, "up": 1 << 16, "down": 1 << 16}
        offsets, end = {}, 2 * PAGE
        for name, size in sizes.items():
            offsets[name] = end
            end += size
        self.ring_offset = offsets["ring"]
        self.fd = os.memfd_create("channel")
        os.ftruncate(self.fd, end)
        self.memory = mmap.mmap(self.fd, end)
        self.geometry = [offsets["ring"], sizes["ring"], offsets["slots"], PAGE, 16, offsets["up"], sizes["up"],
                         offsets["down"], sizes["down"], end]
        self.host_fd = os.memfd_create("host")
        self.host_bytes = 1 << 21
        os.ftruncate(self.host_fd, self.host_bytes)

    def attach(self, protocol=PROTOCOL, fds=None, **changed):
        self.memory[0:16] = struct.pack("<QII", CHANNEL_MAGIC, protocol, 0)
        self.memory[16:96] = struct.pack("<10Q", *self.geometry)
        values = {"magic": HELLO_MAGIC, "protocol": protocol, "pid": os.getpid(), "token": secrets.token_bytes(16),
                  "epoch": 0, "next_epoch": secrets.randbits(63), "first_seq": 1, "first_offset": 0, "next_seq": 1,
                  "host_bytes": self.host_bytes, "program": b"hello.py",
                  "environment_bytes": 0, "environment": b"", **changed}
        self.send(HELLO.pack(*values.values()), [self.fd, self.host_fd] if fds is None else fds)

    def send(self, data, fds=()):
        ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.sendmsg([data], ancillary, 0, self.path)

    def answer(self):
        """State, refusal and text as the server wrote them."""
        state, refusal = struct.unpack_from("<II", self.memory, PAGE)
        text = bytes(self.memory[PAGE + 32:PAGE + 32 + 256]).split(b"\0")[0].decode(errors="replace")
        return state, refusal, text

    def post(self, record):
        """Puts raw bytes where the next record is expected and says that they are there."""
        (tail,) = struct.unpack_from("<Q", self.memory, TAIL_OFFSET)
        start = self.ring_offset + tail % (1 << 16)
        self.memory[start:start + len(record)] = record
        struct.pack_into("<Q", self.memory, TAIL_OFFSET, tail + len(record))

    def close(self):
        self.memory.close()
        os.close(self.fd)
        os.close(self.host_fd)

    def forget_answer(self):
        struct.pack_into("<II", self.memory, PAGE, WAITING, 0)

    def answered(self, epoch):
        """Whether there is an answer to the hello with this next_epoch."""
        return self.answer()[0] != WAITING and struct.unpack_from("<Q", self.memory, PAGE + 8)[0] == epoch


class Received:
    """A hello, with the channel that came along."""

    def __init__(self, data, fds):
        self.next_epoch = HELLO.unpack(data[:HELLO.size])[5]
        self.fds = fds
        self.memory = mmap.mmap(fds[0], 2 * PAGE)
        self.locked = None

    def state(self):
        return struct.unpack_from("<I", self.memory, PAGE)[0]

    def posted(self):
        """Bytes of calls in the ring."""
        return struct.unpack_from("<Q", self.memory, TAIL_OFFSET)[0]

    def answer_attached(self):
        self.answer(ATTACHED, 0)

    def refuse(self, refusal, text):
        self.memory[PAGE + 32:PAGE + 32 + len(text) + 1] = text.encode() + b"\0"
        self.answer(REFUSED, refusal)

    def answer(self, state, refusal):
        struct.pack_into("<Q", self.memory, PAGE + 8, self.next_epoch)
        struct.pack_into("<I", self.memory, PAGE + 4, refusal)
        struct.pack_into("<I", self.memory, PAGE, state)

    def close(self):
        self.memory.close()
        for fd in self.fds:
            os.close(fd)

    def lock(self):
        """As a worker does that serves the channel: through an open file description of its own."""
        self.locked = os.open(f"/proc/self/fd/{self.fds[0]}", os.O_RDWR)
        F_OFD_SETLK = 37
        fcntl.fcntl(self.locked, F_OFD_SETLK, struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, 0, 1, 0))


class PlayedServer:
    """Takes hellos; what becomes of them is the test's."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(path))
        self.socket.setblocking(False)

    def next_hello(self):
        try:
            data, ancillary, _, _ = self.socket.recvmsg(65536, 4096)
        except BlockingIOError:
            return None
        fds = array.array("i")
        for level, kind, content in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                fds.frombytes(content[:len(content) - len(content) % fds.itemsize])
        return Received(data, fds) if len(data) == HELLO.size else None

    def close(self):
        self.socket.close()


class RefusingServer(PlayedServer):
    """Answers each hello with a refusal, as a server of another protocol version would."""

    def refuse_one(self, refusal, text):
        """True once a hello came and was refused."""
        hello = self.next_hello()
        if not hello:
            return False
        hello.refuse(refusal, text)
        hello.close()
        return True
