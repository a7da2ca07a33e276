# SPDX-License-Identifier: MIT
# The profiler asks for CUDA activities: CUPTI may be refused, the program must go on with the right results.
# needs: torch
# may refuse: cuGetExportTable, cuProfilerInitialize, cuProfilerStart, cuProfilerStop
from support import deterministic_torch, show

torch = deterministic_torch()
from support.gpt import GPT, batches, loss_of  # noqa: E402
from torch.profiler import ProfilerActivity, profile, record_function  # noqa: E402

model = GPT(layers=2).cuda()
optimizer = torch.optim.AdamW(model.parameters(), lr=3e-4)
with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA], record_shapes=True) as profiler:
    for step, tokens in enumerate(batches(5)):
        with record_function("step"):
            loss = loss_of(model, tokens.cuda())
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
        show("step", step, loss.item())
names = {event.key for event in profiler.key_averages()}
show("host side", "step" in names, "aten::linear" in names)
torch.cuda.profiler.start()
torch.cuda.profiler.stop()
torch.cuda.nvtx.range_push("outer")
torch.cuda.nvtx.range_pop()
with torch.autograd.profiler.emit_nvtx():
    show("after", loss_of(model, tokens.cuda()).item())
