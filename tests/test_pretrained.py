"""torchvision's weights: fetched from a local server, checked, continued, loaded."""

import hashlib
import http.server
import re
import threading

import pytest
import torch
import torchvision

from resnet_lib import UserError, models, pretrained

SPEC = {"width": 4, "stem": "imagenet"}


def a_network(seed=0):
    torch.manual_seed(seed)
    return models.build("resnet18", 10, **SPEC)


@pytest.fixture
def site(tmp_path, monkeypatch):
    """A server with weights, which notes the ranges asked for and can break off."""
    (tmp_path / "site").mkdir()
    torch.save(a_network(1).state_dict(), tmp_path / "site" / "raw")
    content = (tmp_path / "site" / "raw").read_bytes()
    digest = hashlib.sha256(content).hexdigest()[:8]
    state = {"ranges": [], "stop": None, "resumes": True, "content": content}

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked = self.headers.get("Range")
            state["ranges"].append(asked)
            start = int(re.match(r"bytes=(\d+)-", asked)[1]) if asked and state["resumes"] else 0
            body = state["content"][start:]
            if start and not body:
                self.send_error(416)
                return
            self.send_response(206 if start else 200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body[: state["stop"]])

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{running.server_port}/resnet18-{digest}.pth"
        source = pretrained.Source(url, digest, ("a", "b"))
        monkeypatch.setattr(pretrained, "find", lambda network, weights: source)
        monkeypatch.setenv("RESNET_LIB_DATA", str(tmp_path / "cache"))
        state |= {"source": source, "folder": tmp_path / "cache" / "weights"}
        yield state
        running.shutdown()


def test_weights_are_fetched_once_and_loaded(site):
    model = a_network()
    about = models.load_pretrained(model, "IMAGENET1K_V2")
    for name, value in a_network(1).state_dict().items():
        assert torch.equal(model.state_dict()[name], value), name
    assert about["classes"] == ["a", "b"] and about["channels"] == 3 and about["image_size"] == 224
    models.load_pretrained(a_network(), "IMAGENET1K_V2")
    assert site["ranges"] == [None]
    assert [path.suffix for path in site["folder"].iterdir()] == [".pth"]


@pytest.mark.parametrize("resumes", [True, False])
def test_a_fetch_that_broke_off_goes_on(site, resumes):
    site["stop"] = 1000
    with pytest.raises(UserError, match="1,000 bytes are kept, the next try goes on"):
        models.load_pretrained(a_network(), "IMAGENET1K_V2")
    site["stop"], site["resumes"] = None, resumes
    models.load_pretrained(a_network(), "IMAGENET1K_V2")
    assert site["ranges"] == [None, "bytes=1000-"]


def test_a_fetch_that_breaks_off_near_its_end_is_kept(site):
    site["folder"].mkdir(parents=True)
    part = site["folder"] / site["source"].url.rpartition("/")[2].replace(".pth", ".part")
    part.write_bytes(site["content"][:-10])
    site["stop"] = 5
    with pytest.raises(UserError, match="the connection ended early"):
        models.load_pretrained(a_network(), "IMAGENET1K_V2")
    assert part.read_bytes() == site["content"][:-5]


def test_a_whole_part_is_not_fetched_again(site):
    site["folder"].mkdir(parents=True)
    name = site["source"].url.rpartition("/")[2].replace(".pth", ".part")
    (site["folder"] / name).write_bytes(site["content"])
    models.load_pretrained(a_network(), "IMAGENET1K_V2")


def test_another_file_is_refused_and_removed(site):
    site["content"] = site["content"][:-1] + b"x"
    with pytest.raises(UserError, match="SHA-256 does not begin with"):
        models.load_pretrained(a_network(), "IMAGENET1K_V2")
    assert not list(site["folder"].iterdir())


def test_a_damaged_file_in_the_cache_is_named(site):
    models.load_pretrained(a_network(), "IMAGENET1K_V2")
    (path,) = site["folder"].iterdir()
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(UserError, match="is damaged: remove it"):
        models.load_pretrained(a_network(), "IMAGENET1K_V2")


def test_offline_the_message_says_how_to_do_it_by_hand(site, monkeypatch):
    source = site["source"]._replace(url="http://127.0.0.1:9/resnet18-abc.pth")
    monkeypatch.setattr(pretrained, "find", lambda network, weights: source)
    with pytest.raises(UserError, match=r"could not be fetched .* by hand and put it into"):
        models.load_pretrained(a_network(), "IMAGENET1K_V2")


def test_another_architecture_is_refused(site):
    with pytest.raises(UserError, match="of another architecture"):
        models.load_pretrained(models.build("resnet18", 10, width=8), "IMAGENET1K_V2")
    with pytest.raises(UserError, match=r"build the model with stride_in='3x3'"):
        model = models.build("resnet50", 10, width=1, stride_in="1x1")
        models.load_pretrained(model, "IMAGENET1K_V2")


@pytest.mark.parametrize("network", models.DEPTHS)
def test_torchvisions_entry_has_a_digest_and_the_classes(network):
    source = pretrained.find(network, "IMAGENET1K_V1")
    assert re.fullmatch(r"[0-9a-f]{8}", source.digest) and source.url.startswith("https://")
    assert len(source.classes) == 1000


def test_weights_that_torchvision_lacks_are_refused():
    with pytest.raises(UserError, match="weights must be one of IMAGENET1K_V1"):
        pretrained.find("resnet50", "DEFAULT")
    with pytest.raises(UserError, match="torchvision has no IMAGENET1K_V2 for resnet18"):
        pretrained.find("resnet18", "IMAGENET1K_V2")


def test_the_statistics_are_torchvisions():
    transform = torchvision.models.ResNet50_Weights.IMAGENET1K_V2.transforms()
    assert (tuple(transform.mean), tuple(transform.std)) == (pretrained.MEAN, pretrained.STD)
    assert transform.crop_size == [pretrained.IMAGE_SIZE]


def test_torchvisions_own_network_fits_ours():
    theirs, ours = torchvision.models.resnet18(), models.resnet18()
    ours.load_state_dict(theirs.state_dict())
