"""`merlin completion`: what a shell needs to complete the words of merlin."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

_BASH = r"""_merlin() {
    local IFS=$'\n'
    COMPREPLY=($(_MERLIN_COMPLETE=bash "$1" "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null))
    [[ ${#COMPREPLY[@]} -eq 1 && ${COMPREPLY[0]} == *= ]] && compopt -o nospace
    return 0
}
complete -o default -o nosort -F _merlin merlin 2>/dev/null || complete -o default -F _merlin merlin
"""
_ZSH = r"""#compdef merlin
_merlin() {
    local -a found
    found=("${(@f)$(_MERLIN_COMPLETE=zsh "${words[1]}" "${(@)words[2,$CURRENT]}" 2>/dev/null)}")
    if [[ -n "${found[1]}" ]]; then
        _describe -V 'merlin' found
    else
        _files
    fi
}
if [[ "${funcstack[1]}" == _merlin ]]; then
    _merlin "$@"
else
    (( $+functions[compdef] )) || { autoload -Uz compinit && compinit }
    compdef _merlin merlin
fi
"""
_FISH = r"""function __merlin_complete
    set -lx _MERLIN_COMPLETE fish
    set -l words (commandline -opc)
    set -l found ($words[1] $words[2..-1] (commandline -ct) 2>/dev/null)
    if test (count $found) -gt 0
        printf '%s\n' $found
    else
        __fish_complete_path (commandline -ct)
    end
end
complete -c merlin -f -k -a '(__merlin_complete)'
"""


class Shell(StrEnum):
    """A shell that completes."""

    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"


_SCRIPTS = {Shell.BASH: _BASH, Shell.ZSH: _ZSH, Shell.FISH: _FISH}


def completion(shell: Annotated[Shell, typer.Argument(help="The shell that is to complete.")]) -> None:
    """Print what makes a shell complete verbs, options, and the names of what is there: runs, leases, keys, events.

    For now: `source <(merlin completion bash)`, likewise in zsh, in fish `merlin completion fish | source`. For good:
    into ~/.local/share/bash-completion/completions/merlin; a file _merlin in a directory of $fpath; or
    ~/.config/fish/completions/merlin.fish.
    """
    typer.echo(_SCRIPTS[shell], nl=False)
