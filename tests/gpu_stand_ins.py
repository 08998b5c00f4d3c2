"""A device without a GPU: what the GPU benchmark asks of one, on the CPU and with a clock that only calls advance."""

import torch

MICROSECOND = 1e-6


class FakeDevice:
    """Runs on the CPU; a call takes the time that :meth:`spend` was told while it ran, and one microsecond.

    ``log`` has what happened, in order. Marks are moments of the clock, to be read after synchronizing only.
    """

    name = "cpu"

    def __init__(self, **described: object) -> None:
        self.now = 0.0
        self.log: list[object] = []
        self.described = {"device": "Fake GPU 1", "driver": "1.0", "multiprocessors": 4, "l2_bytes": 2**20}
        self.described |= {"memory_bytes": 2**30, "versions": {"torch": torch.__version__}} | described

    def spend(self, seconds: float) -> None:
        self.now += seconds

    def flush(self) -> None:
        self.log.append("flush")
        self.now += 250 * MICROSECOND

    def mark(self) -> list[float]:
        self.log.append("mark")
        self.now += MICROSECOND
        return [self.now]

    def synchronize(self) -> None:
        self.log.append("synchronize")

    def seconds(self, start: list[float], end: list[float]) -> float:
        assert self.log[-1] == "synchronize", "an event is read before the device has reached it"
        return end[0] - start[0]

    def kernels(self, calls: dict) -> dict[str, list[str]]:
        for call in calls.values():
            call()
        return {name: [f"kernel of {name}", "Memset (Device)"] for name in calls}

    def peak_bytes(self, call: object) -> int:
        call()
        return 1000

    def describe(self) -> dict:
        return {**self.described, "versions": dict(self.described["versions"])}

    def clocks(self) -> dict[str, float]:
        return {"clock_mhz": 1980.0}
