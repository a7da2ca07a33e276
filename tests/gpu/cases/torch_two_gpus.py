# SPDX-License-Identifier: MIT
# Two GPUs in one session: copies both ways, peer access, streams and events across devices, data parallel training.
# needs: torch
import sys

from support import deterministic_torch, show

torch = deterministic_torch()
if torch.cuda.device_count() < 2:
    print("needs two GPUs")
    sys.exit(77)
show("peers", torch.cuda.can_device_access_peer(0, 1), torch.cuda.can_device_access_peer(1, 0))
first = torch.arange(1 << 20, dtype=torch.float32, device="cuda:0")
second = first.to("cuda:1") * 2
show("there and back", second, (second - 1).to("cuda:0"))
show("from the host", torch.ones(1 << 18).pin_memory().to("cuda:1", non_blocking=True).sum().item())

# A stream of one device waits for work of the other.
done = torch.cuda.Event()
with torch.cuda.device(1):
    side = torch.cuda.Stream()
    with torch.cuda.stream(side):
        torch.cuda._sleep(20_000_000)
        second.mul_(3)
        done.record()
torch.cuda.current_stream(0).wait_event(done)
show("waited", second.to("cuda:0"))

torch.manual_seed(1)
model = torch.nn.DataParallel(torch.nn.Sequential(torch.nn.Linear(64, 256), torch.nn.GELU(), torch.nn.Linear(256, 8)).cuda(0))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
data = torch.randn(128, 64, device="cuda:0")
for step in range(10):
    optimizer.zero_grad()
    loss = model(data).square().mean()
    loss.backward()
    optimizer.step()
    show("loss", step, loss.item().hex())
