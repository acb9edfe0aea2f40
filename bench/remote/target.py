"""Where ``bench --remote`` measures: a host as ssh knows it."""

import re
import shlex
from dataclasses import dataclass

from drc_deploy.errors import UsageError

_USER = r"[\w+][\w.+@\\-]*(?<!\\)"
_HOST = r"\w[\w.-]*"
_IPV6 = r"[0-9A-Fa-f]*:[0-9A-Fa-f.]*:[0-9A-Fa-f:.]*(?:%\w[\w.-]*)?"
# No quotes, blanks or signs of a shell: ssh puts user and host into a ProxyCommand of its configuration as they are.
_ADDRESS = rf"(?P<bare>{_IPV6})|(?:\[(?P<six>{_IPV6})\]|(?P<host>{_HOST}))(?P<port>:\d{{1,5}})?"
_TARGET = re.compile(rf"(?:(?P<user>{_USER})@)?(?:{_ADDRESS})")


@dataclass(frozen=True, slots=True)
class Target:
    """A host, with the user and the port that were given; the user's ssh configuration decides on the rest."""

    text: str
    """As typed."""
    user: str | None
    host: str
    """A name, an alias of the configuration, or an address; an IPv6 one without brackets."""
    port: int | None

    @property
    def ssh_words(self) -> list[str]:
        """Return the arguments of ssh that mean this host; nothing in them can be taken for an option."""
        user = ["-l", self.user] if self.user else []
        port = ["-p", str(self.port)] if self.port else []
        return [*user, *port, "--", self.host]

    def copy_command(self, file: str) -> str:
        """Return the command that copies ``file`` into the home folder there."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        place = f"{self.user}@{host}:" if self.user else f"{host}:"
        return shlex.join(["scp", *(["-P", str(self.port)] if self.port else []), file, place])

    def shell_command(self, command: str) -> str:
        """Return the command that runs ``command`` there."""
        return shlex.join(["ssh", *(word for word in self.ssh_words if word != "--"), command])


def parse_target(text: str) -> Target:
    """Read ``host``, ``user@host``, ``user@host:port``, all with ``[IPV6]`` for a host, or after ``ssh://``.

    Raises:
        UsageError: it is none of these.
    """
    match = _TARGET.fullmatch(text.removeprefix("ssh://").removesuffix("/"))
    port = int(match["port"][1:]) if match and match["port"] else None
    if match is None or port == 0 or (port or 0) > 65535:
        raise UsageError(
            f"{text!r} is no host to measure on.",
            "Give USER@HOST, USER@HOST:PORT or USER@[IPV6]:PORT, where HOST may be a name from your ssh configuration.",
        )
    return Target(text, match["user"], match["bare"] or match["six"] or match["host"], port)
