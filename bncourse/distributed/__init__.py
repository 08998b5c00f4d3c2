"""Batch norm on many devices: the batch is spread over processes, its statistics are those of all of it.

    model = DistributedDataParallel(distributed.convert_sync_batch_norm(model))

Any back end of torch.distributed will do, gloo on CPUs, nccl on GPUs. :func:`run` starts processes on this machine, also
from a notebook; ``torchrun --nproc-per-node 2 -m bncourse.distributed`` trains an example.
"""

from bncourse.distributed.merging import merge, summarize
from bncourse.distributed.processes import ProcessError, run, track
from bncourse.distributed.sync_batch_norm import SyncBatchNorm, convert_sync_batch_norm

__all__ = ["ProcessError", "SyncBatchNorm", "convert_sync_batch_norm", "merge", "run", "summarize", "track"]
