"""Tasks: batches depend on their arguments alone, options are checked, synthetic problems are what they say."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
from torch.nn import functional

from hvd_adam.errors import ConfigError, DataError
from hvd_adam.randomness import seed_for
from hvd_adam.tasks import Sampler, get
from hvd_adam.tasks import models as networks
from hvd_adam.tasks.mnist import read_idx
from hvd_adam.tasks.synthetic import normal_draws


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    task = get("digits", augment=True)
    task.prepare(tmp_path_factory.mktemp("root"))
    return task


def test_batches_depend_on_their_arguments_alone(digits):
    indices = np.arange(20)
    torch.manual_seed(1)
    first = digits.batch(indices, seeded(5), True)[0]
    torch.manual_seed(2)
    assert torch.equal(first, digits.batch(indices, seeded(5), True)[0])
    assert not torch.equal(first, digits.batch(indices, seeded(6), True)[0])
    plain = digits.batch(indices, seeded(5), False)[0]
    assert torch.equal(plain, digits.batch(indices, seeded(6), False)[0])


def test_digits_are_those_of_scikit_learn(digits):
    from sklearn.datasets import load_digits

    theirs = load_digits()
    order = np.random.default_rng(seed_for("split", 0)).permutation(1797)
    images, labels = (np.concatenate(parts) for parts in zip(digits._test, digits._train, strict=True))
    assert np.array_equal(images[:, 0], theirs.images[order]) and np.array_equal(labels, theirs.target[order])


def test_digits_are_read_without_scikit_learn_being_imported():
    code = """
import sys, pathlib
from hvd_adam.tasks import get
get("digits").prepare(pathlib.Path())
print([name for name in ("sklearn", "scipy") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_digits_without_their_file_say_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setattr("hvd_adam.tasks.digits.find_spec", lambda name: None)
    with pytest.raises(DataError, match="scikit-learn is not installed"):
        get("digits").prepare(tmp_path)


def test_digits_reach_96_percent_in_300_steps(digits, tmp_path):
    torch.manual_seed(0)
    task = get("digits")
    task.prepare(tmp_path)
    model, sampler = task.model(), Sampler(task.train_size, 64)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for step in range(1, 301):
        optimizer.zero_grad()
        task.loss(model, task.batch(sampler.indices(step, 0), seeded(), True)).backward()
        optimizer.step()
    everything = task.batch(np.arange(task.test_size), seeded(), False)
    assert task.measures(model.eval(), everything)["accuracy"].item() / task.test_size >= 0.96


@pytest.mark.parametrize("model", ["softmax", "mlp", "convnet"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_inputs_follow_the_dtype_of_the_model(digits, model, dtype, tmp_path):
    task = get("digits", model=model)
    task.prepare(tmp_path)
    network = task.model().to(dtype)
    batch = task.batch(np.arange(8), seeded(), True)
    assert task.loss(network, batch).dtype is dtype
    sums = task.measures(network, batch)
    assert sums["loss"].item() / 8 == pytest.approx(task.loss(network, batch).item(), rel=1e-5)


def test_pixels_are_normalised_after_the_frame_of_an_augmentation(digits, tmp_path):
    black = -digits.mean[0] / digits.std[0]
    assert digits.batch(np.arange(200), seeded(), True)[0].min().item() == pytest.approx(black)
    everything = get("digits")
    everything.prepare(tmp_path)
    pixels = everything.batch(np.arange(everything.train_size), seeded(), True)[0]
    assert abs(pixels.mean()) < 0.01 and abs(pixels.std() - 1) < 0.01


def test_the_same_seed_makes_the_same_weights(digits):
    weights = []
    for _ in range(2):
        torch.manual_seed(3)
        weights.append(torch.cat([p.flatten() for p in digits.model().parameters()]))
    assert torch.equal(*weights)


@pytest.mark.parametrize(
    ("name", "options", "says"),
    [
        ("digit", {}, "Did you mean digits"),
        ("nowhere:Task", {}, "cannot be imported"),
        ("examples.my_task:Absent", {}, "cannot be imported"),
        ("digits", {"modle": "mlp"}, "Did you mean model"),
        ("digits", {"model": "lenet"}, "convnet"),
        ("digits", {"dropout": 1.0}, "at most 0.999"),
        ("digits", {"batch_norm": "yes"}, "true or false"),
        ("digits", {"model": "softmax", "batch_norm": True}, "convnet"),
        ("mnist", {"model": "resnet18"}, "lenet"),
        ("cifar10", {"model": "resnet19"}, "resnet18"),
        ("folder", {"size": 3}, "8 or more"),
        ("folder", {"path": 2024}, 'path: "2024"'),
        ("toy", {"d": 0}, "1 or more"),
        ("toy", {"sigma": -1}, "at least 0"),
        ("pseudo-huber", {"a": 3.0, "delta": 1.0}, "raise delta"),
        ("quadratic", {"spectrum": [1, -1]}, "Eigenvalues"),
        ("quadratic", {"spectrum": "flat"}, "geometric"),
    ],
)
def test_a_wrong_name_or_option_is_refused_with_the_choices(name, options, says):
    with pytest.raises(ConfigError, match=says) as error:
        get(name, **options)
    assert error.value.exit_code == 2


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist", "cifar10", "cifar100"])
def test_missing_data_names_the_command(name, tmp_path):
    with pytest.raises(DataError, match=f"hvd-adam data get {name}") as error:
        get(name).prepare(tmp_path)
    assert error.value.exit_code == 1


def test_a_task_is_found_in_the_working_directory(tmp_path, monkeypatch):
    (tmp_path / "mine_alone.py").write_text(
        "class Half:\n"
        "    def __init__(self, **options): self.options = options\n"
        "    def prepare(self, root): pass\n"
        "    model = batch = loss = prepare\n"
        "class Mine(Half):\n"
        "    measures = Half.prepare\n"
        "class Strict(Mine):\n"
        "    def __init__(self, depth): self.depth = depth\n"
    )
    monkeypatch.chdir(tmp_path)
    assert get("mine_alone:Mine", depth=3).options == {"depth": 3}
    assert get("mine_alone:Strict", depth=3).depth == 3
    for address, says in (
        ("mine_alone:Half", "has no measures"),
        ("mine_alone:Strict", "without depth"),
        ("mine_alone:Other", str(tmp_path)),
    ):
        with pytest.raises(ConfigError, match=says):
            get(address)


def test_names_and_paths_are_checked_without_torch():
    code = "import sys, hvd_adam.tasks, hvd_adam.data; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_the_example_of_a_users_task_learns(tmp_path):
    task = get("examples.my_task:TwoMoons")
    task.prepare(tmp_path)
    torch.manual_seed(0)
    model = task.model()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    for step in range(150):
        optimizer.zero_grad()
        task.loss(model, task.batch(np.arange(step * 10, step * 10 + 64), seeded(), True)).backward()
        optimizer.step()
    sums = task.measures(model, task.batch(np.arange(task.test_size), seeded(), False))
    assert sums["accuracy"].item() / task.test_size > 0.9


def test_idx_files_are_read_and_short_ones_refused(tmp_path):
    header = bytes([0, 0, 8, 2]) + (2).to_bytes(4, "big") + (3).to_bytes(4, "big")
    (tmp_path / "good").write_bytes(header + bytes(range(6)))
    assert read_idx(tmp_path / "good").tolist() == [[0, 1, 2], [3, 4, 5]]
    for content in (header + bytes(5), b"", b"\x1f\x8b" + header):
        (tmp_path / "bad").write_bytes(content)
        with pytest.raises(DataError):
            read_idx(tmp_path / "bad")


def test_networks_have_the_published_sizes():
    def size(network):
        return sum(p.numel() for p in network.parameters())

    assert size(networks.lenet()) == 431_080
    assert size(networks.named_classifier("resnet18", 10, small_images=True)) == 11_173_962


def test_crops_are_crops_of_the_framed_image_and_flips_are_their_own_inverse():
    image = torch.arange(1, 65, dtype=torch.uint8).view(1, 1, 8, 8)
    framed = functional.pad(image, (1, 1, 1, 1))
    windows = {tuple(framed[0, 0, r : r + 8, c : c + 8].flatten().tolist()) for r in range(3) for c in range(3)}
    seen = {tuple(one.flatten().tolist()) for one in networks.shifted(image.expand(200, 1, 8, 8), 1, seeded())}
    assert seen == windows
    image = torch.randn(16, 3, 8, 8, generator=seeded())
    twice = networks.flipped(networks.flipped(image, seeded(1)), seeded(1))
    assert torch.equal(twice, image)


def test_a_folder_of_images_is_listed_and_classes_must_agree(tmp_path):
    from PIL import Image

    for part in ("train", "test"):
        for shade, name in ((0, "dark"), (255, "light")):
            (tmp_path / part / name).mkdir(parents=True)
            Image.new("RGB", (20, 12), (shade,) * 3).save(tmp_path / part / name / "a.png")
    task = get("folder", path=".", size=8, model="resnet18", augment=False)
    task.prepare(tmp_path)
    images, labels = task.batch(np.array([0, 1]), seeded(), True)
    assert images.shape == (2, 3, 8, 8) and labels.tolist() == [0, 1]
    assert images[0].max() < 0 < images[1].min()
    (tmp_path / "test/grey").mkdir()
    Image.new("RGB", (9, 9)).save(tmp_path / "test/grey/a.png")
    with pytest.raises(DataError, match="grey"):
        task.prepare(tmp_path)
    with pytest.raises(DataError, match="absent"):
        get("folder", path="absent").prepare(tmp_path)


def test_the_first_test_images_of_a_folder_are_of_all_classes(tmp_path):
    from PIL import Image

    for part, each in (("train", 1), ("test", 30)):
        for name in ("dark", "grey", "light"):
            (tmp_path / part / name).mkdir(parents=True)
            for i in range(each):
                Image.new("RGB", (8, 8)).save(tmp_path / part / name / f"{i}.png")
    task = get("folder", path=".", size=8)
    task.prepare(tmp_path)
    _, labels = task.batch(np.arange(30), seeded(), False)
    assert min(np.bincount(labels, minlength=3)) >= 5  # listed class by class, they would be of one
    _, everything = task.batch(np.arange(90), seeded(), False)
    assert np.bincount(everything).tolist() == [30, 30, 30]


def test_a_model_that_does_not_take_images_of_this_size_is_refused_and_one_that_does_is_not_changed():
    with pytest.raises(ConfigError, match=r"model: alexnet on images of 32 x 32[^\n]*\n[^\n]*does not take them"):
        networks.checked(networks.named_classifier("alexnet", 10, small_images=True), "alexnet", 32)
    torch.manual_seed(4)
    network = networks.named_classifier("resnet18", 10, small_images=True)
    before, drawn = {k: v.clone() for k, v in network.state_dict().items()}, torch.get_rng_state()
    assert networks.checked(network, "resnet18", 32).training
    assert all(torch.equal(v, before[k]) for k, v in network.state_dict().items())
    assert torch.equal(drawn, torch.get_rng_state())


# Synthetic problems


def test_draws_are_normal_and_belong_to_their_index():
    draws = normal_draws(np.arange(200_000), 3)
    assert abs(draws.mean()) < 0.006 and abs(draws.std() - 1) < 0.005  # 4.6 and 5 standard errors, n = 600,000
    assert abs(np.corrcoef(draws.T) - np.eye(3)).max() < 0.012
    assert abs(np.corrcoef(draws[:-1, 0], draws[1:, 0])[0, 1]) < 0.012
    assert abs((draws**4).mean() - 3) < 0.07
    big = np.array([2**63 - 1, 5, 0])
    assert np.array_equal(normal_draws(big, 3)[1:], draws[[5, 0]])


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("toy", {"d": 7, "sigma": 20.0}),
        ("pseudo-huber", {"d": 4, "sigma": 5.0, "delta": 3.0, "a": 2.0}),
        ("quadratic", {"d": 20, "sigma": 3.0}),
        ("quadratic", {"spectrum": [1, 0.5, 0], "noise": "curvature", "sigma": 2.0}),
        ("quadratic", {"spectrum": "power", "d": 9, "noise": "curvature"}),
    ],
)
def test_gradients_are_those_of_autograd_and_noise_has_the_total_variance(name, options):
    task = get(name, **options)
    model = task.model().double()
    with torch.no_grad():
        model.x.copy_(torch.randn(task.d, generator=seeded(), dtype=torch.float64))
    indices = np.arange(40_000)
    (noise,) = task.batch(indices, seeded(), True)
    assert noise.square().sum(1).mean().item() == pytest.approx(task.sigma**2, rel=0.05)
    task.loss(model, (noise,)).backward()
    exact = task.gradient(model.x.detach())
    assert torch.allclose(model.x.grad, exact + noise.mean(0), atol=1e-12)
    sums = task.measures(model, task.batch(np.arange(1), seeded(), False))
    assert sums["gradient_norm"].item() == pytest.approx(exact.norm().item())
    assert sums["objective"].item() == pytest.approx(sums["loss"].item())


def test_the_toy_is_the_formula_and_its_curvature_stays_below_L():
    task = get("toy", d=2, a=3.0)
    x = torch.linspace(-5, 5, 2001, dtype=torch.float64)
    assert task.objective(torch.tensor([1.0, 2.0])).item() == pytest.approx(5 + 3 * (np.sin(1) ** 2 + np.sin(2) ** 2))
    slopes = (task.gradient(x)[1:] - task.gradient(x)[:-1]) / (x[1:] - x[:-1])
    assert slopes.abs().max() <= task.constants["L"] + 1e-9
    assert slopes.max() == pytest.approx(task.constants["L"], rel=1e-3)
    assert functional.relu(-task.gradient(x) * x.sign()).max() == 0  # downhill is towards 0 everywhere


def test_the_pseudo_huber_toy_has_a_bounded_gradient_and_one_minimum():
    task = get("pseudo-huber", d=1, a=3.0, delta=5.0, sigma=0.0)
    x = torch.linspace(-200, 200, 400_001, dtype=torch.float64)
    gradient = task.gradient(x)
    assert gradient.abs().max() <= task.constants["G"] == 13.0
    assert (gradient * x.sign())[x != 0].min() > 0
    slopes = (gradient[1:] - gradient[:-1]) / (x[1:] - x[:-1])
    assert slopes.abs().max() == pytest.approx(task.constants["L"], rel=1e-3)
    far = get("pseudo-huber", d=1, a=3.0, delta=1e6)
    assert far.objective(x[:1]).item() == pytest.approx(get("toy", d=1).objective(x[:1]).item(), rel=1e-6)


def test_a_batch_is_the_mean_of_its_workers_shares():
    task = get("toy")
    model = task.model().double()
    whole = task.loss(model, task.batch(np.arange(64), seeded(1), True))
    shares = [task.loss(model, task.batch(np.arange(k, k + 16), seeded(k), True)) for k in range(0, 64, 16)]
    assert torch.stack(shares).mean().item() == pytest.approx(whole.item(), rel=1e-14)
