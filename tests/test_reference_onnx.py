"""ONNX's own conformance cases for the norms, 47 in all.

ONNX's conventions differ from PyTorch's. They are converted here, and nowhere in the package.
"""

import warnings
from collections import Counter

import numpy as np
import onnx.helper
import onnx.numpy_helper
import pytest

from bncourse import reference

# A version of ONNX with other cases shows up here, and is then looked at.
COUNTS = {
    "BatchNormalization": 4,
    "GroupNormalization": 2,
    "InstanceNormalization": 2,
    "LayerNormalization": 19,
    "MeanVarianceNormalization": 1,
    "RMSNormalization": 19,
}


@pytest.fixture(scope="module")
def node_cases():
    """ONNX's cases for the norms; the "_expanded" ones only spell out the same cases in smaller operators."""
    from onnx.backend.test.loader import load_model_tests

    with warnings.catch_warnings():
        # Loading makes the cases of all operators, some of which overflow or divide by zero on purpose.
        warnings.filterwarnings("ignore", category=RuntimeWarning, module=r"onnx\.backend\.test\.case\.node\.")
        cases = load_model_tests(kind="node")
    return [case for case in cases if operator(case) in COUNTS and "_expanded" not in case.name]


def operator(case) -> str | None:
    nodes = case.model.graph.node
    return nodes[0].op_type if len(nodes) == 1 else None


def test_onnx_has_the_cases_that_we_know(node_cases):
    assert Counter(map(operator, node_cases)) == COUNTS


@pytest.mark.parametrize("op_type", COUNTS)
def test_reference_passes_the_cases_of(op_type, node_cases, subtests):
    for case in node_cases:
        if operator(case) == op_type:
            with subtests.test(case.name):
                check(case)


def check(case) -> None:
    (node,) = case.model.graph.node
    attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    assert case.data_sets
    for inputs, wanted in case.data_sets:
        results = RUN[node.op_type](attributes, *map(as_array, inputs))
        # LayerNormalization's Mean and InvStdDev are optional outputs, as are the running statistics.
        for got, expected in zip(results, map(as_array, wanted), strict=node.op_type == "LayerNormalization"):
            assert got.dtype == expected.dtype
            np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6, strict=True)


def as_array(value) -> np.ndarray:
    return value if isinstance(value, np.ndarray) else onnx.numpy_helper.to_array(value)


def batch_normalization(attributes, x, scale, bias, mean, var):
    """ONNX's momentum is the share of the old value, and its running variance is the biased one."""
    training = bool(attributes.get("training_mode", 0))
    momentum = 1 - attributes.get("momentum", 0.9)
    new_mean, new_var = mean.copy(), var.copy()
    eps = attributes.get("epsilon", 1e-5)
    y, _ = reference.batch_norm_forward(
        x, scale, bias, new_mean, new_var, training=training, momentum=momentum, eps=eps
    )
    if not training:
        return (y,)
    count = x.size // x.shape[1]
    batch_share = new_var - (1 - momentum) * var  # momentum · the unbiased variance
    return y, new_mean, (1 - momentum) * var + batch_share * (count - 1) / count


def layer_normalization(attributes, x, scale, bias):
    """ONNX names the first normalized axis, and also returns the mean and 1 / σ, in the type stash_type."""
    assert attributes.get("stash_type", 1) == 1, "float32"
    shape = x.shape[attributes.get("axis", -1) :]
    y, cache = reference.layer_norm_forward(x, shape, scale, bias, eps=attributes.get("epsilon", 1e-5))
    return y, cache.statistics.mean.astype(np.float32), cache.statistics.inv_std.astype(np.float32)


def rms_normalization(attributes, x, scale):
    shape = x.shape[attributes.get("axis", -1) :]
    return (reference.rms_norm_forward(x, shape, scale, eps=attributes.get("epsilon", 1e-5))[0],)


def instance_normalization(attributes, x, scale, bias):
    return (reference.instance_norm_forward(x, scale, bias, eps=attributes.get("epsilon", 1e-5))[0],)


def group_normalization(attributes, x, scale, bias):
    eps = attributes.get("epsilon", 1e-5)
    return (reference.group_norm_forward(x, attributes["num_groups"], scale, bias, eps=eps)[0],)


def mean_variance_normalization(attributes, x):
    """Batch norm without parameters; ONNX adds its epsilon of 1e-9 to σ, beyond what the case can show."""
    return (reference.standardize(x, tuple(attributes.get("axes", (0, 2, 3))), eps=0.0)[0],)


RUN = {
    "BatchNormalization": batch_normalization,
    "GroupNormalization": group_normalization,
    "InstanceNormalization": instance_normalization,
    "LayerNormalization": layer_normalization,
    "MeanVarianceNormalization": mean_variance_normalization,
    "RMSNormalization": rms_normalization,
}
