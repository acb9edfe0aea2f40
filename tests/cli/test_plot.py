import json
from pathlib import Path

import cv2
import pytest

from drc_deploy.cli.main import main
from drc_deploy.train.loop.journal import Journal


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["plot", *map(str, arguments)])
    return int(str(ended.value.code))


def write_run(folder: Path, steps: int) -> Path:
    with Journal(folder, step=0) as journal:
        for step in range(1, steps + 1):
            journal.record(step, {"loss": 5.0, "primal": 5.0, "dual": 0.0, "learning_rate": 1e-4})
        journal.validated(steps, 30.25, [])
    return folder


def test_one_run_is_drawn_into_its_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_run(tmp_path / "net.run", 4)
    assert run("net", "--workdir", tmp_path) == 0
    out = capsys.readouterr().out
    assert out == f"net: step 4, loss 5.000, best 30.25 dB at step 4\nWrote {folder / 'curves.png'}\n"
    assert cv2.imread(str(folder / "curves.png")) is not None


def test_several_runs_go_into_one_figure_in_the_work_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folders = [write_run(tmp_path / name / "net.run", 3) for name in ("a", "b")]
    assert run(*folders, folders[0], "--workdir", tmp_path) == 0
    assert f"{folders[0]}: step 3" in capsys.readouterr().out  # by paths, since the names are equal
    assert (tmp_path / "curves.png").exists()


def test_json_is_one_object(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_run(tmp_path / "net.run", 4)
    assert run(tmp_path / "net.safetensors", "-o", tmp_path / "x.png", "--json") == 0
    facts = {"run": str(folder), "step": 4, "loss": 5.0, "best_psnr": 30.25, "best_step": 4}
    assert json.loads(capsys.readouterr().out) == {"plot": str(tmp_path / "x.png"), "runs": [facts]}


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (["none"], 1, "there is no run 'none'"),
        (["empty"], 1, "the log of empty holds no line of training"),
        (["bad"], 1, "is damaged"),
        (["net", "empty"], 1, "the log of empty holds no line of training"),
        (["net", "-o", "curves.jpg"], 2, "must end in .png"),
        ([], 2, "Missing argument"),
    ],
)
def test_what_cannot_be_drawn_is_a_sentence_and_leaves_nothing(
    tmp_path: Path, arguments: list[str], code: int, sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write_run(tmp_path / "net.run", 2)
    Journal(tmp_path / "empty.run", step=0).close()
    (tmp_path / "bad.run").mkdir()
    (tmp_path / "bad.run" / "log.jsonl").write_text("text\n")
    assert run(*arguments, "--workdir", tmp_path) == code
    err = capsys.readouterr().err
    assert sentence in err
    assert "Traceback" not in err
    assert not list(tmp_path.rglob("*.png"))
