#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""NVML from an application through the server to the NVML behind it. The argument chooses the case."""
import os
import shutil
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "checkpoint"))
from harness import App, check, children_of, main, wait_for  # noqa: E402

HERE = Path(__file__).resolve().parent


def user(world, *options, **kwargs):
    return App(world, [world.build / "tests/nvml/nvml_user", *options], **kwargs)


def python(world, program, *arguments, **environment):
    """Runs a Python program under the shim; its output and log lines in one text."""
    return world.run([sys.executable, "-B", program, *arguments],
                     env=world.environment(LD_PRELOAD=str(world.shim), **environment))


def case_calls(world):
    """Every way a parameter can travel, however the library is asked for."""
    os.environ["SOFTGPU_DEVICES"] = "2"
    server = world.start_server()
    app = world.start("counter", "--steps", "0", "--delay-ms", "1")
    app.progress()
    for name in ("libnvidia-ml.so.1", "libnvidia-ml.so", "/usr/lib/nowhere/libnvidia-ml.so.1"):
        result = python(world, HERE / "calls.py", name, app.pid)
        lines = result.stdout.splitlines()
        check(result.returncode == 0 and lines[-1] == "PASS", f"calls.py {name}:\n{result.stdout}")
        for function in ("nvmlDeviceSetPowerManagementLimit", "nvmlGpmSampleAlloc", "nvmlDeviceRegisterEvents"):
            said = [line for line in lines if function in line]
            check(len(said) == 1, f"{function} should name itself once in the log:\n{result.stdout}")
    # Preloaded by a path that soon means nothing.
    program = world.folder / "moved.py"
    program.write_text("import ctypes, os\nos.chdir('/')\nprint(ctypes.CDLL('libnvidia-ml.so.1').nvmlInit_v2())\n")
    result = world.run([sys.executable, program], cwd=world.shim.parent,
                       env=world.environment(LD_PRELOAD="./" + world.shim.name))
    check(result.stdout.splitlines()[-1:] == ["0"], f"preloaded by a relative path:\n{result.stdout}")
    check(len(world.sessions()) == 1, "a process that uses NVML alone got a session")
    app.finish()
    server.stop()


def case_linked(world):
    """A program linked with NVML, and LD_PRELOAD=libcudashim.so alone."""
    server = world.start_server()
    print(user(world, "--steps", "200").finish(stop=False).splitlines()[-1])
    check(world.sessions() == [], "a process that uses NVML alone got a session")
    server.stop()


def case_cycle(world):
    """Plain criu at random moments, in a call or out of one; half of the time a new server."""
    world.criu
    server = world.start_server()
    app = user(world)
    app.progress()
    images = world.folder / "img"
    for _ in range(20):
        time.sleep(world.random.random() * 0.03)  # not a wait for anything: the moment is the test's input
        app.dump(images)
        if world.random.random() < 0.5:
            server.kill()
            server = world.start_server()
        app.restore(images)
        app.progress()
        shutil.rmtree(images)
    print(app.finish().splitlines()[-1])
    server.stop()


def case_server_gone(world):
    """The server goes away under a program that calls, and comes back."""
    server = world.start_server()
    app = user(world)
    app.progress()
    server.kill()
    wait_for(lambda: "is gone" in app.errors.read_text(), "the program to notice")
    server = world.start_server()
    app.progress()
    app.finish()
    server.stop()


def case_accidents(world):
    """The process behind NVML dies: of a call, and under one that is not to blame."""
    os.environ["SOFTGPU_NVML_DIES"] = "1"
    server = world.start_server()
    program = world.folder / "dies.py"
    program.write_text("""
import ctypes
nvml = ctypes.CDLL("libnvidia-ml.so.1")
device, number = ctypes.c_void_p(), ctypes.c_uint()
print(nvml.nvmlInit_v2(), nvml.nvmlDeviceGetHandleByIndex_v2(0, ctypes.byref(device)),
      nvml.nvmlDeviceGetBoardId(device, ctypes.byref(number)), nvml.nvmlDeviceGetIndex(device, ctypes.byref(number)))
""")
    result = python(world, program)
    check(result.stdout.splitlines()[-1:] == ["0 0 999 0"], f"a call that kills NVML's process:\n{result.stdout}")
    app = user(world)
    app.progress()
    for _ in range(5):
        for pid in children_of(server.pid):
            if b"--nvml-worker" in Path(f"/proc/{pid}/cmdline").read_bytes():
                os.kill(pid, 9)
        app.progress()
    app.finish()
    check(server.alive(), "the server ended with its NVML process")
    server.stop()


def case_nobody(world):
    """Without a server, and with one that has no NVML: said at once, with NVML's own number."""
    program = world.folder / "init.py"
    program.write_text("""
import ctypes
nvml = ctypes.CDLL("libnvidia-ml.so.1")
nvml.nvmlErrorString.restype = ctypes.c_char_p
print(nvml.nvmlInit_v2(), nvml.nvmlShutdown(), nvml.nvmlErrorString(9).decode())
""")
    for attempt in ("no server", "no NVML"):
        result = python(world, program)
        check(result.returncode == 0 and result.stdout.splitlines()[-1].startswith("9 1 "), f"{attempt}:\n{result.stdout}")
        check(attempt != "no server" or "no cricket-server at" in result.stdout, f"nothing was said:\n{result.stdout}")
        if attempt == "no server":
            none = world.folder / "none.so"
            none.write_text("no library")
            server = world.start_server("--nvml", none)
    check("no NVML" in server.log.read_text(), "the server did not say that it has no NVML")
    server.stop()
    # Our own library is none.
    server = world.start_server("--nvml", world.build / "client/libcricket-nvml.so")
    result = python(world, program)
    check(result.stdout.splitlines()[-1].startswith("12 1 "), f"our own library:\n{result.stdout}")
    server.stop()


def case_strangers(world):
    """Nonsense at the socket costs nobody anything."""
    import array
    import socket
    server = world.start_server()
    stranger = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    stranger.connect(str(world.socket) + ".nvml")
    magic = bytes.fromhex("43434e564d4c3031")

    def send(datagram, *contents):
        fds = []
        for content in contents:
            fd = os.memfd_create("x")
            os.write(fd, content)
            fds.append(fd)
        stranger.sendmsg([datagram], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else [])
        for fd in fds:
            os.close(fd)

    good = magic + (1).to_bytes(4, "little") + bytes(4)

    def page(call_bytes, reply_offset, reply_capacity):
        words = [0, call_bytes, reply_offset, reply_capacity, 0, 0]
        return (magic + b"".join(word.to_bytes(4, "little") for word in words)).ljust(4096, b"\0")

    noise = [lambda: send(world.random.randbytes(world.random.randrange(1, 200))),
             lambda: send(good), lambda: send(good, b"", b""), lambda: send(good, b"short"),
             lambda: send(good, world.random.randbytes(20000)),
             lambda: send(good, page(0xffffffff, 4096, 1)), lambda: send(good, page(100, 4096, 0xffffffff)),
             lambda: send(good, page(100, 8192, 4096) + world.random.randbytes(8192)),
             lambda: send(good, page(4096, 0, 4096) + bytes(8192))]
    app = user(world)
    app.progress()
    for _ in range(300):
        world.random.choice(noise)()
    app.progress()
    app.finish()
    check(server.alive(), "the server ended")
    check("died" not in server.log.read_text(), "NVML's process died of nonsense")
    server.stop()


def test(world, arguments):
    globals()["case_" + arguments.case.replace("-", "_")](world)


main(__doc__, test, lambda parser: parser.add_argument("case"))
