"""``drc-deploy doctor``."""

import dataclasses

import click

from drc_deploy.cli import options


@click.command(name="doctor", short_help="Show which engines this machine can run, and what to install for others.")
@options.json_option
def command(as_json: bool) -> None:
    """Show which backends this machine can use. For the others, show why not and what to install."""
    from drc_deploy.cli.doctor_checks import examine, findings_text
    from drc_deploy.runtime.machine.machine import describe_machine, machine_text

    machine, findings = describe_machine(), examine()
    result = {
        "machine": dataclasses.asdict(machine),
        "backends": [dataclasses.asdict(finding) for finding in findings],
    }
    options.emit(result, as_json=as_json, text=f"{machine_text(machine)}\n\n{findings_text(findings)}")
