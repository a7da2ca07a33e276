# SPDX-License-Identifier: MIT
"""How long PyTorch takes to its first results: the clock (monotonic, as compare.py's) after each of them, as JSON."""
import json
import time

times = {"begun": time.monotonic()}
import torch  # noqa: E402

times["imported"] = time.monotonic()
x = torch.zeros(1).cuda()
times["zeros"] = time.monotonic()
a = torch.randn(512, 512, device="cuda")
torch.cuda.synchronize()
times["before_matmul"] = time.monotonic()
(a @ a).sum().item()
times["matmul"] = time.monotonic()
image = torch.randn(8, 3, 64, 64, device="cuda")
torch.cuda.synchronize()
times["before_conv"] = time.monotonic()
torch.nn.Conv2d(3, 16, 3).cuda()(image).sum().item()
times["conv"] = time.monotonic()
print(json.dumps(times), flush=True)
