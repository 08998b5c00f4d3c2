"""Run the claims lab: ``python -m bncourse.claims [ID ...]``."""

import argparse
import shlex
import sys
import time

from bncourse.claims import CLAIMS, record
from bncourse.claims.experiment import SIZES, Setting
from bncourse.claims.running import run


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bncourse.claims", description=__doc__)
    parser.add_argument("claims", nargs="*", metavar="ID", help=f"all without one; else of: {', '.join(CLAIMS)}")
    parser.add_argument("--data", choices=list(SIZES), default="digits", help="mnist and cifar10 come from OpenML")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--workers", type=int, help="processes; without it one per core, and one for a GPU")
    options = parser.parse_args()
    unknown = [name for name in options.claims if name not in CLAIMS]
    if unknown:
        parser.error(f"no such claim: {', '.join(unknown)}; choose of: {', '.join(CLAIMS)}")

    setting = Setting(options.data, options.device)
    file = record.path(setting)
    chosen = [CLAIMS[name] for name in options.claims or CLAIMS]
    start = time.perf_counter()
    trials = run(chosen, setting, workers=options.workers, last_seconds=record.seconds(file))
    command = shlex.join(["python", "-m", "bncourse.claims", *sys.argv[1:]])
    entries = [record.entry(claim, trials[claim.id], setting, command) for claim in chosen]
    record.save(entries, file)
    for e in entries:
        print(f"{e['number']:2} {e['id']:16} {e['verdict']}: {e['because']}")
    print(f"{time.perf_counter() - start:.0f} s; written to {file}")


if __name__ == "__main__":
    main()
