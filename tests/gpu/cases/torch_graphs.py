# SPDX-License-Identifier: MIT
# CUDA graphs: whole-step capture and replay, a private pool shared by two graphs, make_graphed_callables, random numbers.
# needs: torch
from support import deterministic_torch, show

torch = deterministic_torch()
from support.gpt import GPT, batches, loss_of  # noqa: E402

model = GPT(layers=2).cuda()
optimizer = torch.optim.AdamW(model.parameters(), lr=3e-4, capturable=True)
static = torch.zeros(8, 129, dtype=torch.long, device="cuda")
side = torch.cuda.Stream()
side.wait_stream(torch.cuda.current_stream())
with torch.cuda.stream(side):
    for tokens in batches(3):
        static.copy_(tokens)
        optimizer.zero_grad(set_to_none=True)
        loss_of(model, static).backward()
        optimizer.step()
torch.cuda.current_stream().wait_stream(side)
graph = torch.cuda.CUDAGraph()
optimizer.zero_grad(set_to_none=True)
with torch.cuda.graph(graph):
    loss = loss_of(model, static)
    loss.backward()
    optimizer.step()
for step, tokens in enumerate(batches(30)):
    static.copy_(tokens)
    graph.replay()
    show("step", step, loss.item())
for name, parameter in model.named_parameters():
    show(name, parameter)

# Two graphs in one pool; the second reads what the first left.
first, second = torch.cuda.CUDAGraph(), torch.cuda.CUDAGraph()
x = torch.ones(1 << 16, device="cuda")
with torch.cuda.graph(first):
    y = x * 3 + 1
with torch.cuda.graph(second, pool=first.pool()):
    z = y.reshape(256, 256) @ y.reshape(256, 256)
for value in (1, 2, 5):
    x.fill_(value)
    first.replay()
    second.replay()
    show("pair", value, y, z)

# Random numbers advance from replay to replay.
noise = torch.cuda.CUDAGraph()
torch.cuda.manual_seed(11)
with torch.cuda.graph(noise):
    drawn = torch.randn(1000, device="cuda")
for _ in range(3):
    noise.replay()
    show("noise", drawn)

small = torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.ReLU(), torch.nn.Linear(64, 8)).cuda()
sample = torch.randn(16, 64, device="cuda", requires_grad=True)
graphed = torch.cuda.make_graphed_callables(small, (sample,))
generator = torch.Generator().manual_seed(2)
for step in range(5):
    x = torch.randn(16, 64, generator=generator).cuda().requires_grad_()
    y = graphed(x)
    y.square().sum().backward()
    show("graphed", step, y, x.grad)
