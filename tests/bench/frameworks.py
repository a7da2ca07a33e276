# SPDX-License-Identifier: MIT
"""The training and inference rows of the table, as one process that waits to be told what to do: compare.py keeps one
native and one under the shim and lets them work in turn. A line on stdin names a workload; the answer is its rate.

    gpt     training steps a second: 8 layers, d 512, T 256, batch 4, bf16 autocast, AdamW
    decode  greedy tokens a second: the same model, batch 1, .item() every token
    conv    training steps a second: 12 convolutions, 64x64, batch 32
    graph   replays a second of a captured forward pass of the model
"""
import pathlib
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "gpu/cases"))
import torch  # noqa: E402
from support.gpt import GPT, batches, loss_of  # noqa: E402

SECONDS = 1.2  # of one measurement
WORDS, LENGTH = 8192, 256


def small_gpt():
    torch.manual_seed(1)
    return GPT(words=WORDS, length=LENGTH, width=512, heads=8, layers=8).cuda()


def gpt():
    model = small_gpt()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-4)
    data = [tokens.cuda() for tokens in batches(8, batch=4, length=LENGTH, words=WORDS)]

    def step(number):
        with torch.autocast("cuda", dtype=torch.bfloat16):
            loss = loss_of(model, data[number % len(data)])
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    return step, 10


def decode():
    model = small_gpt().eval()
    state = {"tokens": [1]}

    def token(_):
        with torch.inference_mode(), torch.autocast("cuda", dtype=torch.bfloat16):
            if len(state["tokens"]) >= LENGTH:
                state["tokens"] = [1]
            logits = model(torch.tensor([state["tokens"]], device="cuda"))[0, -1]
            state["tokens"].append(int(logits.argmax().item()))
    return token, LENGTH + 10


def conv():
    torch.manual_seed(2)
    layers, inside = [], 3
    for number in range(12):
        outside = (64, 128, 256)[number // 4]
        layers += [torch.nn.Conv2d(inside, outside, 3, 2 if number in (4, 8) else 1, 1, bias=False),
                   torch.nn.BatchNorm2d(outside), torch.nn.ReLU()]
        inside = outside
    model = torch.nn.Sequential(*layers, torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(inside, 10)).cuda()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    images = torch.randn(32, 3, 64, 64, device="cuda")
    labels = torch.randint(10, (32,), device="cuda")

    def step(_):
        torch.nn.functional.cross_entropy(model(images), labels).backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    return step, 20


def graph():
    model = small_gpt().eval()
    static = torch.zeros(1, LENGTH, dtype=torch.long, device="cuda")
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    captured = torch.cuda.CUDAGraph()
    with torch.inference_mode(), torch.autocast("cuda", dtype=torch.bfloat16, cache_enabled=False):
        with torch.cuda.stream(side):
            for _ in range(3):
                model(static)
        torch.cuda.current_stream().wait_stream(side)
        with torch.cuda.graph(captured):
            model(static)
    return lambda _: captured.replay(), 50


WORKLOADS = {"gpt": gpt, "decode": decode, "conv": conv, "graph": graph}
prepared = {}


def measure(name):
    if name not in prepared:
        prepared[name], warm_up = WORKLOADS[name]()
        for number in range(warm_up):
            prepared[name](number)
    step, count = prepared[name], 0
    torch.cuda.synchronize()
    begin = time.perf_counter()
    while count % 10 or time.perf_counter() - begin < SECONDS:  # the clock is asked every tenth time
        step(count)
        count += 1
        if name == "graph" and count % 500 == 0:
            torch.cuda.synchronize()  # replays are given faster than they run; all that were given count
    torch.cuda.synchronize()
    return count / (time.perf_counter() - begin)


def main():
    torch.zeros(1).cuda()
    print("ready", flush=True)
    for line in sys.stdin:
        print(measure(line.strip()), flush=True)


main()
