import shutil
import subprocess

import pytest

from drc_deploy.bench.remote.target import parse_target
from drc_deploy.errors import UsageError


@pytest.mark.skipif(shutil.which("ssh") is None, reason="there is no OpenSSH client")
@pytest.mark.parametrize(
    ("text", "user", "host", "port"),
    [
        ("board", None, "board", 22),
        ("nv@board.local", "nv", "board.local", 22),
        ("nv@10.0.0.7:2222", "nv", "10.0.0.7", 2222),
        ("nv@[::1]:2222", "nv", "::1", 2222),
        ("[fe80::1%eth0]", None, "fe80::1%eth0", 22),
        ("nv@2001:db8::7", "nv", "2001:db8::7", 22),
        ("ssh://nv@board:22/", "nv", "board", 22),
        ("nv@corp.com@board", "nv@corp.com", "board", 22),
        ("CORP\\nv@board", "CORP\\nv", "board", 22),
    ],
)
def test_ssh_understands_a_target_as_it_was_meant(text: str, user: str | None, host: str, port: int) -> None:
    command = ["ssh", "-F", "none", "-G", *parse_target(text).ssh_words]
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    settings = dict(line.split(" ", 1) for line in shown.splitlines() if " " in line)
    assert settings["hostname"] == host
    assert settings["port"] == str(port)
    assert user is None or settings["user"] == user


@pytest.mark.parametrize(
    "text",
    [
        "",
        "@board",
        "nv@",
        "-oProxyCommand=touch /tmp/x",
        "nv@-oProxyCommand=x",
        "-l@board",
        "board;reboot",
        "$(reboot)@board",
        "nv@bo ard",
        "nv@board\nx",
        "nv\\@board",
        "board:",
        "board:0",
        "board:65536",
        "board:22:33",
        "board:folder",
        "[::1",
        "[board]:22",
    ],
)
def test_what_is_no_host_is_wrong_usage(text: str) -> None:
    with pytest.raises(UsageError, match="no host to measure on"):
        parse_target(text)


def test_commands_for_people_name_the_host_as_scp_and_ssh_want_it() -> None:
    target = parse_target("nv@[::1]:2222")
    assert target.copy_command("a.whl") == "scp -P 2222 a.whl 'nv@[::1]:'"
    assert target.shell_command("true") == "ssh -l nv -p 2222 ::1 true"
