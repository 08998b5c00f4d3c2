"""Train the digits CNN with synchronized batch norm, in one process or, started by torchrun, in several.

The loss curve is the same, however many processes share each batch.
"""

import argparse
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta

import torch
from torch import distributed as dist
from torch.distributed.elastic.multiprocessing.errors import record
from tqdm import tqdm

from bncourse.distributed.processes import LONGEST
from bncourse.distributed.training import Settings, Share, epochs

EXAMPLES = """on two processes of this machine:
  torchrun --nproc-per-node 2 -m bncourse.distributed
in one process:
  python -m bncourse.distributed"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Train, and print the curve in the process of rank 0."""
    options, settings = _parse(arguments)
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(1)  # as torchrun has it for several processes; the network is too small for more
    with _group(options.backend, settings.device, options.timeout):
        _check(settings)
        for line in _lines(settings):
            if _is_first():
                tqdm.write(line, file=sys.stdout)
                sys.stdout.flush()


def _lines(settings: Settings) -> Iterator[str]:
    """The curve as a table; a bar beside it, if someone watches a terminal."""
    yield "epoch  training loss  validation accuracy"
    silent = None if _is_first() else True  # None: only in a terminal
    bar = tqdm(epochs(settings), total=settings.epochs, desc="training", unit="epoch", disable=silent)
    for number, epoch in enumerate(bar, start=1):
        yield f"{number:5}  {epoch.loss:13.6f}  {epoch.accuracy:19.4f}"


def _parse(arguments: Sequence[str] | None) -> tuple[argparse.Namespace, Settings]:
    """The options; ends the program if they cannot be followed."""
    parser = argparse.ArgumentParser(
        prog="python -m bncourse.distributed",
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--epochs", type=int, default=Settings.epochs, help="default %(default)s")
    add("--batch-size", type=int, default=Settings.batch_size, metavar="N",
        help="samples in a batch, over all processes; default %(default)s")  # fmt: skip
    add("--learning-rate", type=float, default=Settings.learning_rate, metavar="X", help="default %(default)s")
    add("--seed", type=int, default=Settings.seed, help="of weights and order; default %(default)s")
    add("--norm", choices=["sync", "local"], default=Settings.norm,
        help="statistics of the whole batch, or of each process's part; default %(default)s")  # fmt: skip
    add("--group-size", type=int, metavar="N", help="share statistics among N processes; default: all")
    add("--dtype", choices=["float32", "float64"], default="float64", help="default %(default)s")
    add("--device", choices=["cpu", "cuda"], default="cpu", help="cuda: one GPU for each process; default %(default)s")
    add("--backend", help="of torch.distributed; default: gloo on CPUs, nccl on GPUs")
    add("--timeout", type=float, default=120.0, metavar="SECONDS",
        help="how long to wait for another process before giving up; default %(default)g")  # fmt: skip
    options = parser.parse_args(arguments)
    if not 0 < options.timeout <= LONGEST:
        parser.error(f"argument --timeout: expected seconds above 0, {LONGEST:g} at most; got {options.timeout:g}")
    try:
        return options, _settings(options)
    except ValueError as error:
        parser.error(str(error))


def _settings(options: argparse.Namespace) -> Settings:
    names = ("epochs", "batch_size", "learning_rate", "seed", "norm", "group_size")
    chosen = {name: getattr(options, name) for name in names}
    return Settings(**chosen, dtype=getattr(torch, options.dtype), device=_device(options.device))


def _device(kind: str) -> str:
    """The device of this process: its own GPU, by its number on this machine."""
    if kind == "cpu":
        return kind
    number, there = int(os.environ.get("LOCAL_RANK", "0")), torch.cuda.device_count()
    if number >= there:
        raise ValueError(
            f"argument --device: expected a GPU for each process of this machine; got {there}, and none is left for "
            f"process {number}; start fewer processes, or leave out --device cuda"
        )
    return f"cuda:{number}"


@contextmanager
def _group(backend: str | None, device: str, timeout: float) -> Iterator[None]:
    """Be in the group that torchrun's environment describes; without one, be alone."""
    if "RANK" not in os.environ:
        yield
        return
    on_gpu = device.startswith("cuda")
    if on_gpu:
        torch.cuda.set_device(device)
    backend = backend or ("nccl" if on_gpu else "gloo")
    dist.init_process_group(backend, timeout=timedelta(seconds=timeout))
    try:
        yield
    finally:
        dist.destroy_process_group()


def _check(settings: Settings) -> None:
    """End with one sentence, not a traceback, if there are too many or too few processes for the settings."""
    try:
        Share.of(settings)
    except ValueError as error:
        sys.exit(f"python -m bncourse.distributed: error: {error}")


def _is_first() -> bool:
    return not dist.is_initialized() or dist.get_rank() == 0


if __name__ == "__main__":
    record(main)()  # torchrun shows the error of the process that failed first
