"""`azbatchwrap init`: writes a small working example to start from."""

from __future__ import annotations

from pathlib import Path

import click

from azbatchwrap.cli.output import note, writing
from azbatchwrap.errors import ConfigurationError

SCAFFOLD = Path(__file__).parent / "scaffold"
#: Every file of the scaffold lies in the package with this ending, so that nothing takes it for code of the package.
ENDING = ".txt"

EPILOG = """\b
Example:
  azbatchwrap init my-batch
  cd my-batch
  azbatchwrap run task.json
"""


@click.command(epilog=EPILOG)
@click.argument("directory", type=click.Path(path_type=Path, file_okay=False), default=Path())
@click.option("--force", is_flag=True, help="Overwrite files that are there already.")
def init(directory: Path, force: bool) -> None:
    """Write a working example into DIRECTORY (default: here).

    Two task files, their manifest, two texts to count, a driver in Python, and templates of the configuration files.
    """
    contents = scaffold()
    if (directory / ".gitignore").exists():  # as in most folders; what it says already is the user's business
        contents.pop(".gitignore")
    there = [name for name in contents if (directory / name).exists()]
    if there and not force:
        raise ConfigurationError(
            f"{directory} has {', '.join(there)} already; nothing was written. Choose another folder, or use --force"
        )
    for name, text in contents.items():
        path = directory / name
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        click.echo(path)
    note("\nNext: azbatchwrap run task.json")
    note("On Azure: fill in credentials.template.json, save it as credentials.json, then azbatchwrap config check")


def scaffold() -> dict[str, str]:
    """The relative name and content of each file."""
    names = {
        path: path.relative_to(SCAFFOLD).as_posix().removesuffix(ENDING) for path in sorted(SCAFFOLD.rglob("*.txt"))
    }
    return {name.replace("gitignore", ".gitignore"): path.read_text(encoding="utf-8") for path, name in names.items()}
