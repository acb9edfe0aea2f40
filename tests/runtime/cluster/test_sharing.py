import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from drc_deploy.errors import UsageError
from drc_deploy.files import version_of
from drc_deploy.locate import SHIPPED
from drc_deploy.runtime.cluster.workers import share_out
from drc_deploy.runtime.jobs.plan import UpscaleJob
from drc_deploy.runtime.jobs.records import Records
from drc_deploy.runtime.memory.host import resident_bytes
from drc_deploy.runtime.upscaler import Upscaler
from tests.cli.commands import drc
from tests.runtime.networks import write_nearest


@pytest.mark.parametrize(
    ("machines", "threads", "needs", "count", "most"),
    [
        ([{"CPU": 8.0}, {"CPU": 4.0}], None, {"num_cpus": 4}, 3, 2),
        ([{"CPU": 2.0}], None, {"num_cpus": 2}, 1, 1),
        ([{"CPU": 8.0}, {"CPU": 3.0}, {}], 3, {"num_cpus": 3}, 3, 2),
        ([{"CPU": 8.0, "GPU": 2.0}, {"CPU": 64.0}], 4, {"num_gpus": 1, "num_cpus": 0}, 2, 2),
    ],
)
def test_each_gpu_or_else_each_share_of_cores_has_a_worker(
    machines: list[dict[str, float]], threads: int | None, needs: dict[str, int], count: int, most: int
) -> None:
    shares = share_out(machines, threads)
    assert (shares.needs, shares.count, shares.most) == (needs, count, most)


def test_more_cores_than_any_machine_has_are_refused() -> None:
    with pytest.raises(UsageError, match="no machine of the cluster has 5 cores"):
        share_out([{"CPU": 4.0}, {"CPU": 4.0}], 5)


def test_records_know_the_same_results_in_another_process(tmp_path: Path) -> None:
    source, target = tmp_path / "a.png", tmp_path / "b.png"
    for path in (source, target):
        Image.fromarray(np.zeros((2, 2, 3), np.uint8)).save(path)
    records, others = Records({"tile": 8}), Records({"tile": 9})
    version = version_of(source)
    assert version is not None
    records.keep(version, target)
    job = UpscaleJob(source, target)
    assert [pickle.loads(pickle.dumps(each)).same(job) for each in (records, others)] == [
        records.same(job),
        others.same(job),
    ]
    assert records.same(job) != others.same(job)


def test_workers_of_one_machine_together_plan_for_the_memory_of_one() -> None:
    pytest.importorskip("torch")
    with Upscaler.open(SHIPPED / "drn_xs.safetensors", max_memory=4 << 30) as upscaler:
        held = resident_bytes()
        upscaler.networks.share_memory(4)
        limit = upscaler.networks.limit
        assert held is not None
        assert limit is not None
        assert limit - held == pytest.approx(((4 << 30) - held) / 4, rel=0.02)


@pytest.mark.parametrize(
    ("address", "code", "sentence"),
    [
        ("127.0.0.1:1", 1, "no Ray answers at 127.0.0.1:1."),
        ("nowhere", 2, "nowhere is no address of a Ray."),
        ("localhost:many", 2, "localhost:many is no address of a Ray."),
        ("127.0.0.1:99999", 1, "no Ray answers at 127.0.0.1:99999."),
    ],
)
def test_an_address_where_no_ray_answers_is_one_sentence(
    tmp_path: Path, address: str, code: int, sentence: str
) -> None:
    pytest.importorskip("ray")
    write_nearest(tmp_path / "n.onnx")
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    done = drc("upscale", "a.png", "--engine", "n.onnx", "--ray", address, cwd=tmp_path)
    assert done.returncode == code
    assert f"Error: {sentence}" in done.stderr
    assert not (tmp_path / "a_x4.png").exists()
