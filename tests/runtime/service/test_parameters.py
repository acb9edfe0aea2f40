import pytest

from drc_deploy.runtime.service.parameters import for_callers, with_parameters


@pytest.mark.parametrize(
    ("hint", "answer"),
    [
        ("Give --width or --max-side.", "Give width or max_side."),
        ("Give --width; where it is too large, --max-memory.", "Give width."),
        ("Give --max-memory 20MiB or more, or cut the image.", "Ask who runs this service."),
        ("Copy the file again. `upscale --tolerant` takes the rest.", "Copy the file again."),
        ("Take x3.5 of a.png; then --scale 2.", "Take x3.5 of a.png; then scale 2."),
        ("", "Ask who runs this service."),
    ],
)
def test_hints_speak_of_what_a_request_has(hint: str, answer: str) -> None:
    assert for_callers(hint) == answer


def test_a_message_keeps_all_its_words() -> None:
    assert with_parameters("--fit and --exact contradict each other.") == "fit and --exact contradict each other."
