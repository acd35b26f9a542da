"""Write the completion of cnmctl for bash: `python -m cnm.cli.completion > packaging/completions/cnmctl.bash`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from cnm.cli.flags import BOOLEAN, Command, Flag
from cnm.cli.main import COMMANDS, GLOBAL_FLAGS, GROUPS, command, group

_SCRIPT = r"""# Completion of cnmctl for bash. Made by `python -m cnm.cli.completion`; a test keeps it so.

# What may follow a command: its flags, those that take a value, what its operands are.
_cnmctl_grammar() {
    flags= valued= operands= words=
    case $1 in
@GRAMMAR@
        *) return 1 ;;
    esac
}

_cnmctl_names() {
    case ${1//[\[\].]/} in
        NETWORK) cnmctl "${host[@]}" network ls --format '{{.Name}}' ;;
        CONTAINER) cnmctl "${host[@]}" ps --all --format '{{.Names}}' ;;
        SANDBOX) cnmctl "${host[@]}" sandbox ls --format '{{.Name}}' ;;
        VOLUME) cnmctl "${host[@]}" volume ls --quiet ;;
        IMAGE | NAME:TAG) cnmctl "${host[@]}" images --format '{{.Repository}}:{{.Tag}}' ;;
        NETWORK/NAME) cnmctl "${host[@]}" endpoint ls --format '{{.Network}}/{{.Name}}' ;;
        'NAME|ID')
            cnmctl "${host[@]}" ps --all --format '{{.Names}}'
            cnmctl "${host[@]}" images --format '{{.Repository}}:{{.Tag}}'
            cnmctl "${host[@]}" network ls --format '{{.Name}}'
            ;;
        SOURCE | DESTINATION)
            cnmctl "${host[@]}" ps --all --format '{{.Names}}:'
            compgen -f -- "$2"
            ;;
        FILE | 'FILE|URL|-') compgen -f -- "$2" ;;
        COMMAND) compgen -c -- "$2" ;;
    esac 2>/dev/null
}

_cnmctl() {
    COMPREPLY=()
    local current=${COMP_WORDS[COMP_CWORD]} path= word flags valued operands words index=0 given=0 host=()
    _cnmctl_grammar ""
    while ((++index < COMP_CWORD)); do
        word=${COMP_WORDS[index]}
        if [[ $word == -* ]]; then
            [[ " $valued " == *" $word "* ]] || continue
            ((++index == COMP_CWORD)) && return # a value: nothing to propose
            [[ $word == -H || $word == --host ]] && host=(-H "${COMP_WORDS[index]}")
        elif _cnmctl_grammar "$path${path:+ }$word"; then
            path+=${path:+ }$word
        else
            _cnmctl_grammar "$path"
            ((given++))
        fi
    done
    if [[ $current == -* ]]; then
        mapfile -t COMPREPLY < <(compgen -W "$flags --help" -- "$current")
        return
    fi
    if ((!given)); then
        mapfile -t COMPREPLY < <(compgen -W "$words" -- "$current")
    fi
    [[ $operands != WORD ]] || return
    local kinds=($operands)
    ((given < ${#kinds[@]})) || given=$((${#kinds[@]} - 1))
    ((given >= 0)) || return
    mapfile -t -O ${#COMPREPLY[@]} COMPREPLY < <(
        compgen -W "$(_cnmctl_names "${kinds[given]}" "$current")" -- "$current"
    )
}

complete -F _cnmctl cnmctl
"""


def script() -> str:
    """The whole script."""
    return _SCRIPT.replace("@GRAMMAR@", "\n".join(_cases()))


def _cases() -> Iterator[str]:
    yield _case("", GLOBAL_FLAGS, "WORD", [*GROUPS, *COMMANDS])
    for noun in GROUPS:
        found = group(noun)
        operands = found.otherwise.operands if found.otherwise else "WORD"
        yield _case(noun, (), operands, [each.name for each in found.commands])
        for each in found.commands:
            for name in (each.name, *each.aliases):
                yield _command_case(f"{noun} {name}", each)
    for name in COMMANDS:
        yield _command_case(name, command(name))


def _command_case(path: str, found: Command) -> str:
    return _case(path, found.flags, found.operands, ())


def _case(path: str, flags: Sequence[Flag], operands: str, words: Sequence[str]) -> str:
    spelled = [(flag, [f"-{flag.short}"] * bool(flag.short) + [f"--{flag.name}"]) for flag in flags]
    parts = {
        "flags": [text for _, texts in spelled for text in texts],
        "valued": [text for flag, texts in spelled if flag.kind is not BOOLEAN for text in texts],
        "operands": operands.split(),
        "words": words,
    }
    assignments = " ".join(f"{name}='{' '.join(texts)}'" for name, texts in parts.items() if texts)
    return f"        '{path}') {assignments or ':'} ;;"


if __name__ == "__main__":
    print(script(), end="")
