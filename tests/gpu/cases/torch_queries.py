# SPDX-License-Identifier: MIT
# What torch.cuda tells about the machine, through the driver and through NVML.
# needs: torch
# exclusive
from support import show

import torch

show("available", torch.cuda.is_available(), torch.cuda.device_count(), torch.cuda.current_device())
properties = torch.cuda.get_device_properties(0)
for name in ("name", "major", "minor", "total_memory", "multi_processor_count", "uuid", "L2_cache_size", "pci_bus_id",
             "pci_device_id", "pci_domain_id", "warp_size", "max_threads_per_multi_processor", "regs_per_multiprocessor",
             "shared_memory_per_block", "shared_memory_per_block_optin", "shared_memory_per_multiprocessor",
             "is_integrated", "is_multi_gpu_board", "clock_rate", "memory_clock_rate", "memory_bus_width"):
    show(name, getattr(properties, name, "absent"))
show("capability", torch.cuda.get_device_capability(), torch.cuda.get_device_name(), torch.cuda.get_arch_list())
free, total = torch.cuda.mem_get_info()
show("memory", total, 0 < free <= total)
before = torch.cuda.mem_get_info()[0]
block = torch.empty(1 << 30, dtype=torch.uint8, device="cuda")
show("a GiB less", (1 << 30) <= before - torch.cuda.mem_get_info()[0] < (1 << 30) + (256 << 20))
show("bf16", torch.cuda.is_bf16_supported(), torch.version.cuda, torch.backends.cudnn.version())
show("versions", torch.cuda.nccl.version(), torch.backends.cuda.is_built(), torch.cuda.is_initialized())
for name in ("utilization", "memory_usage", "temperature", "power_draw", "clock_rate", "device_memory_used"):
    try:
        value = getattr(torch.cuda, name)()
        show(name, type(value).__name__, 0 <= value)
    except Exception as error:
        show(name, type(error).__name__, str(error).splitlines()[0])
show("processes", type(torch.cuda.list_gpu_processes()).__name__)
show("peers", torch.cuda.can_device_access_peer(0, 0) if torch.cuda.device_count() > 1 else "one device")
show("raw stream", torch.cuda.current_stream().cuda_stream, torch.cuda.default_stream().cuda_stream)
show("random state", torch.cuda.get_rng_state())
torch.cuda.manual_seed_all(3)
show("random", torch.rand(5, device="cuda"), torch.randn(5, device="cuda"), torch.randint(9, (5,), device="cuda"))
show("tf32", torch.backends.cuda.matmul.allow_tf32, torch.get_float32_matmul_precision())
torch.cuda.ipc_collect()
torch.cuda.reset_peak_memory_stats()
show("initialized", torch.cuda.is_initialized())
