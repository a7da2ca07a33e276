#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""The table of what the shim costs: every row natively and under the shim, alternating on the same machine in the same
minutes, because only their ratio means anything. Prints medians, ratio and spread against what is asked of each row, and
writes all values as JSON.

    compare.py --build build --json out.json                     everything (about seven minutes with PyTorch)
    compare.py --build build --only calls,bulk --json part.json  a part (--list says which there are)
    compare.py --merge part.json rest.json --json out.json       one table of several parts; plots.py draws it

With the software GPU there is no native side (it cannot serve the CUDA runtime by itself).
"""
import argparse
import datetime
import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
EIGHT = 8

# What is asked of a row: (kind, limit). below: the shim's own value; ratio: native/shim of a time, shim/native of a rate;
# plus: seconds above native.
TARGETS = {
    "launch_host_us": ("below", 0.5), "launch_throughput_us": ("ratio", 0.97), "launch_sync_us": ("below", 11),
    "copy_4B_d2h_us": ("below", 11), "copy_4B_h2d_us": ("below", 2), "event_record_us": ("below", 0.4),
    "memset_async_us": ("below", 0.4), "stream_wait_event_us": ("below", 0.4), "get_device_us": ("below", 0.06),
    "device_attribute_us": ("below", 0.06), "current_context_us": ("below", 0.06), "pointer_attribute_us": ("below", 0.06),
    "pointer_attributes_us": ("below", 0.06), "stream_is_capturing_us": ("below", 0.06), "malloc_free_1MiB_us": ("below", 25),
    "pinned_h2d_GBps": ("ratio", 0.98), "pinned_d2h_GBps": ("ratio", 0.98), "pageable_h2d_GBps": ("ratio", 1.3),
    "pageable_d2h_GBps": ("ratio", 1.0), "gpt_per_s": ("ratio", 1.0), "decode_per_s": ("ratio", 1.05),
    "conv_per_s": ("ratio", 0.99), "graph_per_s": ("ratio", 0.99), "start_s": ("plus", 0.3), "first_matmul_s": ("plus", 0.3),
    "first_conv_s": ("plus", 0.3), "idle_cpu_percent": ("below", 1), "eight_rounds_per_s": ("ratio", 0.95),
}


LABELS = {
    "launch_host_us": "launch, host cost, us",
    "launch_throughput_us": "launch, 100,000 to the sync, each, us",
    "event_record_us": "event record, us",
    "stream_wait_event_us": "stream wait event, us",
    "memset_async_us": "memset async, us",
    "launch_sync_us": "launch + stream sync, us",
    "copy_4B_d2h_us": "4-byte cudaMemcpy D2H, us",
    "copy_4B_h2d_us": "4-byte cudaMemcpy H2D, us",
    "get_device_us": "cudaGetDevice, us",
    "device_attribute_us": "cudaDeviceGetAttribute, us",
    "current_context_us": "cuCtxGetCurrent, us",
    "pointer_attribute_us": "cuPointerGetAttribute, us",
    "pointer_attributes_us": "cudaPointerGetAttributes, us",
    "stream_is_capturing_us": "cudaStreamIsCapturing, us",
    "malloc_free_1MiB_us": "cudaMalloc + cudaFree 1 MiB, us",
    "pinned_h2d_GBps": "pinned H2D 256 MiB, GB/s",
    "pinned_d2h_GBps": "pinned D2H 256 MiB, GB/s",
    "pageable_h2d_GBps": "pageable H2D 256 MiB, GB/s",
    "pageable_d2h_GBps": "pageable D2H 256 MiB, GB/s",
    "gpt_per_s": "PyTorch, small GPT training, it/s",
    "decode_per_s": "greedy decode, batch 1, `.item()` every token, tok/s",
    "conv_per_s": "12-layer conv net training, it/s",
    "graph_per_s": "CUDA graph replay of the GPT forward, /s",
    "start_s": "`import torch; torch.zeros(1).cuda()`, s",
    "start_import_s": "of it, the import, s",
    "first_matmul_s": "first matmul (loads cuBLAS), s",
    "first_conv_s": "first conv (loads cuDNN), s",
    "idle_cpu_percent": "idle: CPU of program and worker, % of a core",
    "eight_rounds_per_s": "eight programs at once, rounds/s in all",
    "eight_slowest_per_s": "of them, the slowest",
}


def target_of(name):
    if name.startswith("curve_"):
        return ("ratio", 0.9) if int(name.split("_")[3][:-1]) >= 64 else None
    if name.startswith(("growth_", "cpu_growth_")):
        return ("below", 1.5)  # the last tenth of the calls, in times of the first
    return TARGETS.get(name)


def is_rate(name):
    return name.endswith("_GBps") or name.endswith("_per_s")


class OutOfTime(Exception):
    pass


class Bench:
    """A server, and the rows so far."""

    def __init__(self, options, folder):
        self.options = options
        self.build = options.build.resolve()
        self.native_too = options.driver != "soft"
        self.scale = 1 if self.native_too else 16
        self.rows = {}
        self.limit = time.monotonic() + options.budget if options.budget else None
        self.environment = dict(os.environ, CRICKET_SOCKET=f"{folder}/server.sock", CRICKET_LOG="warn")
        self.server = subprocess.Popen([self.build / "server/cricket-server", "--driver", options.driver], env=self.environment)
        deadline = time.monotonic() + 60
        while subprocess.run([self.build / "server/cricketctl", "status"], env=self.environment, capture_output=True).returncode:
            if self.server.poll() is not None or time.monotonic() > deadline:
                raise SystemExit("cricket-server did not start")
            time.sleep(0.05)

    def end(self):
        self.server.terminate()
        self.server.wait()

    def sides(self):
        return ["native", "shim"] if self.native_too else ["shim"]

    def env(self, side):
        if side == "native":
            return dict(os.environ)
        return dict(self.environment, LD_PRELOAD=str(self.build / "client/libcudashim.so"))

    def add(self, side, name, value):
        self.rows.setdefault(name, {"native": [], "shim": []})[side].append(value)

    def check_time(self, needed=0):
        if self.limit and time.monotonic() + needed > self.limit:
            raise OutOfTime

    def program(self, name):
        return str(self.build / "tests/bench" / name)

    def start(self, side, command, **more):
        return subprocess.Popen([str(word) for word in command], env=self.env(side), text=True, stdout=subprocess.PIPE, **more)

    def finish(self, process, command):
        out, _ = process.communicate(timeout=600)
        if process.returncode:
            raise SystemExit(f"{' '.join(map(str, command))} ended with status {process.returncode}")
        return out

    def alternate(self, runs, command):
        """Runs it on each side in turn; yields (side, seconds at its start, what it printed)."""
        for _ in range(runs):
            self.check_time()
            for side in self.sides():
                begin = time.monotonic()
                yield side, begin, self.finish(self.start(side, command), command)


def calls(bench, *parts):
    runs = bench.options.runs
    for side, _, out in bench.alternate(runs, [bench.program("calls"), "--scale", bench.scale, *parts]):
        for name, value in json.loads(out).items():
            bench.add(side, name, value)


def frameworks(bench, names=("gpt", "decode", "conv", "graph")):
    command = [bench.options.python, HERE / "frameworks.py"]
    processes = {side: bench.start(side, command, stdin=subprocess.PIPE) for side in bench.sides()}

    def ask(side, name):
        process = processes[side]
        process.stdin.write(name + "\n")
        process.stdin.flush()
        line = process.stdout.readline()
        if not line:
            raise SystemExit(f"frameworks.py ({side}) ended: {name}")
        return float(line)

    try:
        for side, process in processes.items():
            if process.stdout.readline() != "ready\n":
                raise SystemExit(f"frameworks.py ({side}) did not start")
        for name in names:
            for side in processes:
                begin = time.monotonic()
                ask(side, name)  # warms up
                print(f"{name}, {side}, from the first on: {time.monotonic() - begin:.1f} s", flush=True)
            for _ in range(bench.options.runs):
                bench.check_time()
                for side in processes:
                    bench.add(side, name + "_per_s", ask(side, name))
    finally:
        for process in processes.values():
            process.stdin.close()
            process.wait(timeout=60)


def start(bench):
    for side, begin, out in bench.alternate(bench.options.runs, [bench.options.python, HERE / "start.py"]):
        times = json.loads(out)
        bench.add(side, "start_s", times["zeros"] - begin)
        bench.add(side, "start_import_s", times["imported"] - begin)
        bench.add(side, "first_matmul_s", times["matmul"] - times["before_matmul"])
        bench.add(side, "first_conv_s", times["conv"] - times["before_conv"])


def cpu_seconds(pid):
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def cpu_nanoseconds(pid):
    """Finer than cpu_seconds(), of the threads that there are."""
    total = 0
    for task in pathlib.Path(f"/proc/{pid}/task").glob("*/schedstat"):
        try:
            total += int(task.read_text().split()[0])
        except OSError:
            pass  # it has ended
    return total


def resident_kib(pid):
    try:
        for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmRSS"):
                return int(line.split()[1])
    except OSError:
        pass
    return 0


def descendants(pid):
    """Those that end meanwhile are left out."""
    found = []
    try:
        for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
            for child in (task / "children").read_text().split():
                found += [int(child), *descendants(int(child))]
    except OSError:
        pass
    return found


def idle(bench):
    """CPU of program and worker together, from a second after the last call on."""
    seconds = 4
    process = bench.start("shim", [bench.program("calls"), "--scale", bench.scale, "idle"], stdin=subprocess.PIPE)
    if process.stdout.readline() != "idle\n":
        raise SystemExit("calls idle: did not start")
    time.sleep(1)
    for _ in range(3):
        watched = [process.pid, *descendants(bench.server.pid)]
        before = sum(map(cpu_seconds, watched))
        time.sleep(seconds)
        bench.add("shim", "idle_cpu_percent", (sum(map(cpu_seconds, watched)) - before) / seconds * 100)
    process.communicate("\n")


def eight(bench):
    seconds = 2 / (1 if bench.native_too else 2)
    for _ in range(min(3, bench.options.runs)):
        bench.check_time(20)
        for side in bench.sides():
            begin = time.monotonic() + 6  # all have started by then
            command = [bench.program("calls"), "--scale", bench.scale, "share", seconds, begin]
            processes = [bench.start(side, command) for _ in range(EIGHT)]
            rates = [json.loads(bench.finish(process, command))["rounds_per_s"] for process in processes]
            bench.add(side, "eight_rounds_per_s", sum(rates))
            bench.add(side, "eight_slowest_per_s", min(rates))


def growth(bench):
    """Times and memory of a session that grows. growth: the last tenth of each kind of calls in times of the first; cpu_growth: the
    same of the CPU time of program and worker, which says more on a busy machine. memory: what came between the first tenth and the
    end; memory_end: all of it, when the program has done everything."""
    counts = bench.options.growth.split(",")
    for side in bench.sides() * bench.options.runs:
        bench.check_time()
        before = set(descendants(bench.server.pid))
        process = bench.start(side, [bench.program("growth"), *counts], stdin=subprocess.PIPE)
        memory, kib, cpu = {}, {}, {}
        for line in process.stdout:
            if not line.startswith("mark "):
                for name, (first, last) in json.loads(line).items():
                    bench.add(side, f"growth_{name}", last / first)
                    bench.add(side, f"grown_{name}_us", last / 1000)
                continue
            name, when = line[5:].strip().rsplit(" ", 1)
            pids = {"app": [process.pid]}
            if side == "shim":
                pids["worker"] = set(descendants(bench.server.pid)) - before
            cpu[when] = sum(cpu_nanoseconds(pid) for those in pids.values() for pid in those)
            if when == "last":
                bench.add(side, f"cpu_growth_{name}", (cpu["last"] - cpu["late"]) / max(1, cpu["first"] - cpu["begin"]))
            for who, those in pids.items() if when in ("first", "last") else ():
                kib[who] = sum(map(resident_kib, those))
                if when == "first":
                    memory[name, who] = kib[who]
                else:
                    bench.add(side, f"memory_{name}_{who}_MiB", (kib[who] - memory[name, who]) / 1024)
            process.stdin.write("\n")
            process.stdin.flush()
        if process.wait():
            raise SystemExit("growth ended with an error")
        for who, size in kib.items():
            bench.add(side, f"memory_end_{who}_MiB", size / 1024)


PARTS = {
    "calls": lambda bench: calls(bench, "host", "throughput", "posted", "launch_sync", "d2h", "h2d", "local", "memory"),
    "bulk": lambda bench: calls(bench, "bulk"),
    "curve": lambda bench: calls(bench, "curve"),
    "frameworks": frameworks,
    "start": start,
    "idle": idle,
    "eight": eight,
    "growth": growth,
}
NEED_TORCH = ("frameworks", "start")


def machine(options):
    facts = {"date": datetime.date.today().isoformat(), "cores": len(os.sched_getaffinity(0)), "kernel": platform.release(), "driver": options.driver}
    try:
        facts["GPU"], facts["version"] = [word.strip() for word in subprocess.run(
            ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"], capture_output=True, text=True,
            timeout=60, check=True).stdout.splitlines()[0].split(",")]
    except (OSError, subprocess.SubprocessError, IndexError):
        pass
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            facts["CPU"] = line.split(":", 1)[1].strip()
            break
    return facts


def verdict(name, native, shim):
    target = target_of(name)
    if not target:
        return "", ""
    kind, limit = target
    if kind == "below":
        return f"<= {limit:g}", "ok" if shim <= limit else "MISSED"
    if not native:
        return "", ""
    if kind == "plus":
        return f"<= native + {limit:g}", "ok" if shim <= native + limit else "MISSED"
    ratio = shim / native if is_rate(name) else native / shim
    return f">= {limit:g} of native", "ok" if ratio >= limit else "MISSED"


def rows_of(report):
    """The table, as markdown, and how many rows miss what is asked. The ratio is of speeds: above 1, the shim is faster;
    its spread is that of the pairs."""
    lines, missed = ["| row | native | shim | speed | spread | asked | |", "|---|---|---|---|---|---|---|"], 0
    for name, values in report["rows"].items():
        shim, native = statistics.median(values["shim"]) if values["shim"] else 0, None
        speed = spread = ""
        if values["native"] and values["shim"]:
            native = statistics.median(values["native"])
            of = (lambda n, s: s / n) if is_rate(name) else (lambda n, s: n / s)
            if native and shim:
                speed = f"{of(native, shim):.2f}"
                pairs = [of(n, s) for n, s in zip(values["native"], values["shim"]) if n and s]
                spread = f"{min(pairs):.2f} ... {max(pairs):.2f}" if len(pairs) > 1 else ""
        elif len(values["shim"]) > 1:
            spread = f"{min(values['shim']):.2f} ... {max(values['shim']):.2f}"
        asked, said = verdict(name, native, shim)
        missed += said == "MISSED"
        number = lambda value: "" if value is None else f"{value:.3f}" if value < 1 else f"{value:.2f}"  # noqa: E731
        lines.append(f"| {LABELS.get(name, name)} | {number(native)} | {number(shim)} | {speed} | {spread} | {asked} | {said} |")
    return lines, missed


def show(report):
    lines, missed = rows_of(report)
    print(", ".join(f"{key} {value}" for key, value in report["machine"].items()) + "\n")
    print("\n".join(lines))
    print(f"\n{missed} missed" + (f"; not measured for lack of time: {', '.join(report['left_out'])}" if report.get("left_out") else ""))
    return missed


def put_into(page, report):
    """Replaces the page's table (the curve is in a plot, and growth in the JSON)."""
    shown = {name: values for name, values in report["rows"].items() if not name.startswith(("curve_", "grow", "cpu_grow", "memory_"))}
    lines, _ = rows_of(dict(report, rows=shown))
    text = page.read_text()
    begin, end = text.index("| row | native"), text.index("\n\n", text.index("| row | native"))
    page.write_text(text[:begin] + "\n".join(lines) + text[end:])


def publish(options, report):
    """Writes what was asked for: all values, the page's table, the plots beside it. They are made elsewhere than the values, perhaps:
    a machine with a GPU need not have matplotlib."""
    if options.json:
        write(options.json, report)
    if options.page:
        put_into(options.page, report)
        subprocess.run([sys.executable, HERE / "plots.py", options.json, "--out", options.page.parent], check=True)


def write(path, report):
    path.write_text(json.dumps(report, indent=1) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=pathlib.Path, default=pathlib.Path("build"))
    parser.add_argument("--driver", default="real", help="as cricket-server's: real, soft or a path")
    parser.add_argument("--runs", type=int, default=5, help="of each side")
    parser.add_argument("--only", help=f"parts, with commas: {', '.join(PARTS)}")
    parser.add_argument("--budget", type=float, help="seconds after which no further run begins")
    parser.add_argument("--python", default="python3", help="an interpreter that has PyTorch")
    parser.add_argument("--growth", default="10000000,100000,10000", help="calls, allocations, functions")
    parser.add_argument("--cores", type=int, help="run all of it on so few cores")
    parser.add_argument("--json", type=pathlib.Path, help="write all values there")
    parser.add_argument("--merge", type=pathlib.Path, nargs="+", metavar="JSON", help="only one table of earlier parts")
    parser.add_argument("--page", type=pathlib.Path, help="put the table into this page, and draw the plots beside it (needs --json)")
    parser.add_argument("--check", action="store_true", help="fail when a row misses what is asked of it")
    parser.add_argument("--list", action="store_true", help="print the parts and end")
    options = parser.parse_args()
    if options.page and not options.json:
        parser.error("--page needs --json: the plots are drawn from it")
    if options.list:
        print("\n".join(PARTS))
        return 0
    if options.merge:
        report = {"machine": {}, "rows": {}}
        for path in options.merge:
            part = json.loads(path.read_text())
            report["machine"].update(part["machine"])
            report["rows"].update(part["rows"])
        publish(options, report)
        missed = show(report)
        return int(options.check and missed > 0)
    if options.cores:
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:options.cores])
    wanted = options.only.split(",") if options.only else list(PARTS)
    if unknown := set(wanted) - set(PARTS):
        raise SystemExit(f"there is no part {', '.join(sorted(unknown))}")
    has_torch = subprocess.run([options.python, "-c", "import torch"], capture_output=True).returncode == 0
    report = {"machine": machine(options), "rows": {}, "left_out": []}
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(options, folder)
        try:
            for part in wanted:
                if part in NEED_TORCH and (not has_torch or not bench.native_too):
                    print(f"{part}: left out, {options.python} has no torch" if not has_torch else
                          f"{part}: left out with the software GPU", file=sys.stderr)
                    continue
                begin = time.monotonic()
                try:
                    PARTS[part](bench)
                except OutOfTime:
                    report["left_out"].append(part)
                print(f"{part}: {time.monotonic() - begin:.0f} s", file=sys.stderr, flush=True)
                report["rows"] = bench.rows
                if options.json:
                    write(options.json, report)
        finally:
            bench.end()
    publish(options, report)
    missed = show(report)
    return int(options.check and missed > 0)


sys.exit(main())
