"""Run the claims lab: ``python -m bncourse.claims [ID ...]``. After an interruption, the same command goes on."""

import argparse
import shlex
import sys
import textwrap
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path

from tqdm import tqdm

from bncourse import provenance
from bncourse.claims import CLAIMS, record
from bncourse.claims.claim import Claim
from bncourse.claims.experiment import SIZES, Setting, Trial
from bncourse.claims.running import Failed, run


def main(arguments: Sequence[str] | None = None) -> None:
    arguments = sys.argv[1:] if arguments is None else arguments
    options, setting = _parse(arguments)
    chosen = [CLAIMS[name] for name in dict.fromkeys(options.claims or CLAIMS)]
    file, start = record.path(setting), time.perf_counter()
    if options.judge:
        for claim in chosen:
            _save(record.judged_again(claim, file), file)
        return
    command = shlex.join(["python", "-m", "bncourse.claims", *arguments])
    provenance.commit()  # notes it: what counts is what it is now
    unjudged = []
    try:
        with closing(run(chosen, setting, workers=options.workers, last_seconds=record.seconds(file))) as complete:
            for claim, trials in complete:
                problem = _record(claim, trials, setting, command, file)
                unjudged += [problem] if problem else []
    except KeyboardInterrupt:
        print("Interrupted. What is finished is kept: the same command goes on from here.", file=sys.stderr)
        sys.exit(130)
    except Failed as error:
        unjudged.append(str(error))
    print(f"{time.perf_counter() - start:.0f} s; the record is {file}")
    if unjudged:
        sys.exit("\n".join(unjudged))


def _parse(arguments: Sequence[str]) -> tuple[argparse.Namespace, Setting]:
    """The options; ends the program if they cannot be followed."""
    parser = argparse.ArgumentParser(prog="python -m bncourse.claims", description=__doc__.replace("``", ""))
    parser.add_argument("claims", nargs="*", metavar="ID", help=f"all without one; else of: {', '.join(CLAIMS)}")
    parser.add_argument("--data", choices=list(SIZES), default="digits", help="mnist and cifar10 come from OpenML")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument(
        "--judge", action="store_true", help="only judge the recorded numbers again, with present words"
    )
    parser.add_argument("--workers", type=int, help="processes; without it one per core, and one for a GPU")
    options = parser.parse_args(arguments)
    setting = Setting(options.data, options.device)
    unknown = [name for name in options.claims if name not in CLAIMS]
    if unknown:
        parser.error(f"no such claim: {', '.join(unknown)}; choose of: {', '.join(CLAIMS)}")
    if problem := _missing(setting):
        sys.exit(problem)
    return options, setting


def _missing(setting: Setting) -> str | None:
    """What the setting needs and this machine has not."""
    import torch

    if setting.device == "cuda" and not torch.cuda.is_available():
        return "PyTorch finds no CUDA device here; leave out --device cuda"
    if setting.data != "digits":
        try:
            setting.parts()(0)  # fetched once, not by every worker
        except FileNotFoundError as error:
            return str(error)
    return None


def _record(claim: Claim, trials: Mapping[str, Trial], setting: Setting, command: str, file: Path) -> str | None:
    """Judge, record and print; what went wrong, if something did: other claims are not to be lost for it."""
    try:
        entry = record.entry(claim, trials, setting, command)
    except Exception as error:  # noqa: BLE001 - the rule's own mistake, whatever it is
        return f"{claim.id}: its numbers could not be judged: {type(error).__name__}: {error}"
    _save(entry, file)
    return None


def _save(entry: dict, file: Path) -> None:
    """Record an entry, and print what was found."""
    record.save([entry], file)
    reason = textwrap.indent(textwrap.fill(entry["because"], 74), "    ")
    tqdm.write(f"{entry['id']}: {entry['verdict'].upper()} ({entry['seconds']:.0f} s)\n{reason}")


if __name__ == "__main__":
    main()
