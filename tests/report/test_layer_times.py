"""Which layers a kernel's calls belong to."""

from tvm_bnn.report.layer_times import layers_of_calls


def test_calls_of_a_shared_kernel_take_its_layers_in_order():
    paths = {"conv": ["a", "c"], "pool": ["b"]}
    assert layers_of_calls(["conv", "pool", "conv"], paths) == [["a"], ["b"], ["c"]]


def test_a_kernel_of_several_layers_names_them_all_once():
    paths = {"conv": ["a", "b", "a"]}
    assert layers_of_calls(["conv"], paths) == [["a", "b"]]
    assert layers_of_calls(["conv", "conv"], paths) == [["a", "b"]] * 2


def test_a_copy_has_no_layer():
    assert layers_of_calls(["copy", "conv"], {"conv": ["a"]}) == [[], ["a"]]
