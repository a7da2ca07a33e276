# SPDX-License-Identifier: MIT
# torch.compile: inductor writes Triton kernels, which are compiled, loaded and launched; reduce-overhead adds graphs.
# needs: torch, triton
# limit: 300
# variant default: default
# variant reduce-overhead: reduce-overhead
import sys

from support import deterministic_torch, show

torch = deterministic_torch()
from support.gpt import GPT, batches, loss_of  # noqa: E402

model = GPT(layers=2).cuda()
optimizer = torch.optim.AdamW(model.parameters(), lr=3e-4, fused=True)
step_loss = torch.compile(lambda tokens: loss_of(model, tokens), mode=sys.argv[1])
for step, tokens in enumerate(batches(12)):
    tokens = tokens.cuda()
    loss = step_loss(tokens)
    loss.backward()
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    show("step", step, loss.item())


@torch.compile(mode=sys.argv[1])
def mixed(x, y):
    return torch.softmax(x @ y, dim=-1).sin() + x.mean(dim=0, keepdim=True)


generator = torch.Generator().manual_seed(4)
for size in (256, 256, 256, 512):
    x, y = (torch.randn(size, size, generator=generator).cuda() for _ in "xy")
    show("mixed", size, mixed(x, y))
