"""`mockagent`: handed through to the scripted agent, which has options of its own."""

import click


@click.command(
    "mockagent", context_settings={"ignore_unknown_options": True, "help_option_names": []}, add_help_option=False
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def mockagent_command(arguments: tuple[str, ...]) -> int:
    """Play a scripted agent; `lorch mockagent --help` tells its options."""
    from lorch_actors.agents.mockagent import main

    return int(main(list(arguments)))
