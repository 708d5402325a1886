"""The artifact file and its runtime: what is written is what runs, and no damage goes unnoticed."""

import errno
import io
import json
import os
import resource
import struct
import subprocess
import sys
import tracemalloc
import zipfile

import numpy as np
import pytest
import torch
import tvm
from tvm import relax

from tvm_bnn import artifact, linker, runtime
from tvm_bnn.errors import ArtifactError, InputError, OutputError
from tvm_bnn.targets import available_cpus, host, resolve

MANIFEST = artifact.new_manifest(
    "small",
    [{"name": "x", "shape": [1, 3, 4, 8], "dtype": "float32", "layout": "NCHW"}],
    [{"shape": [1, 3, 4, 8], "dtype": "float32"}],
    {"name": "t", "triple": "x86_64-linux-gnu", "required_features": [], "threads": 1},
    layers=[{"path": "conv", "op": "conv2d", "shape": [1], "decision": "float", "reason": "", "rule": "", "macs": 3}],
    palette=[(0, 0, 0), (255, 0, 0)],
)


@pytest.fixture
def written(tmp_path):
    path = tmp_path / "model.bnn"
    artifact.write(path, b"\x7fELF library", MANIFEST, {"notes.txt": b"hello"})
    return path


def sealed(payload: bytes, version: int = artifact.FORMAT_VERSION) -> bytes:
    """A file with a right header around any payload."""
    digest = artifact._digest(version, len(payload), io.BytesIO(payload))
    return artifact._HEADER.pack(artifact.MAGIC, version, len(payload), digest) + payload


def read(path) -> tuple[artifact.Manifest, bytes, dict[str, bytes]]:
    """Manifest, library and further members of an artifact."""
    with artifact.opened(path) as content:
        return content.manifest, content.library.read(), content.extra


def test_what_is_written_is_read(written):
    assert read(written) == (MANIFEST, b"\x7fELF library", {"notes.txt": b"hello"})


def test_manifest_has_versions_and_time():
    assert MANIFEST["versions"].keys() == {"tvm_bnn", "tvm", "torch", "python"}
    assert MANIFEST["versions"]["tvm"].startswith("0.27")
    assert MANIFEST["created"].endswith("+00:00")
    assert MANIFEST["palette"] == [[0, 0, 0], [255, 0, 0]]


def test_equal_content_is_equal_bytes(written, tmp_path):
    artifact.write(tmp_path / "again.bnn", b"\x7fELF library", MANIFEST, {"notes.txt": b"hello"})
    assert (tmp_path / "again.bnn").read_bytes() == written.read_bytes()


def test_payload_is_an_ordinary_zip(written):
    with zipfile.ZipFile(io.BytesIO(written.read_bytes()[52:])) as archive:
        assert archive.namelist() == ["manifest.json", "library.so", "notes.txt"]
        assert json.loads(archive.read("manifest.json"))["name"] == "small"


def test_any_damaged_byte_is_noticed(written):
    whole = written.read_bytes()
    for place in range(len(whole)):
        damaged = bytearray(whole)
        damaged[place] ^= 0x40
        written.write_bytes(damaged)
        with pytest.raises(ArtifactError, match=r"is damaged: its checksum|is no compiled network|is cut short"):
            read(written)


def test_any_truncation_is_noticed(written):
    whole = written.read_bytes()
    for size in range(0, len(whole), 7):
        written.write_bytes(whole[:size])
        with pytest.raises(ArtifactError, match="is cut short: "):
            read(written)


def test_appended_bytes_are_noticed(written):
    written.write_bytes(written.read_bytes() + b"\n")
    with pytest.raises(ArtifactError, match="is damaged"):
        read(written)


def test_foreign_file_is_named(tmp_path):
    (tmp_path / "model.bnn").write_bytes(b"PK\x03\x04 a zip of something else")
    with pytest.raises(ArtifactError, match=r"is no compiled network: it starts with b'PK.*expected is a \.bnn file"):
        read(tmp_path / "model.bnn")


def test_newer_format_says_update(tmp_path):
    (tmp_path / "model.bnn").write_bytes(sealed(b"whatever comes", version=7))
    with pytest.raises(ArtifactError, match="has format 7, and this tvm_bnn reads formats up to 1; update"):
        read(tmp_path / "model.bnn")


def test_damaged_version_is_damage_and_no_newer_format(written):
    content = bytearray(written.read_bytes())
    content[8:12] = struct.pack("<I", 7)
    written.write_bytes(content)
    with pytest.raises(ArtifactError, match="is damaged"):
        read(written)


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(ArtifactError, match=r"cannot read the artifact .*No such file"):
        read(tmp_path / "none.bnn")
    with pytest.raises(ArtifactError, match=r"cannot read the artifact .*Is a directory"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"library.so": b""}, "holds no manifest.json"),
        ({"manifest.json": json.dumps(MANIFEST).encode()}, "holds no library.so"),
        ({"manifest.json": b"{", "library.so": b""}, "is no JSON"),
        ({"manifest.json": b"[]", "library.so": b""}, "lacks an object"),
        ({"manifest.json": b'{"name": "x"}', "library.so": b""}, "lacks inputs, outputs, target, layers, versions"),
        (
            {"manifest.json": json.dumps({**MANIFEST, "target": {}}).encode(), "library.so": b""},
            r"lacks target\.name, target\.triple",
        ),
    ],
)
def test_whole_file_with_wrong_content(tmp_path, members, message):
    (tmp_path / "model.bnn").write_bytes(sealed(artifact._pack(members)))
    with pytest.raises(ArtifactError, match=message):
        read(tmp_path / "model.bnn")


def test_sealed_payload_that_is_no_zip(tmp_path):
    (tmp_path / "model.bnn").write_bytes(sealed(b"no zip"))
    with pytest.raises(ArtifactError, match=r"payload of .* cannot be read"):
        read(tmp_path / "model.bnn")


def test_unwritable_paths(tmp_path):
    with pytest.raises(OutputError, match=r"cannot write .*No such file or directory"):
        artifact.write(tmp_path / "no" / "model.bnn", b"", MANIFEST)
    (tmp_path / "model.bnn").mkdir()
    with pytest.raises(OutputError, match=r"cannot write .*Is a directory"):
        artifact.write(tmp_path / "model.bnn", b"", MANIFEST)
    assert sorted(os.listdir(tmp_path)) == ["model.bnn"]


def test_full_disk_leaves_the_old_file_and_nothing_else(written, monkeypatch):
    before = written.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        with pytest.raises(OutputError, match=rf"cannot write .*{os.strerror(errno.EFBIG)}"):
            artifact.write(written, os.urandom(100_000), MANIFEST)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert written.read_bytes() == before
    assert os.listdir(written.parent) == [written.name]


def test_bytes_that_are_signs_take_little_more_than_a_bit(tmp_path):
    signs = np.random.default_rng(0).choice([-1, 1], 1 << 20).astype(np.int8).tobytes()
    artifact.write(tmp_path / "model.bnn", signs, MANIFEST)
    assert (tmp_path / "model.bnn").stat().st_size < 1.3 * len(signs) / 8
    assert read(tmp_path / "model.bnn")[1] == signs


def test_interruption_leaves_nothing(tmp_path, monkeypatch):
    def interrupt(_):
        raise KeyboardInterrupt

    monkeypatch.setattr(artifact.os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        artifact.write(tmp_path / "model.bnn", b"library", MANIFEST)
    assert os.listdir(tmp_path) == []


def test_rights_follow_the_umask(tmp_path):
    before = os.umask(0o027)
    try:
        artifact.write(tmp_path / "model.bnn", b"", MANIFEST)
    finally:
        os.umask(before)
    assert (tmp_path / "model.bnn").stat().st_mode & 0o777 == 0o640


# --- the runtime ------------------------------------------------------------------------------------------------

SHAPE = (1, 3, 4, 8)


def compiled(tmp_path, target=None) -> runtime.Artifact:
    """A network of two inputs, x of SHAPE and y of [3] (int32), with the outputs (2 * x, (y + 1,))."""
    target = target or host(threads=1)
    builder = relax.BlockBuilder()
    x = relax.Var("x", relax.TensorType(SHAPE, "float32"))
    y = relax.Var("y", relax.TensorType((3,), "int32"))
    with builder.function("main", [x, y]):
        doubled = builder.emit(relax.op.multiply(x, relax.const(2.0, "float32")))
        more = builder.emit(relax.op.add(y, relax.const(1, "int32")))
        builder.emit_func_output(relax.Tuple([doubled, relax.Tuple([more])]))
    executable = tvm.compile(builder.get(), target=target.tvm())
    executable.export_library(str(tmp_path / "library.so"), fcompile=linker.fcompile(target.triple))
    manifest = artifact.new_manifest(
        "double",
        [
            {"name": "x", "shape": list(SHAPE), "dtype": "float32", "layout": "NCHW"},
            {"name": "y", "shape": [3], "dtype": "int32"},
        ],
        [{"shape": list(SHAPE), "dtype": "float32"}, {"shape": [3], "dtype": "int32"}],
        target.manifest(),
        layers=MANIFEST["layers"],
    )
    library = (tmp_path / "library.so").read_bytes()
    return runtime.Artifact(library, manifest, {"notes.txt": b"kept"})


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    return compiled(tmp_path_factory.mktemp("compiled"))


@pytest.fixture
def x():
    return torch.rand(SHAPE, generator=torch.Generator().manual_seed(3))


@pytest.fixture
def y():
    return torch.tensor([1, 2, 3], dtype=torch.int32)


def test_torch_in_and_out(network, x, y):
    doubled, (more,) = network(x.requires_grad_(), y)
    assert torch.equal(doubled, 2 * x.detach()) and torch.equal(more, y + 1)


def test_numpy_in_and_out(network, x, y):
    result = network(x.numpy(), y.numpy())
    assert isinstance(result, tuple) and isinstance(result[1], tuple)
    assert isinstance(result[0], np.ndarray) and result[0].flags.writeable
    np.testing.assert_array_equal(result[0], 2 * x.numpy())
    np.testing.assert_array_equal(result[1][0], y.numpy() + 1)


def test_results_stay_as_they_were_after_the_next_call(network, x, y):
    first = network(x, y)[0]
    network(x + 1, y)
    assert torch.equal(first, 2 * x)


def shifted(array: np.ndarray, size: int) -> np.ndarray:
    """A copy that begins `size` bytes behind a multiple of 64 bytes."""
    memory = np.zeros(array.nbytes + 128, np.uint8)
    begin = -memory.ctypes.data % 64 + size
    copy = memory[begin : begin + array.nbytes].view(array.dtype).reshape(array.shape)
    copy[...] = array
    return copy


@pytest.mark.parametrize("shift", [0, 4, 32])
@pytest.mark.parametrize("kind", ["numpy", "torch"])
def test_any_alignment(network, x, y, shift, kind):
    moved = shifted(x.numpy(), shift)
    assert moved.ctypes.data % 64 == shift
    result = network(moved if kind == "numpy" else torch.from_numpy(moved), y)[0]
    np.testing.assert_array_equal(result, 2 * x.numpy())


def test_aligned_inputs_are_not_copied(network, x):
    row = network.manifest["inputs"][0]
    for value, address in [(x, x.data_ptr()), (aligned := shifted(x.numpy(), 0), aligned.ctypes.data)]:
        assert np.from_dlpack(runtime._to_tvm(value, row)).ctypes.data == address


def test_strided_and_read_only_inputs(network, x, y):
    last = x.to(memory_format=torch.channels_last)
    assert not last.is_contiguous()
    assert torch.equal(network(last, y)[0], 2 * x)
    np.testing.assert_array_equal(network(last.numpy(), y.numpy())[0], 2 * x.numpy())
    fixed = shifted(x.numpy(), 0)
    fixed.flags.writeable = False
    np.testing.assert_array_equal(network(fixed, y.numpy())[0], 2 * x.numpy())


def test_saved_and_loaded(network, x, y, tmp_path):
    network.save(tmp_path / "double.bnn")
    loaded = runtime.load(tmp_path / "double.bnn")
    assert torch.equal(loaded(x, y)[0], 2 * x)
    assert (loaded.manifest, loaded.extra) == (network.manifest, {"notes.txt": b"kept"})
    assert loaded.explain() == MANIFEST["layers"]


def test_loading_makes_no_copy_of_the_library_in_memory(network, tmp_path):
    # ELF does not mind what follows
    runtime.Artifact(network.library + bytes(16 << 20), network.manifest).save(tmp_path / "large.bnn")
    tracemalloc.start()
    try:
        loaded = runtime.load(tmp_path / "large.bnn")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 2 << 20
    assert loaded.library == network.library + bytes(16 << 20)


def test_a_loaded_network_is_saved_when_its_file_is_gone(network, x, y, tmp_path):
    network.save(tmp_path / "double.bnn")
    before = (tmp_path / "double.bnn").read_bytes()
    loaded = runtime.load(tmp_path / "double.bnn")
    (tmp_path / "double.bnn").unlink()
    loaded.save(tmp_path / "again.bnn")
    assert (tmp_path / "again.bnn").read_bytes() == before


def test_code_for_a_processor_is_loaded_without_what_code_for_gpus_needs(network, x, y, monkeypatch):
    monkeypatch.setattr(runtime.cubin, "taken_out", lambda: pytest.fail("TVM was given another compiler"))
    assert torch.equal(runtime.Artifact(network.library, network.manifest)(x, y)[0], 2 * x)


def test_loading_leaves_no_temporary_file(network, x, y, tmp_path, monkeypatch):
    monkeypatch.setattr(runtime.tempfile, "tempdir", str(tmp_path))
    fresh = runtime.Artifact(network.library, network.manifest)
    assert torch.equal(fresh(x, y)[0], 2 * x)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x, y: (x,), r"found 1 inputs; double takes 2: x \(float32 \[1, 3, 4, 8\]\), y"),
        (lambda x, y: (x[0], y), r"'x' has the wrong rank: found float32 \[3, 4, 8\], expected float32 \[1, 3, 4, 8\]"),
        (lambda x, y: (x[:, :2], y), r"'x' has the wrong shape: found float32 \[1, 2, 4, 8\].*\(NCHW\)"),
        (lambda x, y: (x.double(), y), r"'x' has the wrong dtype: found float64 \[1, 3, 4, 8\]"),
        (lambda x, y: (x, y.numpy().astype("int64")), r"'y' has the wrong dtype: found int64 \[3\], expected int32"),
        (lambda x, y: (x.tolist(), y), "'x' is a list; accepted are torch tensors and numpy arrays"),
        (lambda x, y: (x.to("meta"), y), "'x' is on meta, expected is the CPU"),
    ],
)
def test_wrong_inputs(network, x, y, change, message):
    with pytest.raises(InputError, match=message):
        network(*change(x, y))


def test_free_dimension_takes_any_size():
    runtime._check((5, 3), "float32", {"name": "x", "shape": [None, 3], "dtype": "float32"})
    with pytest.raises(InputError, match=r"expected float32 \[\?, 3\]"):
        runtime._check((5, 4), "float32", {"name": "x", "shape": [None, 3], "dtype": "float32"})


def foreign(network) -> runtime.Artifact:
    cpu = "cortex-a72" if host().arch != "aarch64" else "znver4"
    return runtime.Artifact(network.library, {**network.manifest, "target": resolve(f"llvm -mcpu={cpu}").manifest()})


def test_another_processors_artifact_is_explained_and_saved_but_not_run(network, x, y, tmp_path):
    other = foreign(network)
    assert other.explain() == MANIFEST["layers"]
    with pytest.raises(ArtifactError, match=r"was compiled for .*this machine is"):
        other(x, y)
    other.save(tmp_path / "other.bnn")
    with pytest.raises(ArtifactError, match=r"was compiled for .*this machine is"):
        runtime.load(tmp_path / "other.bnn")


def test_library_that_cannot_be_loaded(network, x, y):
    with pytest.raises(ArtifactError, match="the compiled code cannot be loaded"):
        runtime.Artifact(b"no library", network.manifest)(x, y)


def test_no_room_to_unpack(network, x, y, monkeypatch):
    monkeypatch.setattr(runtime.tempfile, "tempdir", "/no-such-folder")
    with pytest.raises(OutputError, match=r"cannot unpack the compiled code to /no-such-folder.*set TMPDIR"):
        runtime.Artifact(network.library, network.manifest)(x, y)


def test_benchmark(network, x, y):
    times = network.benchmark(x, y, repeat=4, number=2)
    assert len(times) == 4 and all(0 < seconds < 10 for seconds in times)
    with pytest.raises(InputError, match="found repeat=0 and number=1"):
        network.benchmark(x, y, repeat=0)


def test_threads_come_from_the_manifest_and_the_machine(network):
    target = network.manifest["target"]
    many = runtime.Artifact(network.library, {**network.manifest, "target": {**target, "threads": 4096}})
    assert many.threads == available_cpus()
    assert network.threads == 1
    for count in (0, available_cpus() + 1):
        with pytest.raises(InputError, match=f"found {count} threads; from 1 to {available_cpus()} "):
            many.threads = count


def outside(code: str, *arguments: str) -> str:
    """Run Python code in a process of its own, whose thread pools nobody has touched; what it prints."""
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.skipif(available_cpus() < 2, reason="one CPU has one thread count")
def test_every_thread_count_is_used_and_the_caller_is_not_pinned(network, tmp_path):
    network.save(tmp_path / "double.bnn")
    code = """
import os, sys, threading
import numpy as np, tvm
from tvm_bnn import runtime
used = tvm.get_global_func("runtime.NumThreads")
if sys.argv[2] == "spoilt":
    os.environ["TVM_NUM_THREADS"] = "1"
    used()
network = runtime.load(sys.argv[1])
before, seen = os.sched_getaffinity(0), []
for count in (1, 2, 1):
    network.threads = count
    network._loaded["main"] = lambda *_: seen.append(used()) or ()
    network(np.zeros((1, 3, 4, 8), "float32"), np.zeros(3, "int32"))
assert os.sched_getaffinity(0) == before
print(*seen)
"""
    for state in ("fresh", "spoilt"):
        assert outside(code, str(tmp_path / "double.bnn"), state).split() == ["1", "2", "1"]


def test_runs_without_torch_and_without_the_compiler(network, tmp_path):
    network.save(tmp_path / "double.bnn")
    code = """
import sys
sys.modules["torch"] = None
import numpy as np
from tvm_bnn import runtime
print(runtime.load(sys.argv[1])(np.ones((1, 3, 4, 8), "float32"), np.ones(3, "int32"))[0].sum())
compiler = ("tvm_bnn.frontend", "tvm_bnn.lower", "tvm_bnn.nn", "tvm_bnn.ops", "tvm_bnn.relay_passes")
assert not [name for name in sys.modules if name.startswith(compiler)]
"""
    assert outside(code, str(tmp_path / "double.bnn")).split() == ["192.0"]
