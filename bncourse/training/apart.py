"""The runs of a sweep one by one, in worker processes."""

import torch

from bncourse.training.fitting import fit
from bncourse.training.plan import Plan, Run
from bncourse.watching import with_bar


def train_apart(plan: Plan, workers: int | None) -> list[Run]:
    """All runs, in as many processes as there are workers: the first seed with every rate, then the second, ..."""
    from joblib import Parallel, cpu_count, delayed  # whose processes take lambdas

    on_cpu = torch.device(plan.device).type == "cpu"
    workers = workers or (cpu_count() if on_cpu else 1)  # on a GPU, processes would wait for each other
    calls = [delayed(_train)(plan, rate, seed, workers > 1) for seed in plan.seeds for rate in plan.learning_rates]
    runs = Parallel(n_jobs=workers, return_as="generator")(calls)
    return list(with_bar(runs, len(calls), "run", plan.progress))


def _train(plan: Plan, rate: float, seed: int, is_worker: bool) -> Run:
    """One run; in a worker process, on one core."""
    if is_worker:
        torch.set_num_threads(1)
    network, (train, validation) = plan.network(seed), plan.samples(seed)
    history = fit(
        network,
        *train,
        epochs=plan.epochs,
        batch_size=plan.batch_size,
        optimizer=plan.optimizer,
        learning_rate=rate,
        loss=plan.loss,
        seed=seed,
        validation=validation,
        metric=plan.metric,
        progress=False,
    )
    return network, history
