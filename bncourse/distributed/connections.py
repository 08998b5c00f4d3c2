"""Errors of torch.distributed that say only that another process has ended, or did not come."""

import re

from torch import distributed as dist

# What gloo says then; it raises a RuntimeError.
_LOST = re.compile(r"by peer|broken pipe|timed out|timeout|connection refused", re.IGNORECASE)


def is_lost_connection(error: BaseException) -> bool:
    """Whether the error says only that another process has ended or did not come."""
    if isinstance(error, dist.DistStoreError | dist.DistNetworkError | dist.DistBackendError):
        return True
    return isinstance(error, RuntimeError) and "gloo" in str(error) and bool(_LOST.search(str(error)))
