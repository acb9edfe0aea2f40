"""Options from TOML: what is typed wins over the file, the file over the defaults, and a run can be repeated."""

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st

from drc_deploy.cli.config import RECIPES, config_option, config_text, recipe_names, resolved_config
from drc_deploy.cli.main import main
from drc_deploy.errors import DrcDeployError, InputError, UsageError


@click.command("train")
@config_option
@click.option("--model", required=True)
@click.option("--steps", type=int, default=1000)
@click.option("--learning-rate", type=float, default=1e-4)
@click.option("--dual", type=click.Choice(["none", "single"]), default="none")
@click.option("--compile", "compiled", is_flag=True)
@click.option("--ema/--no-ema", default=True)
@click.option("--data", type=click.Path(path_type=Path, exists=True))
@click.option("--eval", "benchmark_folders", type=click.Path(path_type=Path), multiple=True)
@click.option("--betas", type=float, nargs=2, default=(0.9, 0.999))
@click.option("--restart", is_flag=True)
@click.option("--json", "as_json", is_flag=True)
@click.argument("rest", required=False)
@click.pass_context
def train(ctx: click.Context, /, **_values: Any) -> None:
    ctx.exit(0)


def parse(*arguments: object) -> click.Context:
    return train.make_context("train", [str(argument) for argument in arguments])


def params(*arguments: object) -> dict[str, Any]:
    return parse(*arguments).params


def write(folder: Path, text: str) -> Path:
    path = folder / "run.toml"
    path.write_text(text, "utf-8")
    return path


def test_typed_wins_over_the_file_and_the_file_over_defaults(tmp_path: Path) -> None:
    config = write(tmp_path, 'model = "a"\nlearning-rate = 1e-3\nsteps = 1_0\ncompile = true\nema = false')
    got = params("--steps", 20, "--config", config)
    assert (got["model"], got["steps"], got["learning_rate"], got["dual"]) == ("a", 20, 1e-3, "none")
    assert (got["compiled"], got["ema"]) == (True, False)
    assert params("--config", config, "--ema")["ema"] is True


def test_underscores_lists_whole_numbers_and_a_byte_order_mark_are_taken(tmp_path: Path) -> None:
    config = write(tmp_path, '\ufeffmodel = "a"\r\nlearning_rate = 1\r\neval = ["x", "/y"]\r\nbetas = [0.5, 1]')
    got = params("--config", config)
    assert got["learning_rate"] == 1.0
    assert got["benchmark_folders"] == (tmp_path / "x", Path("/y"))
    assert got["betas"] == (0.5, 1.0)


def test_relative_paths_start_at_the_folder_of_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "runs" / "images").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    write(tmp_path / "runs", 'model = "a"\ndata = "images"\neval = ["~/set5"]')
    got = params("--config", "runs/run.toml")
    assert got["data"] == tmp_path / "runs" / "images"
    assert got["benchmark_folders"] == (tmp_path / "set5",)


def test_a_value_of_the_file_that_is_typed_anew_need_not_be_right(tmp_path: Path) -> None:
    config = write(tmp_path, 'model = "a"\ndata = "moved"')
    assert params("--config", config, "--data", tmp_path)["data"] == tmp_path
    with pytest.raises(click.BadParameter, match="does not exist"):
        params("--config", config)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("steps = 2.5", "'2.5' is not a valid integer"),
        ("steps = 1e6", "not a valid integer"),
        ('steps = "many"', "'many' is not a valid integer"),
        ("steps = true", "'true' is not a valid integer"),
        ("steps = [1]", "write one value"),
        ("steps = 2020-01-01", "write text, a number"),
        ("steps = {a = 1}", "write text, a number"),
        ('dual = "both"', "not one of"),
        ('compile = "yes"', "true or false"),
        ("compile = 1", "true or false"),
        ('eval = "x"', "write a list"),
        ("eval = [[]]", "write text, a number"),
        ("betas = [0.5]", "2"),
        ('data = "missing"', "does not exist"),
        ('data = "nul\\u0000"', "write text"),
    ],
)
def test_a_wrong_value_names_its_key_and_the_file(tmp_path: Path, line: str, words: str) -> None:
    config = write(tmp_path, f'model = "a"\n{line}')
    with pytest.raises(click.BadParameter) as caught:
        params("--config", config)
    message = caught.value.format_message()
    assert words in message
    assert f"'{line.partition(' ')[0]}' in {config}" in message
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("stepz = 1\nfrobnicate = 2", "'stepz' (did you mean 'steps'?), 'frobnicate'"),
        ("learning-rate = 1\nlearning_rate = 2", "twice"),
        ("[train]\nsteps = 1", "'train'"),
        ('config = "other"', "'config', which no file may"),
        ("restart = true", "'restart', which no file may"),
        ("help = true", "'help'"),
        ('rest = "x"', "'rest'"),
        ('benchmark_folders = ["x"]', "'benchmark-folders'"),
    ],
)
def test_keys_that_are_no_options_are_refused(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(UsageError) as caught:
        params("--model", "a", "--config", write(tmp_path, text))
    assert words in caught.value.message


@pytest.mark.parametrize(
    "content", [b"steps = ", b"steps 5", b"a = 1\na = 2", b"\xff\xfe", b"\x00", b"a=" + b"[" * 9999]
)
def test_damaged_toml_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "run.toml").write_bytes(content)
    with pytest.raises(InputError, match="not valid TOML"):
        params("--config", tmp_path / "run.toml")


def test_what_is_no_file_is_refused_and_the_recipes_are_named(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for reference in (tmp_path, tmp_path / "missing.toml", tmp_path / "pipe", "", "../recipes/drn_s", "x" * 9999):
        with pytest.raises(InputError) as caught:
            params("--config", reference)
        assert "drn_xs" in caught.value.hint


def test_a_file_goes_before_a_recipe_and_a_recipe_before_a_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("drn_s").write_text('model = "mine"')
    assert params("--config", "drn_s")["model"] == "mine"
    Path("drn_xs").mkdir()
    with pytest.raises(
        UsageError, match=r"recipes.drn_xs\.toml sets options that this command does not have"
    ):  # options the toy lacks
        params("--config", "drn_xs")


texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1)


@given(
    model=texts,
    steps=st.integers(-(2**63), 2**63 - 1),
    rate=st.floats(allow_nan=False) | st.sampled_from([1e-07, 1e22, math.inf, -0.0]),
    folders=st.lists(st.sampled_from(["a b", 'quo"te', "back\\slash", "ümläut", "line\nbreak", "del\x7f", "#x", "😀"])),
    flags=st.lists(st.sampled_from(["--compile", "--no-ema", "--restart", "--json"])),
)
def test_a_written_config_repeats_the_run(
    tmp_path_factory: pytest.TempPathFactory,
    model: str,
    steps: int,
    rate: float,
    folders: Sequence[str],
    flags: Sequence[str],
) -> None:
    folder = tmp_path_factory.mktemp("run")
    (folder / "sub").mkdir()
    typed = [f"--model={model}", f"--steps={steps}", f"--learning-rate={rate!r}", *flags]
    first = parse(*typed, *(f"--eval={name}" for name in folders), "--data", folder)
    (folder / "sub" / "config.toml").write_text(config_text(first), "utf-8")
    again = parse("--config", folder / "sub" / "config.toml")
    assert resolved_config(again) == resolved_config(first)
    assert repr(again.params["learning_rate"]) == repr(rate)
    assert again.params["model"] == model
    assert again.params["benchmark_folders"] == tuple(Path.cwd() / name for name in folders)
    assert (again.params["restart"], again.params["as_json"]) == (False, False)


def test_the_resolved_config_has_final_values_under_long_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    context = parse("--config", write(tmp_path, 'model = "a"\nsteps = 5'), "--eval", "x", "--json", "--restart")
    assert resolved_config(context) == {
        "model": "a",
        "steps": 5,
        "learning-rate": 1e-4,
        "dual": "none",
        "compile": False,
        "ema": True,
        "eval": [str(tmp_path / "x")],
        "betas": [0.9, 0.999],
    }


def test_a_name_that_is_not_utf8_is_refused() -> None:
    with pytest.raises(UsageError, match="--eval holds a file name that is not UTF-8"):
        config_text(parse("--model", "a", "--eval", os.fsdecode(b"\xff")))


def test_help_and_completion_ignore_the_config(tmp_path: Path) -> None:
    result: Result = CliRunner().invoke(train, ["--help"])
    assert result.exit_code == 0
    assert ", ".join(recipe_names()) in " ".join(result.output.split())
    train.make_context("train", ["--config", "missing"], resilient_parsing=True)


# The recipes against the real command.


def recipe_options(name: str) -> dict[str, Any]:
    from drc_deploy.cli.commands.train_command import command

    return resolved_config(command.make_context("train", ["--config", name]))


@pytest.mark.parametrize("name", ["30min", "dcls", "drn_e", "drn_l", "drn_s", "drn_xs", "swinir_dr", "swinir_light_dr"])
def test_a_recipe_sets_options_of_train_on_a_network_that_exists(name: str) -> None:
    from drc_deploy.models.registry import check_scale

    assert name in recipe_names()
    try:
        options = recipe_options(name)
    except DrcDeployError as error:
        pytest.fail(f"{error.message} {error.hint}")
    check_scale(options["model"], options["scale"])
    assert options["final-learning-rate"] < options["learning-rate"]
    assert "minutes" in options or options["warm-up"] < options["steps"]


@pytest.mark.parametrize(
    ("typed", "length"),
    [
        (["--config", "30min"], {"minutes": 27.0}),
        (["--config", "30min", "--steps", "5"], {"steps": 5}),
        (["--config", "drn_s", "--minutes", "5"], {"minutes": 5.0}),
        (["--minutes", "5", "--model", "drn_s"], {"minutes": 5.0}),
        (["--model", "drn_s"], {"steps": 1000}),
    ],
)
def test_a_typed_length_replaces_the_other_kind_of_a_file(typed: list[str], length: dict[str, float]) -> None:
    from drc_deploy.cli.commands.train_command import command

    options = resolved_config(command.make_context("train", typed))
    assert {name: options[name] for name in ("steps", "minutes") if name in options} == length


@pytest.mark.parametrize("name", ["drn_s", "drn_l"])
def test_the_papers_recipes_have_the_papers_values_but_for_precision(name: str) -> None:
    options = recipe_options(name)
    paper = {
        "model": name, "scale": 4, "steps": 1_000_000, "batch": 32, "patch": 48, "learning-rate": 1e-4,
        "final-learning-rate": 1e-7, "schedule": "cosine", "warm-up": 0, "dual": "progressive", "dual-weight": 0.1,
        "ema": 0.0, "seed": 1,
    }  # fmt: skip
    assert {key: options[key] for key in paper} == paper
    assert options["precision"] == "bf16"


@pytest.mark.parametrize(
    ("name", "model", "batch", "warm_up"),
    [("swinir_dr", "swinir", 16, 4_000), ("swinir_light_dr", "swinir_light", 64, 0)],
)
def test_the_recipes_of_swinir_have_the_values_of_the_authors_files(
    name: str, model: str, batch: int, warm_up: int
) -> None:
    options = recipe_options(name)
    authors = {
        "model": model, "scale": 4, "steps": 500_000, "batch": batch, "patch": 64, "learning-rate": 2e-4,
        "warm-up": warm_up, "dual": "single", "dual-weight": 0.1, "precision": "fp32", "ema": 0.999,
    }  # fmt: skip
    assert {key: options[key] for key in authors} == authors


def test_the_recipe_of_dcls_has_the_values_of_the_authors_files() -> None:
    options = recipe_options("dcls")
    authors = {
        "model": "dcls", "scale": 4, "degradation": "dcls", "steps": 500_000, "batch": 64, "patch": 64,
        "learning-rate": 4e-4, "warm-up": 0, "dual": "single", "dual-weight": 0.1, "precision": "fp32", "ema": 0.0,
    }  # fmt: skip
    assert {key: options[key] for key in authors} == authors


def test_the_recipe_of_dat_trains_an_imported_network_by_the_values_of_the_authors_file() -> None:
    from drc_deploy.cli.commands.finetune_command import command

    options = resolved_config(command.make_context("finetune", ["DAT_x4.safetensors", "--config", "dat_dr"]))
    authors = {
        "steps": 500_000, "batch": 32, "patch": 64, "learning-rate": 2e-4, "warm-up": 4_000, "dual": "single",
        "dual-weight": 0.1, "precision": "fp32", "ema": 0.0,
    }  # fmt: skip
    assert {key: options[key] for key in authors} == authors


def test_every_recipe_says_what_it_is_for_and_whether_it_was_measured() -> None:
    for path in RECIPES.glob("*.toml"):
        head = [line for line in path.read_text("utf-8").splitlines() if line.startswith("#")]
        assert path.read_text("utf-8").startswith("\n".join(head))
        assert "not measured" in "\n".join(head)


def test_an_error_of_a_file_is_a_sentence_for_the_user(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["train", "--config", str(tmp_path)])
    assert caught.value.code == 1
    assert "is a folder" in capsys.readouterr().err
