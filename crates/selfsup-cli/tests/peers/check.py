"""Whether other programs read what selfsup writes: `cargo xtask test --peers` runs this.

    check.py PROGRAM FOLDER

PROGRAM is the `selfsup` binary, FOLDER an empty folder. Pretrains a ResNet-18 and a ViT for a few steps on drawn
pictures, exports them, and then
- torchvision and timm load the weights with strict=True and give the features that `selfsup embed` wrote, to 1e-4;
- the ConvNet of benches/peers, on which lightly's methods are compared with ours, is our ConvNet, to 1e-4;
- `selfsup embed` takes torchvision's and timm's weights in place of its own and gives their features, to 1e-4;
- TensorBoard reads the event file, and its scalars are those of metrics.jsonl.
"""

import json
import pathlib
import shutil
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parents[4] / "benches/peers"))

import numpy as np
import simclr
import timm
import torch
import torchvision
from PIL import Image
from safetensors.torch import load_file, save_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.compat.tensorflow_stub.pywrap_tensorflow import crc32c

SIZE = 32
MEAN, STD = 0.5, 0.25


def pictures(folder):
    """Writes 64 colour pictures in two class folders."""
    generator = np.random.default_rng(0)
    for i in range(64):
        image = generator.integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)
        image[:, :, i % 2] //= 4
        path = folder / "ab"[i % 2] / f"{i:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)


def call(program, *arguments):
    """Runs a command that must succeed."""
    words = [program, *map(str, arguments)]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 0, f"{' '.join(words)}: {done.stderr}"


def run(program, folder, name, settings):
    """Pretrains, embeds and exports; returns the features, the weights and the run's folder."""
    common = [
        f"views.kinds=[{{ count = 2, size = {SIZE}, mean = [{MEAN}, {MEAN}, {MEAN}], std = [{STD}, {STD}, {STD}] }}]",
        "train.epochs=2",
        "train.batch_size=16",
        "train.log_every=1",
    ]
    flags = [word for setting in settings + common for word in ("--set", setting)]
    images, place = str(folder / "images"), folder / name
    features, exported = folder / f"{name}.npy", folder / f"{name}-exported"
    call(program, "pretrain", "simclr-images", "--data", images, "--run", place, *flags)
    call(program, "embed", place, "--data", images, "--out", features)
    call(program, "export", place, "--out", exported)
    return np.load(features), load_file(exported / "model.safetensors"), place


def inputs(folder):
    """The pictures in the order of their names, normalised."""
    paths = sorted((folder / "images").glob("*/*.png"))
    batch = np.stack([np.asarray(Image.open(path)) for path in paths]).astype(np.float32) / 255
    return torch.from_numpy((batch - MEAN) / STD).permute(0, 3, 1, 2)


def same_features(what, model, weights, found, x):
    """Loads the weights strictly and compares the features."""
    model.load_state_dict(weights, strict=True)
    compare(f"{what} with our weights", model, found, x)


def compare(what, model, found, x):
    """Compares features with those of a model."""
    with torch.no_grad():
        expected = model.eval()(x).numpy()
    assert found.shape == expected.shape, f"{what}: {found.shape} here, {expected.shape} there"
    difference = np.abs(found - expected).max() / np.abs(expected).max()
    assert difference < 1e-4, f"{what}: the features differ by {difference}"
    print(f"{what}: {found.shape[1]} features differ by {difference:.1e} at most")


def same_weights(what, program, folder, name, model, x):
    """Puts new weights of a model into a copy of the run `name`, embeds with it, and compares the features."""
    torch.manual_seed(0)
    theirs = model.state_dict()
    for tensor in theirs.values():
        if tensor.is_floating_point():  # No value stays at a 0 or 1 that would be right by chance.
            tensor.add_(torch.rand_like(tensor) * 0.1 - 0.05)
    place = folder / f"{name}-theirs"
    shutil.copytree(folder / name, place)
    checkpoints = place / "checkpoints"
    last = checkpoints / (checkpoints / "last").read_text().strip()
    weights = load_file(last / "model.safetensors")
    names = {key.removeprefix("encoder.") for key in weights if key.startswith("encoder.")}
    assert names == set(theirs), f"{what}: other names: {sorted(names ^ set(theirs))}"
    weights |= {f"encoder.{key}": tensor.contiguous() for key, tensor in theirs.items()}
    save_file(weights, last / "model.safetensors")
    # A checkpoint says how long its files are and what they sum up to.
    state = json.loads((last / "state.json").read_text())
    content = (last / "model.safetensors").read_bytes()
    state["files"]["model.safetensors"] = [len(content), crc32c(content)]
    (last / "state.json").write_text(json.dumps(state))
    features = folder / f"{name}-theirs.npy"
    call(program, "embed", place, "--data", folder / "images", "--out", features)
    compare(f"{what}'s weights with us", model, np.load(features), x)


def same_scalars(place):
    """Compares the event file with metrics.jsonl."""
    events = EventAccumulator(str(place))
    events.Reload()
    lines = [json.loads(line) for line in (place / "metrics.jsonl").read_text().splitlines()]
    tags = events.Tags()["scalars"]
    for tag in ("loss", "lr", "feature_std"):
        assert tag in tags, f"TensorBoard: {tag} is not among {tags}"
        there = [(event.step, event.value) for event in events.Scalars(tag)]
        here = [(line["step"], line[tag]) for line in lines]
        assert [step for step, _ in there] == [step for step, _ in here], f"TensorBoard: the steps of {tag} differ"
        assert np.allclose([x for _, x in there], [x for _, x in here], rtol=1e-6), f"TensorBoard: {tag} differs"
    print(f"TensorBoard: reads {len(tags)} scalars of {len(lines)} steps, equal to metrics.jsonl")


def main(program, folder):
    folder = pathlib.Path(folder)
    pictures(folder / "images")
    x = inputs(folder)

    found, weights, place = run(program, folder, "resnet", ['encoder.stem="imagenet"'])
    model = torchvision.models.resnet18()
    model.fc = torch.nn.Identity()
    same_features("torchvision's resnet18", model, weights, found, x)
    same_weights("torchvision's resnet18", program, folder, "resnet", model, x)
    same_scalars(place)

    found, weights, _ = run(program, folder, "convnet", ["encoder.kind=convnet"])
    model, _ = simclr.convnet(3)
    # A block is a convolution, a norm and a ReLU.
    for i in range(4):
        for at, layer in enumerate(("conv", "norm")):
            for name in [name for name in weights if name.startswith(f"blocks.{i}.{layer}.")]:
                weights[f"{3 * i + at}.{name.rpartition('.')[2]}"] = weights.pop(name)
    same_features("the ConvNet of benches/peers", model, weights, found, x)

    settings = ["encoder.kind=vit", f"encoder.image_size={SIZE}", "encoder.patch_size=8", "encoder.dim=192", "encoder.heads=3"]
    found, weights, _ = run(program, folder, "vit", settings)
    model = timm.create_model("vit_tiny_patch16_224", img_size=SIZE, patch_size=8, num_classes=0)
    same_features("timm's vit_tiny", model, weights, found, x)
    same_weights("timm's vit_tiny", program, folder, "vit", model, x)


main(*sys.argv[1:])
