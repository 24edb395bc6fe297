"""`mediabus completion`: the script by which a shell completes commands, options and files."""

from typing import Final

import click
from click.shell_completion import get_completion_class, shell_complete

from mediabus.commands.help import examples

PROGRAM: Final = "mediabus"
VARIABLE: Final = f"_{PROGRAM}_complete".upper()
"""The variable that the script sets when it asks for completions."""

SHELLS: Final = ("bash", "zsh", "fish")


@click.command(
    epilog=examples(
        "source <(mediabus completion bash)           now; for each shell, in ~/.bashrc",
        "source <(mediabus completion zsh)            now; for each shell, in ~/.zshrc",
        "mediabus completion fish > ~/.config/fish/completions/mediabus.fish",
    )
)
@click.argument("shell", type=click.Choice(SHELLS))
def completion(shell: str) -> None:
    """Print the script by which a shell completes commands, options and files."""
    script = get_completion_class(shell)
    if script is None:
        raise AssertionError("click knows these shells")
    root = click.get_current_context().find_root().command
    click.echo(script(root, {}, PROGRAM, VARIABLE).source())


def complete(cli: click.Command, instruction: str) -> int:
    """Print the completions that the script of a shell asks for. Returns the exit code."""
    return shell_complete(cli, {}, PROGRAM, VARIABLE, instruction)
