"""The GPU benchmark, on a CPU: what it counts, what it compares, how it goes on, and what its record says."""

import json
import math
import os
import random
import subprocess
import sys
import weakref
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from gpu_stand_ins import FakeDevice
from torch._functorch import config
from torch.autograd.profiler_util import FunctionEvent

from bncourse import plots
from bncourse.benchmark import __main__ as benchmark
from bncourse.benchmark import gpu
from bncourse.benchmark.gpu import __main__ as command
from bncourse.benchmark.gpu import candidates as who
from bncourse.benchmark.gpu import run as running
from bncourse.benchmark.gpu import timing
from bncourse.benchmark.gpu.device import Cuda
from bncourse.benchmark.gpu.inputs import KINK, LARGE_MEAN, STATISTICS, TOLERANCE, Inputs, exact, largest_error
from bncourse.benchmark.gpu.operations import (
    ADD_RELU,
    BACKWARD,
    BATCH,
    EVALUATION,
    FORWARD,
    IMAGES,
    LAYER,
    RELU,
    RMS,
    SMALL_IMAGES,
    SMALL_TOKENS,
    TOKENS,
    Group,
    groups,
    traffic,
)
from bncourse.benchmark.gpu.record import KIND, Record, Result, load, partial, path, save
from bncourse.benchmark.timing import Spread

NORMS = {
    BATCH: (4, 3, 5, 5),
    RELU: (4, 3, 5, 5),
    ADD_RELU: (4, 3, 5, 5),
    EVALUATION: (4, 3, 5, 5),
    LAYER: (6, 16),
    RMS: (6, 16),
}
SMALL = [Group(norm, shape, "float32") for norm, shape in NORMS.items()]
# Of y and gradients, relative to the largest value. Results are rounded once to half precision, by up to 2⁻⁸ and 2⁻¹¹
# of a value; the interpreter's bfloat16 cuts digits off, which is twice as much.
USUAL = {"float32": 1e-6, "bfloat16": 2**-7, "float16": 2**-10}


# Bytes


@pytest.mark.parametrize(
    ("norm", "operation", "arrays"),
    [
        (BATCH, FORWARD, (2, 3)),
        (RELU, FORWARD, (2, 3)),
        (ADD_RELU, FORWARD, (3, 4)),
        (BATCH, BACKWARD, (3, 5)),
        (RELU, BACKWARD, (3, 5)),
        (ADD_RELU, BACKWARD, (4 + 1 / 32, 6 + 1 / 32)),
        (EVALUATION, FORWARD, (2, 2)),
    ],
)
def test_bytes_are_those_of_the_arrays_and_few_more(norm, operation, arrays):
    group = Group(norm, IMAGES[0], "float32")
    size = 64 * 256 * 56 * 56 * 4
    assert group.input_bytes == size == 205_520_896
    for got, wanted in zip(traffic(group, operation), arrays, strict=True):
        assert 0 <= got / size - wanted < 1e-3


def test_times_at_a_given_bandwidth_are_those_of_a_calculation_by_hand():
    """205.5 MB at 4.3 TB/s: 95.6 µs when moved twice, 143.4 three times, 239.0 five times."""
    group = Group(BATCH, (64, 64, 112, 112), "float32")
    found = [bytes_ / 4.3e6 for what in (FORWARD, BACKWARD) for bytes_ in traffic(group, what)]
    assert found == pytest.approx([95.6, 143.4, 143.4, 239.0], abs=0.06)


@pytest.mark.parametrize(
    ("group", "operation", "compulsory", "streaming"),
    [
        # C = 3: weight, bias, mean, 1 / σ, and running mean and variance read and written; 2 · 2 · 3 counts, means, M2
        (Group(BATCH, (2, 3, 5), "bfloat16"), FORWARD, 2 * 60 + 8 * 3 * 4, 3 * 60 + 8 * 3 * 4 + 2 * (2 * 3) * 3 * 4),
        # weight, mean, 1 / σ, dweight, dbias; two sums
        (Group(BATCH, (2, 3, 5), "float32"), BACKWARD, 3 * 120 + 5 * 12, 5 * 120 + 5 * 12 + 2 * (2 * 3) * 2 * 4),
        # and the bias, and 30 bits
        (Group(ADD_RELU, (2, 3, 5), "float32"), BACKWARD, 4 * 120 + 6 * 12 + 4, 6 * 120 + 6 * 12 + 4 + 2 * 6 * 2 * 4),
        (Group(EVALUATION, (2, 3, 5), "float32"), FORWARD, 2 * 120 + 4 * 12, 2 * 120 + 4 * 12),
        # 6 rows of 5: weight and bias in bfloat16, mean and 1 / σ in float32
        (Group(LAYER, (6, 5), "bfloat16"), FORWARD, 2 * 60 + 2 * 5 * 2 + 2 * 6 * 4, 2 * 60 + 2 * 5 * 2 + 2 * 6 * 4),
        # weight, dweight, dbias; each of 4 programs writes two rows of 5 sums, which are read
        (Group(LAYER, (6, 5), "bfloat16"), BACKWARD, 180 + 3 * 10 + 2 * 24, 180 + 3 * 10 + 2 * 24 + 2 * 4 * 2 * 5 * 4),
        (Group(RMS, (6, 5), "float32"), BACKWARD, 360 + 2 * 20 + 24, 360 + 2 * 20 + 24 + 2 * 4 * 5 * 4),
        (Group(RMS, (3, 5), "float32"), BACKWARD, 180 + 2 * 20 + 12, 180 + 2 * 20 + 12 + 2 * 3 * 5 * 4),  # 3 rows
    ],
)
def test_bytes_of_parameters_and_partial_results_are_counted(group, operation, compulsory, streaming):
    """With 4 programs, of which each of 3 channels has 2."""
    assert traffic(group, operation, programs=4) == (compulsory, streaming)


def test_the_groups_have_every_shape_and_dtype_of_the_course():
    found = groups()
    assert len({(g.norm, g.shape, g.dtype) for g in found}) == len(found)
    measured = {(g.norm, g.shape, g.dtype) for g in found}
    for dtype in ("float32", "bfloat16"):
        assert {(BATCH, shape, dtype) for shape in IMAGES} <= measured
        assert {(norm, shape, dtype) for shape in TOKENS for norm in (LAYER, RMS)} <= measured
        assert {norm for norm, _, d in measured if d == dtype} == {BATCH, RELU, ADD_RELU, EVALUATION, LAYER, RMS}
    assert (BATCH, IMAGES[0], "float16") in measured
    for shapes, norms in ((SMALL_IMAGES, (BATCH,)), (SMALL_TOKENS, (LAYER, RMS))):
        wanted = {(norm, shape, d) for shape in shapes for norm in norms for d in ("float32", "bfloat16")}
        assert wanted == {(g.norm, g.shape, g.dtype) for g in found if g.small and g.shape in shapes}


def test_what_targets_need_is_measured_first_and_little_is_tuned():
    """A run may end early, and max-autotune compiles for long."""
    found = groups()
    assert [(g.norm, g.dtype) for g in found[:4]] == [(BATCH, d) for _ in range(2) for d in ("float32", "bfloat16")]
    assert found[: len(EVERY)] == EVERY, "what a target needs"
    tuned = [(g.norm, g.shape, g.dtype) for g in found if g.autotune]
    images, tokens = (BATCH, IMAGES[0]), (TOKENS[0], "bfloat16")
    assert tuned == [(*images, "float32"), (*images, "bfloat16"), (LAYER, *tokens), (RMS, *tokens)]


# What is compared


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("norm", NORMS)
def test_every_candidate_gives_the_results_of_float64(norm, dtype):
    group = Group(norm, NORMS[norm], dtype, autotune=dtype == "float16")
    compiler = "eager" if group.autotune else "aot_eager"  # one takes a mode
    with torch.no_grad():
        inputs = Inputs.random(group, "cpu")
        built, errors, failed = running._build(group, inputs, FakeDevice(), compiler)
    assert failed == {}
    operations = (FORWARD,) if norm == EVALUATION else (FORWARD, BACKWARD)
    wanted = {(name, what) for name in expected_names(norm, group.autotune) for what in operations}
    assert errors.keys() == {(name, what) for name, what in wanted if (name, what) != (who.FIRST, BACKWARD)}
    assert built.keys() == {name for name, _ in wanted}
    for key, found in errors.items():
        assert 0 < found["error"] < USUAL[dtype], key
        assert found["error_large_mean"] < 0.5, key


def expected_names(norm: str, autotune: bool) -> set[str]:
    found = {who.OURS, who.EAGER, who.COMPILED} | ({who.AUTOTUNED} if autotune else set())
    if norm in (LAYER, RMS):
        return found
    if norm != EVALUATION:
        found.add(who.SPLIT)
    if norm in (BATCH, EVALUATION):
        found |= {who.NATIVE, who.OURS_LAST, who.EAGER_LAST}
    return found | ({who.FIRST} if norm == BATCH else set())


@pytest.mark.parametrize("shape", [(16, 16, 12), (5, 6)])
def test_inputs_that_are_no_images_have_no_channels_last(shape):
    group = Group(BATCH, shape, "float32")
    names = who.makers(group, Inputs.random(group, "cpu")).keys()
    assert {who.OURS, who.FIRST, who.NATIVE} < names and not names & set(who.CHANNELS_LAST)


def test_the_split_way_is_measured_where_the_plan_is_resident(monkeypatch):
    """Also if the plan is so in one direction only: two arrays may not fit where one does."""
    from bncourse import kernels

    plan = kernels.batch_norm_plan
    group = Group(BATCH, NORMS[BATCH], "float32")
    inputs = Inputs.random(group, "cpu")
    both = who.makers(group, inputs)[who.SPLIT]()
    assert both.operations == (FORWARD, BACKWARD) and both.plans == dict.fromkeys(both.operations, who.SPLIT_PLAN)
    for arrays_that_fit, plans in ((1, {FORWARD: who.RESIDENT_PLAN, BACKWARD: who.SPLIT_PLAN}), (0, None)):

        def choose(*matrix, arrays, resident, fit=arrays_that_fit, **options):
            return plan(*matrix, arrays=arrays, resident=resident if arrays <= fit else False, **options)

        monkeypatch.setattr(kernels, "batch_norm_plan", choose)
        makers = who.makers(group, inputs)
        assert makers[who.OURS]().plans == plans or (plans is None and who.SPLIT not in makers)
        if plans:
            assert makers[who.SPLIT]().operations == (FORWARD,)


def test_the_split_way_launches_the_split_kernels():
    from bncourse.kernels.trace import trace

    group = Group(BATCH, NORMS[BATCH], "float32")
    inputs = Inputs.random(group, "cpu")
    launches = {}
    for name in (who.OURS, who.SPLIT):
        candidate = who.makers(group, inputs)[name]()
        launches[name] = [trace(running._call(candidate, what, inputs)).launches for what in (FORWARD, BACKWARD)]
    for ours, split in zip(launches[who.OURS], launches[who.SPLIT], strict=True):
        assert len(ours) == 1 < len(split), "what stays on chip needs one launch"


def test_channels_last_candidates_get_that_layout():
    group = Group(ADD_RELU, NORMS[ADD_RELU], "float32")
    inputs = Inputs.random(group, "cpu")
    for name in ("x", "dy", "residual"):
        assert getattr(inputs.channels_last, name).is_contiguous(memory_format=torch.channels_last)
        assert torch.equal(getattr(inputs.channels_last, name), getattr(inputs, name))
    assert running._given(who.EAGER_LAST, inputs) is inputs.channels_last
    assert running._given(who.EAGER, inputs) is inputs


def test_a_peer_with_another_name_for_its_norms_is_called_as_its_source_says(monkeypatch):
    """Liger, by a stand-in with its signatures: its RMS norm must not write dx over dy."""
    calls = []

    class Layer(torch.autograd.Function):
        @staticmethod
        def forward(ctx, X, W, B, eps):
            calls.append(("layer", eps))
            return torch.nn.functional.layer_norm(X, X.shape[1:], W, B, eps)

    class Rms(torch.autograd.Function):
        @staticmethod
        def forward(ctx, X, W, eps, offset=0.0, casting_mode="llama", in_place=True, row_mode=None):
            calls.append(("rms", eps, offset, in_place))
            return torch.nn.functional.rms_norm(X, X.shape[1:], W, eps)

    names = {"layer_norm": ("LigerLayerNormFunction", Layer), "rms_norm": ("LigerRMSNormFunction", Rms)}
    for module in ("liger_kernel", "liger_kernel.ops"):
        monkeypatch.setitem(sys.modules, module, type(sys)(module))
    for module, (name, function) in names.items():
        found = type(sys)(f"liger_kernel.ops.{module}")
        setattr(found, name, function)
        monkeypatch.setitem(sys.modules, found.__name__, found)
    sys.modules["liger_kernel"].__spec__ = object()  # what find_spec returns of a module that is imported
    for norm in (LAYER, RMS):
        group = Group(norm, (6, 16), "float32")
        inputs = Inputs.random(group, "cpu")
        y, _ = who.makers(group, inputs)[who.LIGER]().forward(inputs)
        assert y.requires_grad and largest_error([y.detach()], exact(group, inputs)[FORWARD]) < 1e-6
    assert calls == [("layer", 1e-5), ("rms", 1e-5, 0.0, False)]


@pytest.mark.parametrize("group", SMALL, ids=lambda group: group.norm)
def test_exact_results_are_those_of_pytorch_in_float64(group):
    inputs = Inputs.random(group, "cpu", mean=3.0)
    leaves = tuple(leaf.double().detach().requires_grad_() for leaf in inputs.leaves)
    running = [None if t is None else t.double() for t in (inputs.running_mean, inputs.running_var)]
    y = who._network(group)(leaves, *running)
    found = exact(group, inputs)
    torch.testing.assert_close(y, found[FORWARD][0], rtol=1e-12, atol=1e-12)
    if BACKWARD in group.operations:
        gradients = torch.autograd.grad(y, leaves, inputs.dy.double())
        torch.testing.assert_close(gradients, found[BACKWARD], rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("group", SMALL, ids=lambda group: group.norm)
def test_exact_statistics_are_those_of_pytorch_in_float64(group):
    inputs = Inputs.random(group, "cpu", mean=3.0)
    found = exact(group, inputs)[STATISTICS]
    x = inputs.x.double()
    if group.norm in (LAYER, RMS):
        moments = x.var(1, correction=0) if group.norm == LAYER else x.square().mean(1)
        wanted = [*([x.mean(1)] if group.norm == LAYER else []), (moments + 1e-5).rsqrt()]
    else:
        training = group.norm != EVALUATION
        running = [inputs.running_mean.double(), inputs.running_var.double()]
        axes = [0, *range(2, x.ndim)]
        mean, var = (x.mean(axes), x.var(axes, correction=0)) if training else running
        wanted = [mean.clone(), (var + 1e-5).rsqrt(), *running]
        torch.nn.functional.batch_norm(x, *running, training=training, momentum=0.1)
    torch.testing.assert_close(found, tuple(wanted), rtol=1e-12, atol=1e-12)


def test_inputs_have_the_mean_that_is_asked_for():
    group = Group(BATCH, (8, 3, 16, 16), "bfloat16")
    inputs = Inputs.random(group, "cpu", mean=LARGE_MEAN)
    assert inputs.x.dtype == torch.bfloat16 and inputs.weight.dtype == torch.float32
    assert inputs.x.double().mean() == pytest.approx(LARGE_MEAN, abs=0.2)
    assert Inputs.random(Group(LAYER, (4, 8), "bfloat16"), "cpu").weight.dtype == torch.bfloat16


def test_no_gradient_comes_where_rounding_decides_on_the_side_of_the_relu():
    group = Group(RELU, (8, 3, 16, 16), "float32")
    inputs = Inputs.random(group, "cpu")
    y = exact(replace_norm(group, BATCH), inputs)[FORWARD][0]
    close = y.abs() < KINK
    assert 0.005 < close.double().mean() < 0.2
    assert inputs.dy[close].abs().max() == 0 and (inputs.dy[~close] != 0).double().mean() > 0.999


def replace_norm(group: Group, norm: str) -> Group:
    return replace(group, norm=norm)


def test_the_largest_error_is_relative_to_the_largest_value_of_each_result():
    wanted = (torch.tensor([2.0, -100.0]).double(), torch.tensor([1e-3]).double())
    assert largest_error((torch.tensor([1.0, -100.0]), torch.tensor([1.1e-3])), wanted) == pytest.approx(0.1, rel=1e-5)
    for wrong in (math.nan, math.inf):
        assert largest_error((torch.tensor([wrong, -100.0]), torch.tensor([1e-3])), wanted) == math.inf
    with pytest.raises(ValueError, match="shapes"):
        largest_error((torch.tensor([1.0, 2.0]),), wanted)
    with pytest.raises(ValueError, match="shapes"):
        largest_error((torch.ones(1), torch.ones(1)), wanted)


# Timing


def test_each_call_is_between_two_marks_after_a_flush_and_nobody_waits_for_the_device():
    device = FakeDevice()
    calls = {name: lambda name=name: device.log.append(name) for name in "AB"}
    timing.interleave(calls, device, runs=4, warmup=2)
    *rest, last = device.log
    assert last == "synchronize" and len(rest) == 4 * 2 * 6
    turns = [rest[i : i + 4] for i in range(0, len(rest), 4)]
    assert all(turn in (["flush", "mark", name, "mark"] for name in "AB") for turn in turns)
    orders = [(first[2], second[2]) for first, second in zip(turns[::2], turns[1::2], strict=True)]
    assert set(orders) == {("A", "B"), ("B", "A")}


def test_times_are_those_of_the_calls_without_flush_and_warmup():
    device = FakeDevice()
    durations = iter([9, 9, 1, 2, 3])
    found = timing.interleave({"A": lambda: device.spend(next(durations))}, device, runs=3, warmup=2)
    assert found["A"].seconds == pytest.approx((1, 2, 3), abs=2e-6)
    with pytest.raises(ValueError, match="at least 2 runs.*got 1"):
        timing.interleave({"A": dict}, device, runs=1)


def test_calls_in_a_row_are_timed_by_the_host_until_the_device_has_finished():
    """Two turns of three calls, the second half as fast; each takes the host 1 s, and the device 5 s once at the end."""
    device = FakeDevice()
    device.synchronize = lambda: device.log.append("synchronize") or device.spend(5)
    pace = [1.0]

    def call(name: str) -> None:
        device.log.append(name)
        device.spend(pace[0] if name == "A" else 2 * pace[0])

    def clock() -> float:
        device.log.append("clock")
        return device.now

    calls = {name: lambda name=name: call(name) for name in "AB"}
    found = timing.in_a_row(calls, device, runs=2, warmup=1, calls=3, clock=clock)
    assert found["A"].seconds == pytest.approx([(3 + 5) / 3] * 2) and found["B"].seconds == pytest.approx([11 / 3] * 2)
    first, *rest = device.log
    assert first == "synchronize" and len(rest) == 3 * 2 * 6, "what came before is not timed, and nothing is flushed"
    turns = [rest[i : i + 6] for i in range(0, len(rest), 6)]
    assert all(turn in (["clock", *3 * [name], "synchronize", "clock"] for name in "AB") for turn in turns)
    assert {turn[1] for turn in turns[2:4]} == {"A", "B"}, "they take turns"


def test_kernels_belong_to_the_call_whose_marker_comes_before_them():
    kernels = ["early", "spin_kernel(long)", "a", "b", "at::cuda::spin_kernel(long)", "void spin_kernel(long)", "c"]
    assert timing.by_call("xyz", kernels, "spin_kernel") == {"x": ["a", "b"], "y": [], "z": ["c"]}
    assert timing.by_call("xy", kernels, "spin_kernel") == {}, "a marker too many: nobody knows whose is whose"


@pytest.mark.parametrize(
    ("kernels", "wanted"),
    [
        (["void cudnn::bn_fw_tr_1C11_kernel_NCHW<float, float, int, 512>"], "cuDNN"),
        (["void at::native::batch_norm_collect_statistics_kernel<...>", "void at::native::elementwise"], "PyTorch"),
        (["Memset (Device)", "_batch_norm_statistics_kernel", "triton_red_fused_0"], "Triton"),
        (["triton_red_fused_0", "void at::native::fill"], "Triton + PyTorch"),
        (["void cub::DeviceReduceKernel<float>", "a_kernel_of_any_name"], "other + Triton"),
        ([], ""),
    ],
)
def test_the_names_of_kernels_tell_whose_they_are(kernels, wanted):
    assert timing.backend(kernels) == wanted


# The part for GPUs, as far as PyTorch's own classes can stand in


@pytest.fixture
def cuda():
    found = object.__new__(Cuda)
    found._properties = SimpleNamespace(uuid="12ab")
    return found


def test_clocks_are_what_the_driver_says(cuda, monkeypatch):
    asked = []

    def query(command, **options):
        asked.append(command)
        return SimpleNamespace(stdout="1980, 3201, 45, 350.25\n")

    monkeypatch.setattr(subprocess, "run", query)
    assert cuda.clocks() == {"clock_mhz": 1980, "memory_clock_mhz": 3201, "celsius": 45, "watts": 350.25}
    assert asked[0][:2] == ["nvidia-smi", "--id=GPU-12ab"]
    monkeypatch.setattr(subprocess, "run", lambda *args, **options: SimpleNamespace(stdout="1980, [N/A], 45, 1"))
    assert cuda.clocks() == {}
    monkeypatch.setattr(subprocess, "run", lambda *args, **options: (_ for _ in ()).throw(FileNotFoundError()))
    assert cuda.clocks() == {} and cuda._query("driver_version") is None


def test_after_a_flush_the_device_is_busy_while_a_call_is_prepared(cuda, monkeypatch):
    """Else, what the device idles until the launch comes would count where the host needs longer than the flush."""
    done = []
    cuda._cache = "the cache"
    cuda._driver = SimpleNamespace(clear_cache=done.append)
    monkeypatch.setattr(torch.cuda, "_sleep", done.append)
    cuda.flush()
    assert done[0] == "the cache" and 150e-6 < done[1] / 2e9 < 1e-3


def test_kernels_are_read_from_the_profile_in_the_order_of_their_start(cuda, monkeypatch):
    def event(name: str, start: float, device: str = "CUDA", annotation: bool = False) -> FunctionEvent:
        kind = getattr(torch.autograd.DeviceType, device)
        times = {"id": 1, "thread": 0, "start_us": start, "end_us": start + 1}
        return FunctionEvent(name=name, device_type=kind, is_user_annotation=annotation, **times)

    launched = [("spin_kernel", 1.0), ("second", 3.0), ("first", 2.0), ("spin_kernel", 4.0), ("other", 5.0)]
    events = [event(*each) for each in launched]
    events += [event("cudaLaunchKernel", 2.5, "CPU"), event("a region", 2.6, annotation=True)]
    ran = []
    profile = nullcontext(SimpleNamespace(events=lambda: events))
    monkeypatch.setattr(torch.profiler, "profile", lambda activities: profile)
    monkeypatch.setattr(torch.cuda, "_sleep", lambda cycles: ran.append("spin"))
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: ran.append("wait"))
    found = cuda.kernels({name: lambda name=name: ran.append(name) for name in "AB"})
    assert found == {"A": ["first", "second"], "B": ["other"]}
    assert ran == ["wait", "spin", "A", "spin", "B", "wait"]


def test_the_peak_is_what_a_call_adds_and_events_count_milliseconds(cuda, monkeypatch):
    done = []
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: done.append("wait"))
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda: 100)
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda: done.append("reset"))
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda: 350)
    assert cuda.peak_bytes(lambda: done.append("call")) == 250
    assert done == ["wait", "reset", "call", "wait"]
    assert cuda.seconds(SimpleNamespace(elapsed_time=lambda end: end), 2.0) == pytest.approx(2e-3)


# Measuring


@pytest.fixture(scope="module")
def measured():
    """Every norm on small inputs, with a device whose clock stands still but for a microsecond a call."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(running, "WARMUP", 0)
        return {g.norm: running.measure(g, FakeDevice(), runs=2, programs=4, compiler="aot_eager") for g in SMALL}


@pytest.mark.parametrize("group", SMALL, ids=lambda group: group.norm)
def test_a_group_has_a_result_of_every_candidate_in_every_operation(measured, group):
    found = measured[group.norm]
    assert found["failed"] == {} and found["clocks"] == {"clock_mhz": 1980.0}
    names = expected_names(group.norm, autotune=False)
    wanted = {(name, what) for name in names for what in group.operations} - {(who.FIRST, BACKWARD)}
    results = [Result.of(fields) for fields in found["results"]]
    assert {(r.name, r.operation) for r in results} == wanted and len(results) == len(wanted)
    for r in results:
        assert r.microseconds.median == pytest.approx(1) and r.peak_bytes == 1000
        assert r.times.keys() == {who.EAGER, who.COMPILED}
        assert r.kernels == (f"kernel of {r.name}", "Memset (Device)") and r.launches == 2
        assert r.error < 1e-6 and r.in_a_row is None and r.times_in_a_row == {}
    for what in group.operations:
        assert [copy["bytes"] for copy in found["copies"][what]] == list(traffic(group, what, 4))
    plans = {(r.name, r.operation): r.plan for r in results}
    if group.norm == BATCH:
        assert plans[who.OURS, BACKWARD] == "resident" and plans[who.SPLIT, BACKWARD] == "split"
        assert plans[who.EAGER, FORWARD] is None


@pytest.mark.parametrize("group", [Group(BATCH, SMALL_IMAGES[0], "float32"), Group(RMS, SMALL_TOKENS[0], "bfloat16")])
def test_small_inputs_are_timed_in_a_row_too_and_compiled_by_nobody(group, monkeypatch):
    monkeypatch.setattr(running, "WARMUP", 0)
    monkeypatch.setattr(running, "CALLS", 1)
    found = running.measure(group, FakeDevice(), runs=2)
    names = {who.OURS, who.EAGER, who.NATIVE} if group.norm == BATCH else {who.OURS, who.EAGER}
    results = [Result.of(json.loads(json.dumps(fields))) for fields in found["results"]]
    assert {(r.name, r.operation) for r in results} == {(name, what) for name in names for what in (FORWARD, BACKWARD)}
    for r in results:
        assert r.microseconds.median == pytest.approx(1) and r.times.keys() == {who.EAGER}
        assert r.in_a_row.median > 1 and r.times_in_a_row.keys() == {who.EAGER}, "the host's clock does not stand still"
    ours, eager = (next(r for r in results if r.name == name) for name in (who.OURS, who.EAGER))
    assert eager.times_in_a_row[who.EAGER] == Spread(1, 1, 1)
    assert ours.times_in_a_row[who.EAGER].median < 1, "the interpreter is slow"


def test_a_copy_moves_as_many_bytes_as_the_operation(monkeypatch):
    copied = []
    original = torch.Tensor.copy_
    monkeypatch.setattr(torch.Tensor, "copy_", lambda y, x: copied.append(x.nbytes + y.nbytes) or original(y, x))
    for dtype in ("float32", "bfloat16"):
        running._copy(1200, dtype, FakeDevice())()
    assert copied == [1200, 1200]


def test_shares_and_speeds_are_taken_round_by_round():
    """Copies of 2 and 3 µs, ours 4 µs, eager 8 µs; in the second round all are ten times as slow."""
    names = (*running.COPIES, who.OURS, who.EAGER)
    timings = {n: timing.Timing((t, 10 * t)) for n, t in zip(names, (2e-6, 3e-6, 4e-6, 8e-6), strict=True)}
    found = running._times(who.OURS, timings)
    assert found["f_comp"].median == pytest.approx(0.5) and found["f_stream"].median == pytest.approx(0.75)
    assert found["times"].keys() == {who.EAGER} and found["times"][who.EAGER].median == pytest.approx(2)
    assert found["microseconds"].median == pytest.approx(22)


def test_a_candidate_that_fails_is_named_and_the_others_are_measured(monkeypatch):
    def broken(*args, **options):
        raise RuntimeError("out of shared memory")

    monkeypatch.setattr(who, "_eager_batch_norm", broken)
    monkeypatch.setattr(running, "WARMUP", 0)
    found = running.measure(SMALL[0], FakeDevice(), runs=2, compiler="eager")
    why = "RuntimeError: out of shared memory"
    assert found["failed"] == {who.EAGER: why, who.NATIVE: why, who.EAGER_LAST: why}
    assert {who.OURS, who.COMPILED} <= {row["name"] for row in found["results"]}
    assert f"{who.EAGER} is not measured: {why}" in command.describe(found | {"seconds": 1.0})


# Right results


def a_candidate(
    group: Group, *, off: float = 0.0, statistics: list[float] | None = None, large: float = 0.0
) -> who.Candidate:
    """One whose largest errors are known: of y and dx, of each of the statistics, and of y at a large mean."""

    def forward(i: Inputs) -> tuple[torch.Tensor, Inputs]:
        y = exact(group, i)[FORWARD][0]
        return y * (1 + (large if i.x.mean() > 100 else off)), i

    def backward(i: Inputs, saved: Inputs) -> tuple[torch.Tensor, ...]:
        dx, *others = exact(group, i)[BACKWARD]
        return (dx * (1 + off), *others)

    def found(i: Inputs, saved: Inputs) -> tuple[torch.Tensor, ...]:
        return tuple(s * (1 + error) for s, error in zip(exact(group, i)[STATISTICS], statistics, strict=True))

    return who.Candidate(forward, backward, statistics=found if statistics else None)


def built(monkeypatch, group: Group, **candidates: who.Candidate) -> tuple[dict, dict, dict]:
    monkeypatch.setattr(who, "makers", lambda *args, **options: {name: lambda c=c: c for name, c in candidates.items()})
    return running._build(group, Inputs.random(group, "cpu"), FakeDevice(), "eager")


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_who_is_off_by_more_than_rounding_is_rejected(dtype, monkeypatch):
    group, limit = Group(BATCH, NORMS[BATCH], dtype), TOLERANCE[dtype]
    candidates = {name: a_candidate(group, off=off) for name, off in (("right", 0.99 * limit), ("wrong", 1.01 * limit))}
    found, errors, failed = built(monkeypatch, group, **candidates, none=a_candidate(group, off=math.nan))
    assert found.keys() == {"right"} and errors.keys() == {("right", FORWARD), ("right", BACKWARD)}
    assert errors["right", BACKWARD]["error"] == pytest.approx(0.99 * limit, rel=1e-3)
    assert failed == {
        "wrong": f"Wrong: forward off by {1.01 * limit:.1e} of the largest value, more than {limit:.1e}",
        "none": f"Wrong: forward off by inf of the largest value, more than {limit:.1e}",
    }


def test_a_large_mean_may_cost_digits_but_not_give_nan(monkeypatch):
    group = Group(BATCH, NORMS[BATCH], "float32")
    candidates = {"inexact": a_candidate(group, large=0.5), "none": a_candidate(group, large=math.nan)}
    found, errors, failed = built(monkeypatch, group, **candidates)
    assert found.keys() == {"inexact"} and errors["inexact", FORWARD]["error_large_mean"] == pytest.approx(0.5)
    assert failed == {"none": "Wrong: forward off by inf of the largest value, at a large mean"}


@pytest.mark.parametrize("error", [2e-4, math.nan])
@pytest.mark.parametrize("which", range(4))
def test_statistics_are_in_float32_whatever_the_inputs_are(which, error, monkeypatch):
    group = Group(BATCH, NORMS[BATCH], "bfloat16")
    right = a_candidate(group, statistics=[5e-5] * 4)
    wrong = a_candidate(group, statistics=[error if i == which else 0.0 for i in range(4)])
    found, _, failed = built(monkeypatch, group, right=right, wrong=wrong)
    assert found.keys() == {"right"} and failed["wrong"].startswith("Wrong: statistics off by ")


@pytest.mark.parametrize(
    ("group", "function"),
    [(SMALL[0], "batch_norm_forward"), (SMALL[3], "batch_norm_forward")]
    + [(SMALL[4], "layer_norm_forward"), (SMALL[5], "rms_norm_forward")],
    ids=lambda value: getattr(value, "norm", ""),
)
@pytest.mark.parametrize("place", [1, -1])
def test_what_ours_saves_is_checked(group, function, place, monkeypatch):
    from bncourse import kernels

    original = getattr(kernels, function)

    def wrong(*args, **options):
        found = list(original(*args, **options))
        found[place] = found[place] * 1.001
        return tuple(found)

    monkeypatch.setattr(kernels, function, wrong)
    candidate, inputs = who.makers(group, Inputs.random(group, "cpu"))[who.OURS](), Inputs.random(group, "cpu")
    off = running._errors(who.OURS, candidate, FORWARD, inputs, exact(group, inputs))
    assert off[FORWARD] < 1e-6 and off[STATISTICS] == pytest.approx(1e-3, rel=1e-2)


def test_running_statistics_of_ours_are_checked(monkeypatch):
    from bncourse import kernels

    original = kernels.batch_norm_forward
    change = {"momentum": 0.2}
    monkeypatch.setattr(kernels, "batch_norm_forward", lambda *args, **options: original(*args, **options | change))
    monkeypatch.setattr(running, "WARMUP", 0)
    monkeypatch.setattr(running, "CALLS", 1)
    found = running.measure(replace(SMALL[0], shape=SMALL_IMAGES[0]), FakeDevice(), runs=2)
    assert found["failed"].keys() == {who.OURS} and "statistics off" in found["failed"][who.OURS]
    assert {row["name"] for row in found["results"]} == {who.EAGER, who.NATIVE}
    assert f"{who.OURS} is not measured: Wrong: statistics" in command.describe(found | {"seconds": 1.0})


def test_who_is_wrong_is_no_baseline(monkeypatch):
    from bncourse.benchmark.gpu import candidates

    group = Group(BATCH, SMALL_IMAGES[0], "float32")
    monkeypatch.setattr(candidates, "_eager_batch_norm", lambda group, **options: a_candidate(group, off=math.nan))
    monkeypatch.setattr(running, "WARMUP", 0)
    monkeypatch.setattr(running, "CALLS", 1)
    found = running.measure(group, FakeDevice(), runs=2)
    assert found["failed"].keys() == {who.EAGER, who.NATIVE}
    rows = [Result.of(row) for row in found["results"]]
    assert {row.name for row in rows} == {who.OURS} and not any(row.times or row.times_in_a_row for row in rows)


@pytest.mark.parametrize("name", [who.OURS, who.EAGER, who.LIGER])
def test_small_memory_that_a_candidate_leaves_unwritten_shows(name):
    """What was freed last comes back first, here with the right result in it."""
    group = SMALL[0]
    inputs = Inputs.random(group, "cpu")
    wanted = exact(group, inputs)

    def backward(i: Inputs, saved: None) -> tuple[torch.Tensor, ...]:
        dx, dweight, dbias = wanted[BACKWARD]
        unwritten = torch.empty_like(dweight)
        return dx, torch.where(unwritten.isnan(), unwritten, dweight), dbias

    candidate = who.Candidate(lambda i: (wanted[FORWARD][0], None), backward)
    assert running._errors(name, candidate, BACKWARD, inputs, wanted)[BACKWARD] == math.inf
    assert not torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        running._errors(name, candidate, BACKWARD, inputs, wanted)
        assert torch.is_deterministic_algorithms_warn_only_enabled(), "as it was before"
    finally:
        torch.use_deterministic_algorithms(False)


@torch.no_grad()
def test_checking_does_not_make_torch_compile_compile_again():
    """It does when PyTorch is asked for deterministic algorithms."""
    compiled = []

    def compiler(graph: torch.fx.GraphModule, example: list) -> Callable:
        compiled.append(graph)
        return graph.forward

    group = SMALL[0]
    inputs = Inputs.random(group, "cpu")
    candidate = who._compiled(group, inputs, None, compiler)
    assert len(compiled) == 1
    for operation in (FORWARD, BACKWARD):
        for trial in (inputs, Inputs.random(group, "cpu", mean=LARGE_MEAN)):
            running._errors(who.COMPILED, candidate, operation, trial, exact(group, trial))
    assert len(compiled) == 1
    with running._new_memory_is_nan():
        candidate.forward(inputs)
    assert len(compiled) == 2, "or nobody has to avoid it"
    torch.compiler.reset()


def test_a_check_leaves_the_running_statistics_as_they_are():
    inputs = Inputs.random(SMALL[0], "cpu")
    before = inputs.running_mean.clone()
    candidate = who.makers(SMALL[0], inputs)[who.OURS]()
    for operation in (FORWARD, BACKWARD):
        running._errors(who.OURS, candidate, operation, inputs, exact(SMALL[0], inputs))
    assert torch.equal(inputs.running_mean, before)


def test_memory_that_a_candidate_leaves_unwritten_shows(monkeypatch):
    """What was freed comes back as it was left, poisoned; here the stand-in's memory, with the result of a call before."""
    inputs = Inputs.random(SMALL[0], "cpu")
    wanted = exact(SMALL[0], inputs)
    memory, poison = wanted[FORWARD][0].clone(), []

    def full_like(x: torch.Tensor, value: float) -> torch.Tensor:
        made = memory.fill_(value).clone()
        poison.append(weakref.ref(made))
        return made

    def forward(i: Inputs) -> tuple[torch.Tensor, None]:
        assert poison and all(freed() is None for freed in poison), "held memory cannot come back"
        return memory, None

    monkeypatch.setattr(torch, "full_like", full_like)
    off = running._errors(who.COMPILED, who.Candidate(forward), FORWARD, inputs, wanted)
    assert off == {FORWARD: math.inf}


def test_a_compiled_backward_pass_can_be_called_again():
    """Inductor would reuse the memory of what was saved, unless it is told not to."""
    assert config.donated_buffer, "or nobody has to tell it"
    seen = []

    def compiler(graph: torch.fx.GraphModule, example: list) -> Callable:
        seen.append(config.donated_buffer)
        return graph.forward

    who._compiled(SMALL[1], Inputs.random(SMALL[1], "cpu"), None, compiler)
    assert seen == [False], "compiled once, and not again in later calls"
    torch.compiler.reset()


# Going on


class Clock:
    """Says 0, 10, 20, ... seconds, so that a group takes 10."""

    def __init__(self):
        self.now = -10.0

    def __call__(self) -> float:
        self.now += 10
        return self.now


@pytest.fixture
def quick(monkeypatch):
    """Measuring takes no time, and says what was asked for."""
    asked = []

    def measure(group, device, *, runs, programs):
        asked.append(group.key)
        return a_group(group, {}, {})

    monkeypatch.setattr(running, "measure", measure)
    monkeypatch.setattr(running, "peaks", lambda device: {"gflops": 60000.0, "copy_gb_per_s": 4300.0})
    return asked


def start(folder: Path, device: FakeDevice | None = None, **options: object) -> tuple[Path, list[Group]]:
    given = {"seconds": 1e6, "runs": 5, "command": "a command", "folder": folder} | options
    return running.run(device or FakeDevice(), SMALL, **given)


def test_a_run_that_is_interrupted_goes_on_where_it_ended(tmp_path, quick, monkeypatch):
    finish = running.measure

    def interrupted(group, device, **options):
        if len(quick) == 2:
            raise KeyboardInterrupt
        return finish(group, device, **options)

    monkeypatch.setattr(running, "measure", interrupted)
    with pytest.raises(KeyboardInterrupt):
        start(tmp_path)
    file = tmp_path / "fake_gpu_1.json"
    begun = tmp_path / "fake_gpu_1.partial.json"
    assert partial(file) == begun and list(tmp_path.iterdir()) == [begun]
    assert [g["norm"] for g in json.loads(begun.read_text())["groups"]] == [g.norm for g in SMALL[:2]]
    monkeypatch.setattr(running, "measure", finish)
    assert start(tmp_path) == (file, [])
    assert quick == [group.key for group in SMALL], "none twice"
    record = load(file)
    assert [key[0] for key in record.results] == list(NORMS) and record.peaks.gflops == 60000
    assert record.fields["kind"] == KIND and record.fields["command"] == "a command"
    assert start(tmp_path)[1] == [] and len(quick) == len(SMALL), "there is nothing left to do"
    assert list(tmp_path.iterdir()) == [file], "no parts of files"


def test_an_earlier_record_stays_until_the_new_one_is_whole(tmp_path, quick, monkeypatch):
    file, _ = start(tmp_path)
    before = file.read_text()
    monkeypatch.setattr(running.provenance, "commit", lambda: "another")
    assert start(tmp_path, seconds=0) == (partial(file), SMALL[1:])
    assert file.read_text() == before and load(folder=tmp_path).fields["commit"] != "another"
    assert load(partial(file)).results.keys() == {(SMALL[0].norm, SMALL[0].shape, SMALL[0].dtype)}
    assert start(tmp_path, seconds=0) == (partial(file), SMALL[2:]), "it goes on with the new one"
    assert start(tmp_path) == (file, []) and len(quick) == 2 * len(SMALL)
    assert load(folder=tmp_path).fields["commit"] == "another" and list(tmp_path.iterdir()) == [file]


def test_a_whole_record_is_not_replaced_by_a_part_of_another(tmp_path, quick, monkeypatch):
    file, _ = start(tmp_path)
    before = file.read_text()
    with monkeypatch.context() as another:
        another.setattr(running.provenance, "commit", lambda: "another")
        start(tmp_path, seconds=0)
    assert start(tmp_path) == (file, [])
    assert file.read_text() == before and load(partial(file)).fields["commit"] == "another"


def test_a_fresh_start_that_was_interrupted_goes_on(tmp_path, quick):
    file, _ = start(tmp_path)
    assert start(tmp_path, fresh=True, seconds=0) == (partial(file), SMALL[1:])
    assert start(tmp_path) == (file, []) and len(quick) == 2 * len(SMALL)


def test_a_whole_record_without_a_group_goes_on_too(tmp_path, quick):
    file, _ = start(tmp_path)
    fields = json.loads(file.read_text())
    save(fields | {"groups": fields["groups"][1:]}, file)
    assert start(tmp_path) == (file, []) and len(quick) == len(SMALL) + 1 and not partial(file).exists()


def test_a_file_is_never_half_written(tmp_path, quick, monkeypatch):
    file, _ = start(tmp_path)
    before = file.read_text()
    monkeypatch.setattr(json, "dumps", lambda *args, **options: "{")
    monkeypatch.setattr(Path, "replace", lambda *args: pytest.fail("the disk is full"))
    with pytest.raises(pytest.fail.Exception, match="full"):
        save({"kind": KIND}, file)
    assert file.read_text() == before


@pytest.mark.parametrize(
    ("options", "device"),
    [
        ({"fresh": True}, {}),
        ({"runs": 6}, {}),
        ({}, {"driver": "2.0"}),
        ({}, {"versions": {"torch": "2.0"}}),
    ],
)
def test_other_versions_and_a_fresh_start_measure_everything_anew(tmp_path, quick, options, device):
    start(tmp_path)
    start(tmp_path, FakeDevice(**device), **options)
    assert len(quick) == 2 * len(SMALL)


@pytest.mark.parametrize("name", ["commit", "code"])
def test_other_code_measures_everything_anew(tmp_path, quick, monkeypatch, name):
    start(tmp_path)
    monkeypatch.setattr(running.provenance if name == "commit" else running, name, lambda: "another")
    start(tmp_path)
    assert len(quick) == 2 * len(SMALL)


def test_the_fingerprint_is_of_the_kernels_and_of_what_measures_them(tmp_path, monkeypatch):
    modules = ("operations", "inputs", "candidates", "timing", "device", "record", "run")
    counted = ["kernels/a.py", "benchmark/timing.py", *(f"benchmark/gpu/{name}.py" for name in modules)]
    for name in (*counted, "benchmark/gpu/targets.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("1")
    monkeypatch.setattr(running.provenance, "__file__", str(tmp_path / "provenance.py"))
    before = running.code()
    (tmp_path / "benchmark/gpu/targets.py").write_text("2")
    assert running.code() == before
    for name in counted:
        (tmp_path / name).write_text(random.Random(name).random().hex())
        assert running.code() != before
        before = running.code()


def test_every_file_of_the_fingerprint_is_there():
    here = Path(running.provenance.__file__).parent
    assert all(list(here.glob(pattern)) for pattern in running.CODE)


def test_a_run_ends_before_its_time_is_up_and_says_what_is_missing(tmp_path, quick):
    """A look at the clock before and after each group, 10 s apart: after 3 groups 70 s have gone, and 10 more would fit not."""
    _, missing = start(tmp_path, seconds=75, clock=Clock())
    assert quick == [group.key for group in SMALL[:3]]
    assert missing == SMALL[3:]
    _, missing = start(tmp_path, seconds=0, clock=Clock())
    assert missing == SMALL[4:], "every run gets on"


def test_the_peaks_are_of_a_product_and_a_copy(monkeypatch):
    """2 · 8³ operations, and 1000 bytes read and written, each in 1 µs."""
    found = running.peaks(FakeDevice(), size=8, copied=1000)
    assert found == pytest.approx({"gflops": 1.024, "copy_gb_per_s": 2.0})


def test_the_beginning_says_where_the_numbers_come_from():
    found = running.beginning(FakeDevice(), 5, "a command")
    for name in (
        "kind",
        "device",
        "driver",
        "multiprocessors",
        "l2_bytes",
        "versions",
        "host",
        "date",
        "commit",
        "code",
    ):
        assert found[name], name


# The record


def spread(value: float) -> dict:
    return {"median": value, "low": value, "high": value}


def a_group(group: Group, values: dict, times: dict, in_a_row: dict | None = None) -> dict:
    """A group of a record: ``values`` has F_comp, F_stream, plan by candidate and operation; ``times`` and ``in_a_row``
    are how many times as fast as others ours is.
    """
    rows = []
    for (name, operation), (comp, stream, plan) in values.items():
        shares = {"f_comp": spread(comp), "f_stream": spread(stream)}
        about = {"kernels": ["k"], "error": 1e-7, "error_large_mean": 1e-3, "peak_bytes": 5, "plan": plan}
        about |= {
            "in_a_row": spread(20.0),
            "times_in_a_row": {other: spread(t) for other, t in (in_a_row or {}).items()},
        }
        row = {"name": name, "operation": operation, "microseconds": spread(100.0), **shares, **about}
        rows.append(row | {"times": {other: spread(t) for other, t in times.items()}})
    copies = {
        what: [{"bytes": size, "microseconds": spread(40.0)} for size in traffic(group, what)]
        for what in group.operations
    }
    described = {"norm": group.norm, "shape": list(group.shape), "dtype": group.dtype}
    return described | {"results": rows, "copies": copies, "failed": {}, "clocks": {}, "seconds": 1.0}


def a_record(entries: list[dict]) -> Record:
    return Record({"groups": entries, "peaks": {"gflops": 60000.0, "copy_gb_per_s": 4300.0}})


def test_a_result_is_read_as_it_was_written():
    one = Spread(2.0, 1.0, 3.0)
    result = Result("ours", FORWARD, one, one, one, {"eager": one}, ("a", "b"), 1e-7, math.inf, 5, "split")
    text = json.dumps(result.fields(), allow_nan=False)
    assert Result.of(json.loads(text)) == result and result.launches == 2
    unseen = replace(result, kernels=None)
    assert Result.of(unseen.fields()) == unseen and unseen.launches is None
    small = replace(result, in_a_row=one, times_in_a_row={"eager": one})
    assert Result.of(json.loads(json.dumps(small.fields(), allow_nan=False))) == small


def test_no_record_is_none_and_the_newest_is_found_among_other_files(tmp_path):
    assert load(folder=tmp_path) is None and load(tmp_path / "none.json") is None
    (tmp_path / "other.json").write_text('{"claims": []}')
    (tmp_path / "list.json").write_text("[]")
    assert load(folder=tmp_path) is None
    for device, date in (("NVIDIA H200", "2027-01-02T10:00:00+00:00"), ("A", "2027-01-02T09:00:00+00:00")):
        fields = {"kind": KIND, "device": device, "date": date, "groups": []}
        save(fields, path(device, tmp_path))
    assert load(folder=tmp_path).fields["device"] == "NVIDIA H200"
    assert load(tmp_path / "a.json").fields["device"] == "A"


def test_a_record_that_is_being_made_counts_where_there_is_no_whole_one(tmp_path):
    for date, file in (("2027-01-02", partial(path("B", tmp_path))), ("2027-01-01", partial(path("A", tmp_path)))):
        save({"kind": KIND, "device": file.name, "date": date, "groups": []}, file)
    assert load(folder=tmp_path).fields["device"] == "b.partial.json", "the newest"
    save({"kind": KIND, "device": "A", "date": "2026-01-01", "groups": []}, path("A", tmp_path))
    assert load(folder=tmp_path).fields["device"] == "A"


def test_a_file_has_the_name_of_its_device():
    assert path("NVIDIA H200").name == "nvidia_h200.json"
    assert path("NVIDIA GeForce RTX 4090 (Laptop)").name == "nvidia_geforce_rtx_4090_laptop.json"


def test_numbers_are_written_with_five_digits(tmp_path):
    save({"kind": KIND, "a": [1.23456789, (2.0, 3)], "n": 123456789}, tmp_path / "a.json")
    assert json.loads((tmp_path / "a.json").read_text()) == {"kind": KIND, "a": [1.2346, [2.0, 3]], "n": 123456789}


SHAPE = IMAGES[3]


def a_ladder(resident: bool) -> Record:
    """Batch norm with and without ReLU, all in 100 µs; copies of two and of three arrays in 40 µs."""
    plan = "resident" if resident else "split"
    names = [who.EAGER, who.COMPILED, who.FIRST, *([who.SPLIT] if resident else [])]
    values = {(name, FORWARD): (0.5, 0.5, None) for name in names} | {(who.OURS, FORWARD): (0.5, 0.5, plan)}
    fused = {(who.OURS, FORWARD): (0.5, 0.5, plan)}
    return a_record([a_group(Group(n, SHAPE, "float32"), v, {}) for n, v in ((BATCH, values), (RELU, fused))])


@pytest.mark.parametrize("resident", [False, True])
def test_steps_are_predicted_by_a_copy_of_nearly_as_many_bytes(resident):
    """With copies of 2 S and 3 S in 40 µs: 2 S in 40 µs and 3 S in 40 µs, but for the parameters."""
    steps = {step.name: step for step in a_ladder(resident).steps(SHAPE, "float32")}
    names = ["eager", "torch.compile", "first kernel", "split", *(["resident"] if resident else []), "with ReLU"]
    assert list(steps) == names
    assert {name: step.arrays for name, step in steps.items()} == dict.fromkeys(names, 3) | (
        {"resident": 2, "with ReLU": 2} if resident else {}
    )
    for step in steps.values():
        assert step.predicted == pytest.approx(40e-6, rel=1e-2) and step.measured.median == pytest.approx(100e-6)
        assert step.times_predicted == pytest.approx(2.5, rel=1e-2)


def test_eager_moves_more_where_the_relu_is_an_operation_of_its_own():
    group = Group(ADD_RELU, SHAPE, "float32")
    values = {(name, what): (0.5, 0.5, None) for name in (who.EAGER, who.OURS) for what in (FORWARD, BACKWARD)}
    record = a_record([a_group(group, values, {})])
    for operation, arrays in ((FORWARD, [8, 4]), (BACKWARD, [8, 7])):
        steps = record.steps(SHAPE, "float32", norm=ADD_RELU, operation=operation)
        assert [step.arrays for step in steps] == arrays


def test_what_was_not_measured_is_no_step():
    assert a_record([]).steps(SHAPE, "float32") == [] == a_record([]).points(SHAPE, "float32")


def test_steps_and_points_can_be_drawn():
    record = a_ladder(resident=True)
    for ax in (
        plots.plot_steps_beside_model(record.steps(SHAPE, "float32"), unit="microseconds"),
        plots.plot_roofline(record.points(SHAPE, "float32"), record.peaks),
    ):
        ax.figure.canvas.draw()
        plots.plt.close(ax.figure)


def test_points_are_operations_per_byte_and_second():
    """6 operations per value, in three arrays of float32 or two; 12.8 million values in 100 µs."""
    points = {point.name: point for point in a_ladder(resident=True).points(SHAPE, "float32")}
    assert points["split"].flops_per_byte == pytest.approx(6 / 12)
    assert points["resident"].flops_per_byte == pytest.approx(6 / 8)
    assert points["eager"].gflops == pytest.approx(6 * 64 * 1024 * 14 * 14 / 100e-6 / 1e9)
    assert "with ReLU" not in points


# Targets

EVERY = [g for g in groups() if g.norm in (BATCH, LAYER, RMS) and g.dtype != "float16"]
GOOD = {who.EAGER: 3.5, who.COMPILED: 1.2, who.AUTOTUNED: 1.1}
SMALL_KEY = (RMS, SMALL_TOKENS[0], "float32", FORWARD)


def whole(
    changed: dict | None = None, *, left_out: object = None, in_a_row: dict | None = None, wrong: dict | None = None
) -> Record:
    """A record of everything where ours reaches 0.97; by group and operation, ``changed`` has (F_comp, F_stream, times),
    ``in_a_row`` how many times as fast as eager ours is, where it is not 1.5 times, and ``wrong`` changes to ours.
    """
    entries = []
    for group in EVERY:
        if (group.norm, group.shape, group.dtype) == left_out:
            continue
        rows = []
        for what in group.operations:
            comp, stream, times = (changed or {}).get((group.norm, group.shape, group.dtype, what), (0.97, 0.97, GOOD))
            row_times = {who.EAGER: (in_a_row or {}).get((group.norm, group.shape, group.dtype, what), 1.5)}
            given = a_group(group, {(who.OURS, what): (comp, stream, None)}, times, row_times if times else {})
            (row,) = given["results"]
            rows.append(row | (wrong or {}).get((group.norm, group.shape, group.dtype, what), {}))
        entries.append(a_group(group, {}, {}) | {"results": rows})
    return a_record(entries)


def verdicts(record: Record) -> dict[str, gpu.Target]:
    return {target.name: target for target in gpu.targets(record)}


def test_a_good_record_meets_every_target():
    found = gpu.targets(whole())
    assert [t.limit for t in found] == [0.95, 1.0, 2.0, 3.0, 0.92, 2.0, 3.0, 0.95, 0.75, 0.95, 0.75, 1.0]
    assert all(t.met is True and t.missing == 0 for t in found)
    assert str(found[0]) == f"{found[0].name}: at least 0.95; 0.970 at {found[0].where}; met"


@pytest.mark.parametrize(
    ("key", "value", "name"),
    [
        ((BATCH, IMAGES[5], "bfloat16", FORWARD), (0.97, 0.94, GOOD), "batch norm forward, F_stream"),
        ((BATCH, IMAGES[1], "float32", BACKWARD), (0.97, 0.91, GOOD), "batch norm backward, F_stream"),
        (
            (BATCH, IMAGES[2], "float32", FORWARD),
            (0.97, 0.97, GOOD | {who.COMPILED: 0.99}),
            "batch norm forward, times torch.compile's speed",
        ),
        (
            (BATCH, IMAGES[2], "float32", FORWARD),
            (0.97, 0.97, GOOD | {who.AUTOTUNED: 0.99}),
            "batch norm forward, times torch.compile's speed",
        ),
        (
            (BATCH, IMAGES[2], "float32", BACKWARD),
            (0.97, 0.97, GOOD | {who.EAGER: 1.9}),
            "batch norm backward, float32, times eager's speed",
        ),
        (
            (BATCH, IMAGES[2], "bfloat16", FORWARD),
            (0.97, 0.97, GOOD | {who.EAGER: 2.9}),
            "batch norm forward, bfloat16, times eager's speed",
        ),
        ((LAYER, TOKENS[1], "float32", FORWARD), (0.94, 0.97, GOOD), "layer norm forward, F_comp"),
        ((LAYER, TOKENS[1], "bfloat16", BACKWARD), (0.74, 0.97, GOOD), "layer norm backward, F_comp"),
        ((RMS, TOKENS[0], "float32", FORWARD), (0.94, 0.97, GOOD), "RMS norm forward, F_comp"),
        ((RMS, TOKENS[2], "float32", BACKWARD), (0.74, 0.97, GOOD), "RMS norm backward, F_comp"),
    ],
)
def test_one_bad_value_misses_its_target_and_no_other(key, value, name):
    found = verdicts(whole({key: value}))
    assert [target.name for target in found.values() if target.met is not True] == [name]
    assert found[name].met is False and found[name].where == ", ".join(map(str, key))
    assert "missed" in str(found[name])


def test_small_inputs_are_compared_in_a_row():
    """Where the device alone is timed, what the host does for a launch does not count."""
    name = "small inputs, calls in a row, times eager's speed"
    found = verdicts(whole(in_a_row={SMALL_KEY: 0.99}))
    assert [target.name for target in found.values() if target.met is not True] == [name]
    assert found[name].met is False and found[name].where == ", ".join(map(str, SMALL_KEY))
    assert verdicts(whole({SMALL_KEY: (0.1, 0.1, GOOD | {who.EAGER: 0.5})}))[name].met is True
    assert verdicts(whole(in_a_row={SMALL_KEY: 1.0}))[name].met is True


@pytest.mark.parametrize("wrong", [{"error": None}, {"error": math.nan}, {"error": 2e-4}, {"error_large_mean": None}])
def test_wrong_results_meet_no_target(wrong):
    key = (BATCH, IMAGES[2], "float32", FORWARD)
    found = [target for target in gpu.targets(whole(wrong={key: wrong})) if not target.met]
    assert [target.met for target in found] == [False] * 3 and all(target.failed == 1 for target in found)
    assert {target.name for target in found} == {
        "batch norm forward, F_stream",
        "batch norm forward, times torch.compile's speed",
        "batch norm forward, float32, times eager's speed",
    }
    assert str(found[0]).endswith("; ours failed in 1; missed")
    assert all(target.met for target in gpu.targets(whole(wrong={key: {"error": 9e-5}})))


def test_where_ours_failed_targets_are_missed_and_where_others_did_they_are_open():
    group = EVERY[0]
    for name, met in ((who.OURS, False), (who.EAGER, True)):
        entry = a_group(group, {}, {}) | {"failed": {name: "Wrong: forward"}}
        others = [g for g in whole().fields["groups"] if g["shape"] != list(group.shape) or g["dtype"] != group.dtype]
        found = {target.name: target for target in gpu.targets(a_record([entry, *others]))}
        target = found["batch norm backward, F_stream"]
        assert (target.met, target.failed, target.missing) == ((False, 1, 0) if not met else (None, 0, 1))
    alone = gpu.targets(a_record([a_group(group, {}, {}) | {"failed": {who.OURS: "Wrong: forward"}}]))[0]
    assert alone.met is False and str(alone) == f"{alone.name}: at least 0.95; ours failed in 1; missed"


def test_values_at_the_limit_meet_their_targets():
    times = {who.EAGER: 3.0, who.COMPILED: 1.0}
    limits = {
        (g.norm, g.shape, g.dtype, what): (0.95, 0.95, times) if what == FORWARD else (0.75, 0.92, times)
        for g in EVERY
        for what in g.operations
    }
    assert all(target.met for target in gpu.targets(whole(limits)))


def test_what_is_missing_keeps_a_target_open_unless_it_is_missed_already():
    left_out = (BATCH, IMAGES[0], "float32")
    found = verdicts(whole(left_out=left_out))
    target = found["batch norm forward, F_stream"]
    assert target.met is None and target.missing == 1 and "so far, 1 not measured" in str(target)
    assert found["batch norm forward, bfloat16, times eager's speed"].met is True
    bad = {(BATCH, IMAGES[1], "float32", FORWARD): (0.5, 0.5, GOOD)}
    assert verdicts(whole(bad, left_out=left_out))["batch norm forward, F_stream"].met is False


def test_without_a_peer_its_target_was_not_measured():
    alone = {(g.norm, g.shape, g.dtype, what): (0.97, 0.97, {}) for g in EVERY for what in g.operations}
    target = verdicts(whole(alone))["batch norm forward, times torch.compile's speed"]
    assert target.value is None and target.met is None and "not measured" in str(target)
    assert all(t.value is None and t.met is None for t in gpu.targets(a_record([])))


# The command


def test_a_group_is_printed_with_all_that_was_measured():
    values = {(who.OURS, FORWARD): (0.5, 0.75, "resident"), (who.NATIVE, FORWARD): (0.25, 0.3, None)}
    group = Group(BATCH, SHAPE, "float32")
    text = command.describe(a_group(group, values, {who.EAGER: 2.0}, {who.EAGER: 1.25}))
    lines = text.splitlines()
    assert lines[1] == "batch norm, (64, 1024, 14, 14), float32; 1 s"
    assert lines[3].split()[:2] == ["forward", "ours"] and "(resident)" in lines[3]
    for part in ("100.0 (100.0 to 100.0)", "0.500", "0.750", "2.00", "20.0", "1.25", "1, Triton", "1e-07", "1e-03"):
        assert part in lines[3]


def test_the_command_prints_the_targets_and_what_is_missing(tmp_path, quick, monkeypatch, capsys):
    from bncourse import kernels
    from bncourse.benchmark.gpu import device

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(kernels, "INTERPRETED", False)
    monkeypatch.setattr(device, "Cuda", FakeDevice)
    monkeypatch.setattr(running.provenance, "RESULTS", tmp_path)
    monkeypatch.setattr(command, "groups", lambda: SMALL)
    benchmark.main(["--seconds", "0", "--runs", "7"])  # on a machine with CUDA
    text = capsys.readouterr().out
    assert "Fake GPU 1" in text and "Targets" in text and "not measured" in text
    assert f"{len(SMALL) - 1} groups" in text and SMALL[-1].key in text
    fields = json.loads((tmp_path / "fake_gpu_1.partial.json").read_text())
    assert fields["runs"] == 7
    assert fields["command"] == "python -m bncourse.benchmark.gpu --seconds 0 --runs 7"
    command.main(["--runs", "7"])
    text = capsys.readouterr().out
    assert "The time is up" not in text and f"The record is {tmp_path / 'fake_gpu_1.json'}" in text


def test_an_interruption_is_no_traceback(tmp_path, quick, monkeypatch, capsys):
    from bncourse import kernels
    from bncourse.benchmark.gpu import device

    def interrupt(*args, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(kernels, "INTERPRETED", False)
    monkeypatch.setattr(device, "Cuda", FakeDevice)
    monkeypatch.setattr(running.provenance, "RESULTS", tmp_path)
    monkeypatch.setattr(running, "measure", interrupt)
    with pytest.raises(SystemExit, match="Interrupted.*goes on"):
        command.main([])
    monkeypatch.setattr(kernels, "INTERPRETED", True)
    with pytest.raises(SystemExit, match="TRITON_INTERPRET"):
        command.main([])


@pytest.mark.parametrize("runs", ["1", "0"])
def test_too_few_rounds_are_refused(runs, capsys):
    with pytest.raises(SystemExit):
        command.main(["--runs", runs])
    assert "at least 2" in capsys.readouterr().err


def test_on_a_cpu_the_command_compares_what_runs_there(monkeypatch):
    asked = []
    monkeypatch.setattr(benchmark, "compare_on_cpu", asked.append)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    benchmark.main(["--runs", "3"])
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    benchmark.main(["--device", "cpu", "--threads", "2"])
    assert [options.runs for options in asked] == [3, 15] and asked[1].threads == 2


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_the_command_says_so_in_one_line():
    """In a process of its own, as people call it."""
    found = subprocess.run(
        [sys.executable, "-m", "bncourse.benchmark.gpu"],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parent.parent)},
    )
    assert found.returncode == 1 and found.stdout == ""
    assert len(found.stderr.splitlines()) == 1 and found.stderr.startswith("No CUDA device")
