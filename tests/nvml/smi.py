#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""nvidia-smi on a machine with NVIDIA's driver: natively and through the server it prints the same, but for what a GPU
measures at the moment; and it runs without a device."""
import os
import re
import shutil
import signal
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "checkpoint"))
from harness import App, Skip, check, main  # noqa: E402

STEADY = "index,name,uuid,serial,driver_version,vbios_version,pci.bus_id,memory.total,power.max_limit,compute_cap,mig.mode.current"
MEASURED = "memory.used,utilization.gpu,temperature.gpu,power.draw,clocks.sm,pstate,ecc.errors.uncorrected.volatile.total"
COMMANDS = [["-L"], ["--query-gpu=" + STEADY, "--format=csv"], ["--query-gpu=" + MEASURED, "--format=csv"], [], ["-q"],
            ["topo", "-m"], ["--query-compute-apps=pid,name,used_memory", "--format=csv"], ["-q", "-x"], ["nvlink", "-s"],
            ["-q", "-d", "SUPPORTED_CLOCKS"], ["mig", "-lgip"]]


def steady(text):
    """Numbers change, the columns they stand in with them; what is said about what does not."""
    text = re.sub(r"\w{3} \w{3} +\d+ \d\d:\d\d:\d\d \d{4}", "TIME", text)
    return [re.sub(r" +", " ", re.sub(r"\d[\d.]*", "#", line)) for line in text.splitlines()]


def test(world, arguments):
    program = shutil.which("nvidia-smi") or "/usr/local/nvidia/bin/nvidia-smi"
    if not Path(program).exists():
        raise Skip("no nvidia-smi here")
    server = world.start_server()
    differences = 0
    for words in COMMANDS:
        native = world.run([program, *words])
        ours = world.run([program, *words], env=world.environment(LD_PRELOAD=str(world.shim), CRICKET_LOG="error"))
        exact = "query-gpu=" + STEADY in "".join(words) or words == ["-L"]
        view = (lambda text: text.splitlines()) if exact else steady
        native_lines, our_lines = view(native.stdout), view(ours.stdout)
        same = native_lines == our_lines and native.returncode == ours.returncode
        print(f"{'same' if same else 'DIFFERS'}: nvidia-smi {' '.join(words)} ({len(our_lines)} lines)")
        if same:
            continue
        differences += 1
        import difflib
        print("\n".join(list(difflib.unified_diff(native_lines, our_lines, "native", "shim", lineterm="", n=0))[:60]))
        print(f"exit status {native.returncode} natively, {ours.returncode} through the server")
    app = App(world, [program, "--loop-ms=100", "--query-gpu=utilization.gpu", "--format=csv"])
    for _ in range(10):
        app.progress()
        app.check_clean()
    os.kill(app.pid, signal.SIGTERM)
    check(world.sessions() == [], "nvidia-smi got a session")
    check(differences == 0, f"{differences} of {len(COMMANDS)} commands print something else")
    server.stop()


main(__doc__, test)
