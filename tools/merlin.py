"""How does Merlin start from a checkout in which nothing is installed? `python3 tools/merlin.py --help`."""

import sys

import environment

# The modules of [project] dependencies in pyproject.toml; reading them there would cost every start 10 ms.
NEEDED = ("inotify_simple", "jinja2", "msgspec", "pydantic", "ray", "typer", "watchfiles", "yaml", "zstandard")


def main() -> int:
    """Run the command line of Merlin, in this Python if it has what is needed, else in the prepared one."""
    try:
        environment.require_python()
        if not environment.finds(NEEDED):
            environment.enter()
    except environment.Unready as reason:
        environment.say(str(reason))
        return reason.exit_code
    sys.path[0] = str(environment.ROOT)  # In place of tools/, whose modules are for no one else.
    from merlin_es import cli

    cli.main()
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:  # Before anything was begun.
        sys.exit(130)
