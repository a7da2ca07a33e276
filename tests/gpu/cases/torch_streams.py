# SPDX-License-Identifier: MIT
# Streams that wait for each other, events that measure, priorities, threads with streams of their own.
# needs: torch
import threading

from support import deterministic_torch, show

torch = deterministic_torch()
show("priorities", torch.cuda.Stream.priority_range())
streams = [torch.cuda.Stream(priority=p) for p in (0, -1, -5, 0)]
show("priority", *(stream.priority for stream in streams))
x = torch.ones(512, 512, device="cuda") / 512
begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
begin.record()
previous = torch.cuda.current_stream()
for turn in range(40):
    stream = streams[turn % 4]
    stream.wait_stream(previous)
    with torch.cuda.stream(stream):
        x.record_stream(stream)
        x = (x @ x).clamp(max=2) + turn / 1000
    previous = stream
torch.cuda.current_stream().wait_stream(previous)
end.record()
end.synchronize()
show("chain", x, end.query(), 0 < begin.elapsed_time(end) < 60000)

sleeping = torch.cuda.Event()
with torch.cuda.stream(streams[0]):
    torch.cuda._sleep(50_000_000)
    sleeping.record()
show("not done at once", sleeping.query())
sleeping.synchronize()
show("done", sleeping.query(), streams[0].query())

results = [None] * 8


def work(number):
    with torch.cuda.stream(torch.cuda.Stream()):
        y = torch.full((256, 256), 1.0 + number, device="cuda") / 256
        for _ in range(200):
            y = y @ y / y.max()
        host = torch.empty(256, 256, pin_memory=True)
        host.copy_(y, non_blocking=True)
        torch.cuda.current_stream().synchronize()
        results[number] = host.clone()


threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
for number, result in enumerate(results):
    show("thread", number, result)
external = torch.cuda.ExternalStream(streams[1].cuda_stream)
with torch.cuda.stream(external):
    show("external", torch.ones(10, device="cuda").sum().item())
interprocess = torch.cuda.Event(interprocess=True)
interprocess.record()
interprocess.synchronize()
show("interprocess", len(interprocess.ipc_handle()))
