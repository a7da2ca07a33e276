# SPDX-License-Identifier: MIT
# pynvml: what monitoring programs ask. What changes while one looks is told by its type.
# needs: pynvml
# exclusive
from support import show

import pynvml as n


def told(name, function, *arguments, volatile=False):
    if not function:
        return show(name, "absent")
    try:
        value = function(*arguments)
        if volatile:
            value = type(value).__name__
        elif hasattr(value, "_fields_"):
            value = " ".join(f"{field}={getattr(value, field)}" for field, *_ in value._fields_)
        show(name, value)
    except n.NVMLError as error:
        show(name, str(error))


try:
    n.nvmlDeviceGetCount()
except n.NVMLError as error:
    show("before init", str(error))
n.nvmlInit()
told("driver", n.nvmlSystemGetDriverVersion)
told("nvml", n.nvmlSystemGetNVMLVersion)
told("cuda", n.nvmlSystemGetCudaDriverVersion)
told("count", n.nvmlDeviceGetCount)
told("absent", n.nvmlDeviceGetHandleByIndex, 99)
handle = n.nvmlDeviceGetHandleByIndex(0)
for name in ("Name", "UUID", "Index", "MinorNumber", "CudaComputeCapability", "NumGpuCores", "Architecture", "Brand", "ComputeMode",
             "PersistenceMode", "EccMode", "MigMode", "MaxPcieLinkGeneration", "MaxPcieLinkWidth", "PciInfo", "BoardId", "VbiosVersion",
             "Serial", "PowerManagementLimitConstraints", "EnforcedPowerLimit", "MemoryBusWidth", "BAR1MemoryInfo"):
    told(name, getattr(n, "nvmlDeviceGet" + name, None), handle, volatile=name == "BAR1MemoryInfo")
told("total", lambda: n.nvmlDeviceGetMemoryInfo(handle).total)
for kind in ("GRAPHICS", "SM", "MEM", "VIDEO"):
    told("max clock " + kind, n.nvmlDeviceGetMaxClockInfo, handle, getattr(n, "NVML_CLOCK_" + kind))
    told("clock " + kind, n.nvmlDeviceGetClockInfo, handle, getattr(n, "NVML_CLOCK_" + kind), volatile=True)
for name, *more in (("MemoryInfo",), ("UtilizationRates",), ("PowerUsage",), ("ComputeRunningProcesses",), ("PerformanceState",),
                    ("TotalEnergyConsumption",), ("Temperature", 0), ("CurrPcieLinkWidth",), ("FanSpeed",), ("CurrentClocksThrottleReasons",)):
    told(name, getattr(n, "nvmlDeviceGet" + name, None), handle, *more, volatile=True)
told("by uuid", lambda: n.nvmlDeviceGetIndex(n.nvmlDeviceGetHandleByUUID(n.nvmlDeviceGetUUID(handle))))
told("by bus", lambda: n.nvmlDeviceGetIndex(n.nvmlDeviceGetHandleByPciBusId(n.nvmlDeviceGetPciInfo(handle).busId)))
told("error text", n.nvmlErrorString, 2)
n.nvmlShutdown()
try:
    n.nvmlDeviceGetCount()
except n.NVMLError as error:
    show("after shutdown", str(error))
