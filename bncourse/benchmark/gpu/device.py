"""The part of the GPU benchmark that only a GPU can run, kept short: events, flush, profiler, properties."""

import subprocess
from collections.abc import Callable, Mapping

import torch

from bncourse import provenance
from bncourse.benchmark.gpu.timing import by_call

AHEAD = 400_000  # cycles: 200 µs at 2 GHz, meant to be longer than the host takes to prepare one call
MARKER = "spin_kernel"  # of torch.cuda._sleep, which nothing else launches
QUERIES = {
    "clock_mhz": "clocks.sm",
    "memory_clock_mhz": "clocks.mem",
    "celsius": "temperature.gpu",
    "watts": "power.draw",
}


class Cuda:
    """The current CUDA device."""

    name = "cuda"

    def __init__(self) -> None:
        from triton.runtime import driver

        self._driver = driver.active
        self._cache = self._driver.get_empty_cache_for_benchmark()
        self._properties = torch.cuda.get_device_properties()

    def flush(self) -> None:
        self._driver.clear_cache(self._cache)
        torch.cuda._sleep(AHEAD)

    def mark(self) -> torch.cuda.Event:
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def synchronize(self) -> None:
        torch.cuda.synchronize()

    def seconds(self, start: torch.cuda.Event, end: torch.cuda.Event) -> float:
        return 1e-3 * start.elapsed_time(end)

    def kernels(self, calls: Mapping[str, Callable[[], object]]) -> dict[str, list[str]]:
        self.synchronize()
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profiler:
            for call in calls.values():
                torch.cuda._sleep(1)
                call()
            self.synchronize()
        events = [e for e in profiler.events() if e.device_type == torch.autograd.DeviceType.CUDA]
        events = [e for e in events if not e.is_user_annotation]
        ran = [event.name for event in sorted(events, key=lambda event: event.time_range.start)]
        return by_call(calls, ran, MARKER)

    def peak_bytes(self, call: Callable[[], object]) -> int:
        self.synchronize()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        result = call()
        self.synchronize()
        del result
        return torch.cuda.max_memory_allocated() - before

    def describe(self) -> dict:
        import triton

        return {
            "device": torch.cuda.get_device_name(),
            "driver": self._query("driver_version"),
            "multiprocessors": self._properties.multi_processor_count,
            "l2_bytes": self._properties.L2_cache_size,
            "memory_bytes": self._properties.total_memory,
            "versions": provenance.versions(["torch"])
            | {"triton": triton.__version__, "cuda": torch.version.cuda, "cudnn": torch.backends.cudnn.version()},
        }

    def clocks(self) -> dict[str, float]:
        values = (self._query(",".join(QUERIES.values())) or "").split(",")
        try:
            return dict(zip(QUERIES, map(float, values), strict=True))
        except ValueError:  # not said, or not a number
            return {}

    def _query(self, fields: str) -> str | None:
        """What nvidia-smi says of this device."""
        command = ["nvidia-smi", f"--id=GPU-{self._properties.uuid}", f"--query-gpu={fields}"]
        try:
            found = subprocess.run(
                [*command, "--format=csv,noheader,nounits"], capture_output=True, text=True, check=True, timeout=20
            )
        except (OSError, subprocess.SubprocessError):
            return None
        return found.stdout.strip()
