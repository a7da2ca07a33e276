# SPDX-License-Identifier: MIT
"""What run.py and samples.py share: run a program natively and under the shim, watch it, compare, and tell.

A shimmed program and all its descendants are looked at about twenty times a second: a /dev/nvidia* among their open
files or mappings fails the case, however right the output is. Every program gets a session and a folder of its own
and is ended with all its descendants at its limit, so a hanging one costs its limit and nothing else.
"""
import concurrent.futures
import dataclasses
import difflib
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "checkpoint"))
import harness  # noqa: E402

WATCH_INTERVAL = 0.05  # seconds between two looks at a shimmed program
OUTPUT_KEPT = 1 << 20  # bytes of one output that are compared; more is a fault of the case
UNSUPPORTED = re.compile(r"^cricket\[\d+\] error: (\S+) is not supported: (.*)$", re.M)
SHIM_LINE = re.compile(r"^cricket\[\d+\] .*\n?", re.M)


@dataclasses.dataclass
class Case:
    name: str
    command: list
    folder: Path = None  # working directory; a private one when None
    env: dict = dataclasses.field(default_factory=dict)
    limit: float = 120.0  # seconds
    exclusive: bool = False
    errors_too: bool = False  # standard error is compared as well, without the shim's own lines
    masks: list = dataclasses.field(default_factory=list)  # (compiled pattern, replacement), applied to both outputs
    alone: bool = False  # judged by its own exit status: it starts server and shim itself
    allowed: tuple = ()  # functions that may be refused


@dataclasses.dataclass
class Run:
    status: int = None  # negative: the signal; None: ended at the limit
    seconds: float = 0.0
    out: str = ""
    err: str = ""
    gpu_files: list = dataclasses.field(default_factory=list)
    looks: int = 0

    @property
    def verdict(self):
        if self.status is None:
            return "ended at its limit"
        return f"signal {signal.Signals(-self.status).name}" if self.status < 0 else f"status {self.status}"


def family(pid):
    """pid and all its descendants as {pid: start time}; those too that lost their parent but not the session."""
    parents, sessions, started = {}, [], {}
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        try:
            with open(f"/proc/{entry}/stat", "rb") as stat:
                fields = stat.read().rsplit(b")", 1)[1].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        parents.setdefault(int(fields[1]), []).append(int(entry))
        started[int(entry)] = int(fields[19])
        if int(fields[3]) == pid:
            sessions.append(int(entry))
    found, todo = {}, [pid, *sessions]
    while todo:
        one = todo.pop()
        if one not in found and one in started:
            found[one] = started[one]
            todo += parents.get(one, [])
    return found


def start_time(pid):
    try:
        with open(f"/proc/{pid}/stat", "rb") as stat:
            return int(stat.read().rsplit(b")", 1)[1].split()[19])
    except (FileNotFoundError, ProcessLookupError):
        return None


def orphans(mark):
    """Processes that came to us because their parent ended, told from others by a word of their environment."""
    found = {}
    for pid in harness.children_of(os.getpid()):
        try:
            with open(f"/proc/{pid}/environ", "rb") as environ:
                if mark.encode() in environ.read().split(b"\0"):
                    found[pid] = start_time(pid)
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue
    return found


def gpu_files(pid, started, prefix):
    """Descriptions of what the process with this number and start time holds whose path begins with `prefix`."""
    found = []
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as words:
            name = f"pid {pid} ({words.read(200).replace(bytes(1), b' ').decode(errors='replace').strip()})"
        for entry in os.listdir(f"/proc/{pid}/fd"):
            try:
                target = os.readlink(f"/proc/{pid}/fd/{entry}")
            except FileNotFoundError:
                continue
            if target.startswith(prefix):
                found.append(f"{name} has {target} open as {entry}")
        with open(f"/proc/{pid}/maps", "rb") as maps:
            text = maps.read()
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return found
    if prefix.encode() in text:
        found += [f"{name} maps {line.split(None, 5)[-1].strip().decode(errors='replace')}"
                  for line in text.splitlines() if (b" " + prefix.encode()) in line]
    # Somebody else may have been given its number, before or while we looked.
    return found if found and start_time(pid) == started else []


class Stage:
    """The world that the cases run in: one server, the children, a folder that vanishes."""

    def __init__(self, options):
        self.options = options
        self.world = harness.World(options)
        self.lock = threading.Lock()  # over every start and every reaping: a status must reach who waits for it
        self.server = None

    def start_server(self):
        if not self.server:
            self.server = self.world.start_server("--park-timeout", "5")

    def ended(self, pid):
        with self.lock:
            return self.world.children.ended(pid)

    def run(self, case, shim):
        world = self.world
        with self.lock:
            number = world.next_number()
        private = world.folder / f"run{number}"
        private.mkdir()
        out, err = private / "out", private / "err"
        mark = f"CRICKET_TEST_RUN={os.getpid()}.{number}"
        more = {"CRICKET_TEST_RUN": mark.split("=")[1], "PYTHONUNBUFFERED": "1", "CRICKET_LOG": "warn", "CUDA_CACHE_PATH": str(private / "cuda"),
                "TRITON_CACHE_DIR": str(private / "triton"), "TORCHINDUCTOR_CACHE_DIR": str(private / "inductor"),
                "CUPY_CACHE_DIR": str(private / "cupy"), "NUMBA_CACHE_DIR": str(private / "numba"), **case.env}
        if shim:
            more["LD_PRELOAD"] = str(world.shim)
        elif world.driver == "soft" and not case.alone:
            more["LD_LIBRARY_PATH"] = str(world.soft_driver.parent)
        result = Run()
        started = time.monotonic()
        with open(out, "wb") as o, open(err, "wb") as e, self.lock:
            pid = world.children.start(case.command, stdin=subprocess.DEVNULL, stdout=o, stderr=e, cwd=case.folder or private,
                                       start_new_session=True, env=world.environment(**more))
        relatives = {}
        pause = 0.005
        while not self.ended(pid):
            if time.monotonic() - started > case.limit:
                break
            relatives.update(family(pid))
            if shim:
                for one, born in list(relatives.items()):
                    for line in gpu_files(one, born, self.options.forbidden):
                        if line not in result.gpu_files:
                            result.gpu_files.append(line)
                result.looks += 1
            time.sleep(pause)
            pause = min(pause * 1.5, WATCH_INTERVAL)
        result.seconds = time.monotonic() - started
        self.end(pid, relatives, mark)
        with self.lock:
            result.status = world.children.status.get(pid) if result.seconds <= case.limit else None
        result.out, result.err = (path.read_bytes()[:OUTPUT_KEPT].decode(errors="replace") for path in (out, err))
        if not self.options.keep_runs:
            harness.shutil.rmtree(private, ignore_errors=True)
        return result

    def end(self, pid, relatives, mark):
        """Nothing that a case started outlives it."""
        try:
            os.killpg(pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            pass
        for one, started in {**relatives, **family(pid), **orphans(mark)}.items():
            if one != pid and start_time(one) == started:  # not somebody who was given its number
                try:
                    os.kill(one, signal.SIGKILL)
                except ProcessLookupError:
                    pass
        harness.wait_for(lambda: self.ended(pid), f"pid {pid} to end after SIGKILL")

    def close(self):
        if self.server:
            self.server.kill() if not self.server.alive() else self.stop_server()
        self.world.close(False)

    def stop_server(self):
        try:
            self.server.stop()
        except harness.Failure as failure:
            print(f"the server: {failure}")

    def server_log(self):
        return self.server.log.read_text(errors="replace") if self.server else ""


def masked(text, masks):
    for pattern, replacement in masks:
        text = pattern.sub(replacement, text)
    return text


def shorten(text, limit=40000):
    if len(text) <= limit:
        return text
    return text[:limit // 2] + f"\n... {len(text) - limit} characters left out ...\n" + text[-limit // 2:]


def last_line(*texts):
    for text in texts:
        lines = [line for line in text.splitlines() if line.strip()]
        if lines:
            return lines[-1].strip()[:200]
    return ""


def compared_text(case, run):
    text = run.out
    if case.errors_too:
        text += "\n--- standard error\n" + SHIM_LINE.sub("", run.err)
    return masked(text, case.masks)


TOKEN = re.compile(r"\S*\d\S*")


def settle(case, natives, shimmed):
    """The first difference that no two native runs have ('' when there is none), and what had to be disregarded.

    A line that two native runs print with different numbers is compared without its words that hold digits; lines
    that come in another order natively are compared sorted. What is the same natively must be the same shimmed.
    """
    texts = [compared_text(case, run).splitlines() for run in natives]
    seen = compared_text(case, shimmed).splitlines()
    common = set(texts[0]).intersection(*texts[1:])
    shapes = {TOKEN.sub("#", line) for text in texts for line in text if line not in common}

    def plain(lines):
        return [TOKEN.sub("#", line) if TOKEN.sub("#", line) in shapes else line for line in lines]

    wanted = [plain(text) for text in texts]
    remark = f"{len(shapes)} lines vary natively" if shapes else ""
    if plain(seen) in wanted:
        return "", remark
    if any(text != wanted[0] for text in wanted):
        remark = ", ".join(filter(None, [remark, "so does their order"]))
        if sorted(plain(seen)) in [sorted(text) for text in wanted]:
            return "", remark
        # Lines that come more or less often natively: no kind of line may be new.
        if len({len(text) for text in texts}) > 1 and set(plain(seen)) <= {line for text in wanted for line in text}:
            return "", remark + " and number"
    return first_difference("\n".join(wanted[0]), "\n".join(plain(seen))), remark


def first_difference(wanted, seen):
    for number, (a, b) in enumerate(zip(wanted.splitlines() + ["(end)"], seen.splitlines() + ["(end)"]), 1):
        if a != b:
            return f"line {number}: native '{a[:160]}', shim '{b[:160]}'"
    return ""


def of_reference(entry):
    return Run(entry["native_status"], entry["native_seconds"] or 0.0, entry["native_out"], entry["native_err"])


def judge(stage, case, reference):
    """Runs one case and returns its entry of the report."""
    entry = {"case": case.name, "verdict": "pass", "reason": "", "native_status": None, "native_seconds": None,
             "shim_status": None, "shim_seconds": None, "unsupported": {}, "looks": 0, "native_out": "", "native_err": ""}
    native = shimmed = None

    def fail(reason):
        entry["verdict"], entry["reason"] = "FAIL", reason

    if not case.alone and not stage.options.shim_only:
        native = of_reference(reference) if reference else stage.run(case, shim=False)
        entry.update(native_status=native.status, native_seconds=round(native.seconds, 2),
                     native_out=shorten(native.out, 100000), native_err=shorten(native.err, 4000 if not case.errors_too else 100000))
        if native.status == 77:
            entry["verdict"], entry["reason"] = "skip", last_line(native.out, native.err)
            return entry, native, None
        if native.status != 0:
            # A sample that fails natively is no sample for us; a case of ours must not.
            fail(f"natively {native.verdict}: {last_line(native.err, native.out)}")
            if stage.options.native_must_pass:
                entry["verdict"] = "skip"
            return entry, native, None
    shimmed = stage.run(case, shim=not case.alone)
    entry.update(shim_status=shimmed.status, shim_seconds=round(shimmed.seconds, 2), looks=shimmed.looks,
                 unsupported=dict(UNSUPPORTED.findall(shimmed.err)))
    if shimmed.gpu_files:
        fail(f"held the GPU: {shimmed.gpu_files[0]}")
    elif shimmed.status == 77 and not native:
        entry["verdict"], entry["reason"] = "skip", last_line(shimmed.out, shimmed.err)
    elif not native:
        if shimmed.status != 0:
            fail(f"{shimmed.verdict}: {last_line(shimmed.err, shimmed.out)}")
    elif shimmed.status != native.status:
        fail(f"{shimmed.verdict}, natively {native.verdict}: {last_line(SHIM_LINE.sub('', shimmed.err), shimmed.out)}")
    elif compared_text(case, native) != compared_text(case, shimmed):
        natives = [native] + [stage.run(case, shim=False) for _ in range(2)]
        difference, remark = settle(case, natives, shimmed)
        entry["reason"] = remark
        if difference:
            fail(f"{difference}{f' ({remark})' if remark else ''}")
    elif set(entry["unsupported"]) - set(case.allowed) and not stage.options.native_must_pass:
        entry["reason"] = "passes although refused: " + ", ".join(sorted(set(entry["unsupported"]) - set(case.allowed)))
    return entry, native, shimmed


def keep(folder, case, entry, native, shimmed):
    """Small files about a case that failed, for whoever reads them."""
    place = folder / re.sub(r"[^\w.-]", "_", case.name)
    place.mkdir(parents=True, exist_ok=True)
    (place / "verdict").write_text(f"{entry['verdict']}: {entry['reason']}\n{' '.join(map(str, case.command))}\n")
    for name, run in (("native", native), ("shim", shimmed)):
        if run:
            (place / f"{name}.out").write_text(shorten(run.out))
            (place / f"{name}.err").write_text(shorten(run.err))
    if native and shimmed:
        diff = difflib.unified_diff(compared_text(case, native).splitlines()[:4000],
                                    compared_text(case, shimmed).splitlines()[:4000], "native", "shim", lineterm="", n=2)
        (place / "diff").write_text(shorten("\n".join(diff)) + "\n")


def line_of(entry):
    def seconds(value):
        return f"{value:7.1f}" if value is not None else "      -"
    refused = f" [refused: {', '.join(sorted(entry['unsupported']))}]" if entry["unsupported"] else ""
    return (f"{entry['verdict']:4} {entry['case']:36} {seconds(entry['native_seconds'])} {seconds(entry['shim_seconds'])}  "
            f"{entry['reason']}{refused}")


def run_all(cases, options, versions):
    """Runs the cases, prints a line each as it ends, writes the report; returns the exit status."""
    references = {}
    if options.reference:
        references = {entry["case"]: entry for entry in json.loads(options.reference.read_text())["results"]
                      if entry["native_status"] is not None}
    stage = Stage(options)
    results = []
    print_lock = threading.Lock()

    def one(case):
        try:
            entry, native, shimmed = judge(stage, case, references.get(case.name))
        except (harness.Failure, OSError) as failure:
            entry = {"case": case.name, "verdict": "FAIL", "reason": f"the runner: {failure}", "native_status": None,
                     "native_seconds": None, "shim_status": None, "shim_seconds": None, "unsupported": {}, "looks": 0,
                     "native_out": "", "native_err": ""}
            native = shimmed = None
        with print_lock:
            results.append(entry)
            print(line_of(entry), flush=True)
            if entry["verdict"] == "FAIL" and options.keep:
                keep(options.keep, case, entry, native, shimmed)

    try:
        if any(not case.alone for case in cases):
            stage.start_server()
        print(f"     {'case':36}  native    shim")
        with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
            list(pool.map(one, [case for case in cases if not case.exclusive]))
        for case in cases:
            if case.exclusive:
                one(case)
        left = [session["program"] for session in stage.world.sessions() if session["state"] == "running"] if stage.server else []
        if left:
            print(f"sessions left running: {left}")
    finally:
        if options.keep and stage.server:
            options.keep.mkdir(parents=True, exist_ok=True)
            (options.keep / "server.log").write_text(shorten(stage.server_log(), 200000))
        stage.close()
    results.sort(key=lambda entry: entry["case"])
    counts = {verdict: sum(entry["verdict"] == verdict for entry in results) for verdict in ("pass", "FAIL", "skip")}
    print(f"{counts['pass']} passed, {counts['FAIL']} failed, {counts['skip']} skipped")
    for entry in results:
        if entry["verdict"] == "FAIL":
            print(line_of(entry))
    if options.json:
        options.json.write_text(json.dumps({"versions": versions, "results": results}, indent=1) + "\n")
    return 1 if counts["FAIL"] else 0


def markdown(path):
    """The table of tests/gpu/README.md, out of a report."""
    report = json.loads(Path(path).read_text())
    print(", ".join(f"{name} {version}" for name, version in report["versions"].items()))
    print("\n| case | result | native s | shim s | remark |\n|---|---|---|---|---|")
    for entry in report["results"]:
        refused = ", ".join(f"`{name}`" for name in sorted(entry["unsupported"]))
        remark = "; ".join(filter(None, [entry["reason"].replace("|", "\\|"), f"refused: {refused}" if refused else ""]))
        print(f"| {entry['case']} | {entry['verdict']} | {entry['native_seconds'] if entry['native_seconds'] is not None else ''} | "
              f"{entry['shim_seconds'] if entry['shim_seconds'] is not None else ''} | {remark} |")


def add_options(parser):
    parser.add_argument("--build", type=Path, default=harness.HERE.parents[1] / "build", help="the build folder")
    parser.add_argument("--driver", default=os.environ.get("CRICKET_TEST_DRIVER", "real"), help="real or soft")
    parser.add_argument("--only", action="append", metavar="GLOB", help="only cases whose name matches; may be repeated")
    parser.add_argument("--jobs", type=int, default=4, help="cases at a time")
    parser.add_argument("--shim-only", action="store_true", help="no native run: only the exit status counts")
    parser.add_argument("--reference", type=Path, metavar="JSON", help="take native results from an earlier report")
    parser.add_argument("--time-limit", type=float, default=None, metavar="SECONDS", help="for every run, instead of the case's")
    parser.add_argument("--json", type=Path, help="write the report here")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="put outputs of failing cases and the server's log here")
    parser.add_argument("--keep-runs", action="store_true", help="leave each run's private folder until the end")
    parser.add_argument("--markdown", metavar="JSON", help="print the table of an earlier report, run nothing")
    parser.add_argument("--forbidden", default="/dev/nvidia", metavar="PREFIX", help="paths that no shimmed process may hold")


def finish_options(options):
    options.transport, options.seed = "ring", 0
    options.build = options.build.resolve()
    if options.keep:
        options.keep = options.keep.resolve()
    return options
