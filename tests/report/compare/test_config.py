"""The file that says what to compare."""

import pytest

from tvm_bnn.errors import InputError
from tvm_bnn.report.compare.config import HERE, read

GOOD = """
title = "One"
[[task]]
name = "kitti-road"
size = [64, 128]
[[network]]
name = "float"
task = "kitti-road"
model = "package:factory"
executors = ["pytorch-eager"]
"""


def written(tmp_path, text):
    path = tmp_path / "c.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_defaults_are_this_machine_and_drawn_images(tmp_path):
    config = read(written(tmp_path, GOOD))
    assert [target.name for target in config.target] == [HERE] and config.target[0].threads == []
    assert config.task[0].data_root is None and config.task[0].size == (64, 128)


def test_a_task_may_have_a_name_of_its_own(tmp_path):
    text = GOOD.replace('name = "kitti-road"', 'name = "small road"\ndata = "kitti-road"')
    config = read(written(tmp_path, text.replace('task = "kitti-road"', 'task = "small road"')))
    assert (config.task[0].name, config.task[0].data_set) == ("small road", "kitti-road")


def test_paths_are_relative_to_the_file(tmp_path):
    (tmp_path / "net.safetensors").write_bytes(b"")
    text = GOOD.replace('model = "package:factory"', 'checkpoint = "net.safetensors"')
    text = text.replace("size =", 'data_root = "data"\nsize =')
    config = read(written(tmp_path, text))
    assert config.network[0].checkpoint == tmp_path / "net.safetensors"
    assert config.task[0].data_root == tmp_path / "data"


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('title = "One"', "", "title"),
        ('title = "One"', 'title = "One"\ntitel = 1', "titel.*known are.*title"),
        ("[64, 128]", "[64]", "task.0.size"),
        ("[64, 128]", "[64, 0]", "task.0.size"),
        ('"kitti-road"\nsize', '"kitti"\nsize', "found 'kitti'; the data sets are cityscapes, kitti-road, ecssd"),
        ('"pytorch-eager"', '"pytorch"', "found executor 'pytorch'; accepted are tvm_bnn,.*pytorch-eager"),
        ('model = "package:factory"', "", "as checkpoint or as model"),
        ('model = "package:factory"', 'checkpoint = "nowhere.safetensors"', "nowhere.safetensors is not there"),
        ('task = "kitti-road"\nmodel', 'task = "ecssd"\nmodel', "'float' is for task 'ecssd'"),
        ("executors", 'twin = "other"\nexecutors', "its twin 'other' is no network of its task"),
        ("[[network]]", '[[target]]\nrpc = "here"\n[[network]]', "HOST:PORT is needed"),
        ("[[network]]", '[[target]]\nrpc = "a:1"\nemulated = "x"\n[[network]]', "one of rpc, tracker and emulated"),
        ("[[network]]", '[[target]]\ntracker = "a:1"\n[[network]]', "tracker and key go together"),
        ("[[network]]", '[sweep]\nbranches = [2, 3]\n[[network]]', "rise from 1"),
        ("[[network]]", "[[network]", "no TOML file"),
    ],
)
def test_what_is_wrong_is_one_clear_line(tmp_path, old, new, said):
    assert old in GOOD
    path = written(tmp_path, GOOD.replace(old, new, 1))
    with pytest.raises(InputError, match=said) as caught:
        read(path)
    assert "\n" not in str(caught.value)


def test_same_name_twice(tmp_path):
    twice = GOOD + GOOD[GOOD.index("[[network]]") :]
    with pytest.raises(InputError, match="'float' twice"):
        read(written(tmp_path, twice))


def test_no_such_file(tmp_path):
    with pytest.raises(InputError, match=r"cannot read .*none\.toml"):
        read(tmp_path / "none.toml")
