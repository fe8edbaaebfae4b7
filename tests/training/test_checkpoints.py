"""Files of a run: whole or not at all, refused with every reason, and unable to carry code."""

import json
import os
import random
import re

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from course_lib import files
from course_lib.files import remove_fragments, save_json
from course_lib.training.checkpoints import (
    CheckpointError,
    load_state,
    load_weights,
    put_weights,
    random_state,
    restore_random_state,
    save_state,
    save_weights,
    trainable_weights,
)


def small_model(inputs=3):
    model = nn.ModuleDict({"frozen": nn.Linear(2, 2), "first": nn.Linear(inputs, 4), "second": nn.Linear(4, 1)})
    model["frozen"].requires_grad_(False)
    return model


def test_only_weights_that_are_trained_are_saved(tmp_path):
    save_weights(trainable_weights(small_model()), tmp_path / "w.safetensors")
    assert sorted(load_file(tmp_path / "w.safetensors")) == ["first.bias", "first.weight", "second.bias", "second.weight"]


def test_weights_come_back_bit_by_bit_and_frozen_ones_stay(tmp_path):
    saved, model = small_model(), small_model()
    frozen = model["frozen"].weight.clone()
    save_weights(trainable_weights(saved), tmp_path / "new" / "folder" / "w.safetensors")
    load_weights(model, tmp_path / "new" / "folder" / "w.safetensors")
    for name, weight in trainable_weights(saved).items():
        assert torch.equal(trainable_weights(model)[name], weight)
    assert torch.equal(model["frozen"].weight, frozen)


def test_a_file_that_does_not_fit_is_refused_with_every_tensor_that_is_wrong(tmp_path):
    path = tmp_path / "w.safetensors"
    weights = trainable_weights(small_model(inputs=7))
    weights["old_name.weight"] = weights.pop("second.weight")
    weights["frozen.weight"] = torch.zeros(2, 2)
    save_weights(weights, path)
    model = small_model()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(ValueError, match="does not fit the configured model") as refusal:
        load_weights(model, path)
    head, *faults = str(refusal.value).splitlines()
    assert str(path) in head
    assert faults == [
        "  first.weight: (4, 7) in the file, (4, 3) in the model",
        "  frozen.weight: not in the model",
        "  old_name.weight: not in the model",
        "  second.weight: not in the file",
    ]
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_weights_from_anywhere_are_refused_in_the_name_of_their_source():
    model, weights = small_model(), trainable_weights(small_model(inputs=7))
    with pytest.raises(ValueError, match=r"^state of yesterday does not fit the configured model\n  first.weight: \(4, 7\)"):
        put_weights(model, weights, "state of yesterday")
    fitting = trainable_weights(small_model())
    put_weights(model, fitting, "state of today")
    assert all(torch.equal(weight, fitting[name]) for name, weight in trainable_weights(model).items())


def test_fragments_are_hidden_from_every_search_and_removed(tmp_path, monkeypatch):
    """A killed process leaves what it had begun; the dot keeps it out of `audio_enc_step_*`."""
    seen, replace = [], os.replace

    def watch(source, target):
        seen.append((source.name, [file.name for file in tmp_path.glob("audio_enc_step_*")]))
        replace(source, target)

    monkeypatch.setattr(files.os, "replace", watch)
    save_weights({"a": torch.zeros(2)}, tmp_path / "audio_enc_step_7.safetensors")
    [(fragment, found)] = seen
    assert re.fullmatch(r"\.audio_enc_step_7\.safetensors\.\w+\.part", fragment)
    assert found == []
    for name in (".training_state.pt.part", ".best.safetensors.part"):
        (tmp_path / name).write_bytes(b"half a fi")
    (tmp_path / ".keep").write_text("")
    remove_fragments(tmp_path)
    assert sorted(file.name for file in tmp_path.iterdir()) == [".keep", "audio_enc_step_7.safetensors"]
    remove_fragments(tmp_path / "not there")


def break_in_the_middle(value, path, **_):
    os.fspath(path)
    with open(path, "wb") as file:
        file.write(b"half a fi")
    raise OSError("disk full")


@pytest.mark.parametrize(
    ("function", "writer", "old", "new"),
    [
        (save_weights, "save_file", {"a": torch.zeros(2)}, {"a": torch.ones(2)}),
        (save_state, "torch.save", {"step": 1}, {"step": 2}),
    ],
)
def test_a_crash_while_writing_leaves_the_old_file_and_no_other(tmp_path, monkeypatch, function, writer, old, new):
    path = tmp_path / "file"
    function(old, path)
    before = path.read_bytes()
    monkeypatch.setattr(f"course_lib.training.checkpoints.{writer}", break_in_the_middle)
    with pytest.raises(OSError, match="disk full"):
        function(new, path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("function", [save_weights, save_state])
def test_only_a_full_disk_is_called_a_full_disk(tmp_path, monkeypatch, function):
    def fail(text):
        def write(*_, **__):
            raise RuntimeError(text)

        return write

    writer = "save_file" if function is save_weights else "torch.save"
    monkeypatch.setattr(f"course_lib.training.checkpoints.{writer}", fail("PytorchStreamWriter failed writing file data/0"))
    with pytest.raises(OSError, match="No space left on device"):
        function({"a": torch.zeros(2)}, tmp_path / "file")
    monkeypatch.setattr(f"course_lib.training.checkpoints.{writer}", fail("a tensor of a kind that cannot be saved"))
    with pytest.raises(RuntimeError, match="cannot be saved"):
        function({"a": torch.zeros(2)}, tmp_path / "file")


def test_a_crash_just_before_the_rename_leaves_the_old_json(tmp_path, monkeypatch):
    path = tmp_path / "log.json"
    save_json([1], path)

    def fail(source, target):
        raise OSError("pulled the plug")

    monkeypatch.setattr(files.os, "replace", fail)
    with pytest.raises(OSError, match="plug"):
        save_json([1, 2], path)
    assert json.loads(path.read_text()) == [1]


def test_json_is_written_for_people(tmp_path):
    save_json({"text": "rødgrød"}, tmp_path / "a.json")
    assert (tmp_path / "a.json").read_text(encoding="utf-8") == '{\n "text": "rødgrød"\n}\n'


def test_a_state_comes_back_with_its_numbers(tmp_path):
    state = {"step": 3, "best": 0.25, "moments": [torch.randn(3)], "nothing": None, "random": random_state()}
    save_state(state, tmp_path / "state.pt")
    loaded = load_state(tmp_path / "state.pt")
    assert torch.equal(loaded["moments"][0], state["moments"][0])
    assert (loaded["step"], loaded["best"], loaded["nothing"]) == (3, 0.25, None)
    assert loaded["random"]["python"] == state["random"]["python"]


class Malicious:
    """Unpickling this would run a command of the writer's choice."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_a_state_that_carries_code_is_refused_and_its_code_not_run(tmp_path):
    torch.save({"optimizer": Malicious(tmp_path / "was_here")}, tmp_path / "state.pt")
    with pytest.raises(CheckpointError, match="nothing in it was run"):
        load_state(tmp_path / "state.pt")
    assert not (tmp_path / "was_here").exists()


def test_random_numbers_go_on_where_they_stood(tmp_path):
    save_state(random_state(), tmp_path / "random.pt")
    expected = torch.rand(3), random.random()
    torch.manual_seed(5)
    random.seed(5)
    restore_random_state(load_state(tmp_path / "random.pt"))
    assert torch.equal(torch.rand(3), expected[0])
    assert random.random() == expected[1]
