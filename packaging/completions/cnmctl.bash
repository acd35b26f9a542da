# Completion of cnmctl for bash. Made by `python -m cnm.cli.completion`; a test keeps it so.

# What may follow a command: its flags, those that take a value, what its operands are.
_cnmctl_grammar() {
    flags= valued= operands= words=
    case $1 in
        '') flags='-H --host -v --version' valued='-H --host' operands='WORD' words='cluster container dns endpoint network port sandbox commit cp diff doctor events export images import info inspect load logs ps rmi stats status top version' ;;
        'cluster') operands='WORD' words='init join leave ping recover rm rotate snapshot status token' ;;
        'cluster init') flags='--advertise --client-port --enrol-port --name --peer-port --ca-key --cacert --cert --etcd --key --vxlan-port' valued='--advertise --client-port --enrol-port --name --peer-port --ca-key --cacert --cert --etcd --key --vxlan-port' ;;
        'cluster join') flags='--client --advertise --client-port --enrol-port --name --peer-port' valued='--advertise --client-port --enrol-port --name --peer-port' operands='TOKEN HOST' ;;
        'cluster leave') flags='-f --force' ;;
        'cluster ping') flags='--format -q --quiet' valued='--format' operands='[NODE...]' ;;
        'cluster recover') flags='-f --force' ;;
        'cluster rm') flags='-f --force' operands='NODE' ;;
        'cluster remove') flags='-f --force' operands='NODE' ;;
        'cluster rotate') flags='--authority --keys' ;;
        'cluster snapshot') flags='-f --force' operands='save|restore FILE' ;;
        'cluster status') flags='-f --format' valued='-f --format' ;;
        'cluster token') flags='-q --quiet --ttl' valued='--ttl' operands='[ls|rm] [ID...]' ;;
        'container') operands='WORD' words='commit cp diff export inspect logs ls prune stats top' ;;
        'container commit') flags='-a --author -c --change -m --message -p --pause' valued='-a --author -c --change -m --message' operands='CONTAINER [REPOSITORY[:TAG]]' ;;
        'container cp') flags='-a --archive -L --follow-link -q --quiet' operands='SOURCE DESTINATION' ;;
        'container diff') operands='CONTAINER' ;;
        'container export') flags='-o --output' valued='-o --output' operands='CONTAINER' ;;
        'container inspect') flags='-f --format -s --size' valued='-f --format' operands='CONTAINER [CONTAINER...]' ;;
        'container logs') flags='--details -f --follow --since -n --tail -t --timestamps --until' valued='--since -n --tail --until' operands='CONTAINER' ;;
        'container ls') flags='-a --all -f --filter --format --no-trunc -q --quiet -n --last -l --latest -s --size' valued='-f --filter --format -n --last' ;;
        'container list') flags='-a --all -f --filter --format --no-trunc -q --quiet -n --last -l --latest -s --size' valued='-f --filter --format -n --last' ;;
        'container ps') flags='-a --all -f --filter --format --no-trunc -q --quiet -n --last -l --latest -s --size' valued='-f --filter --format -n --last' ;;
        'container prune') flags='--filter -f --force' valued='--filter' ;;
        'container stats') flags='-a --all --format --no-stream --no-trunc' valued='--format' operands='[CONTAINER...]' ;;
        'container top') operands='CONTAINER [PS-OPTIONS...]' ;;
        'dns') operands='WORD' words='add ls rm' ;;
        'dns add') operands='NETWORK NAME ADDRESS|NAME' ;;
        'dns ls') flags='-q --quiet' operands='NETWORK' ;;
        'dns list') flags='-q --quiet' operands='NETWORK' ;;
        'dns rm') operands='NETWORK NAME [ADDRESS|NAME]' ;;
        'dns remove') operands='NETWORK NAME [ADDRESS|NAME]' ;;
        'endpoint') operands='WORD' words='create inspect join leave ls rm' ;;
        'endpoint create') flags='--alias --driver-opt --gw-priority --ifname --ip --ip6 --link --link-local-ip --mac-address -p --publish' valued='--alias --driver-opt --gw-priority --ifname --ip --ip6 --link --link-local-ip --mac-address -p --publish' operands='NETWORK NAME' ;;
        'endpoint inspect') flags='-f --format' valued='-f --format' operands='NETWORK/NAME [NETWORK/NAME...]' ;;
        'endpoint join') operands='NETWORK/NAME SANDBOX' ;;
        'endpoint leave') flags='--wait' operands='NETWORK/NAME' ;;
        'endpoint ls') flags='-f --filter --format --no-trunc -q --quiet' valued='-f --filter --format' ;;
        'endpoint list') flags='-f --filter --format --no-trunc -q --quiet' valued='-f --filter --format' ;;
        'endpoint rm') flags='-f --force' operands='NETWORK/NAME [NETWORK/NAME...]' ;;
        'endpoint remove') flags='-f --force' operands='NETWORK/NAME [NETWORK/NAME...]' ;;
        'network') operands='WORD' words='connect create disconnect inspect ls peers prune rm' ;;
        'network connect') flags='--alias --driver-opt --gw-priority --ifname --ip --ip6 --link --link-local-ip --mac-address -p --publish' valued='--alias --driver-opt --gw-priority --ifname --ip --ip6 --link --link-local-ip --mac-address -p --publish' operands='NETWORK SANDBOX' ;;
        'network create') flags='--attachable --aux-address --config-from --config-only --docker -d --driver --gateway --ingress --internal --ip-range --ipam-driver --ipam-opt --ipv4 --ipv6 --label -o --opt --scope --subnet' valued='--aux-address --config-from -d --driver --gateway --ip-range --ipam-driver --ipam-opt --label -o --opt --scope --subnet' operands='NAME' ;;
        'network disconnect') flags='-f --force' operands='NETWORK SANDBOX' ;;
        'network inspect') flags='-f --format -v --verbose' valued='-f --format' operands='NETWORK [NETWORK...]' ;;
        'network ls') flags='-f --filter --format --no-trunc -q --quiet' valued='-f --filter --format' ;;
        'network list') flags='-f --filter --format --no-trunc -q --quiet' valued='-f --filter --format' ;;
        'network peers') flags='--endpoints --format --no-trunc -q --quiet' valued='--format' operands='NETWORK' ;;
        'network prune') flags='--filter -f --force' valued='--filter' ;;
        'network rm') flags='-f --force' operands='NETWORK [NETWORK...]' ;;
        'network remove') flags='-f --force' operands='NETWORK [NETWORK...]' ;;
        'port') operands='WORD' words='add ls rm' ;;
        'port add') operands='SANDBOX SPEC [SPEC...]' ;;
        'port ls') operands='[SANDBOX]' ;;
        'port list') operands='[SANDBOX]' ;;
        'port rm') operands='SANDBOX SPEC [SPEC...]' ;;
        'port remove') operands='SANDBOX SPEC [SPEC...]' ;;
        'sandbox') operands='WORD' words='create exec inspect ls rm' ;;
        'sandbox create') flags='--add-host --dns --dns-opt --dns-search --hostname --label --netns --network' valued='--add-host --dns --dns-opt --dns-search --hostname --label --netns --network' operands='NAME' ;;
        'sandbox exec') operands='SANDBOX COMMAND [ARG...]' ;;
        'sandbox inspect') flags='-f --format' valued='-f --format' operands='SANDBOX [SANDBOX...]' ;;
        'sandbox ls') flags='-f --filter --format --no-trunc -q --quiet' valued='-f --filter --format' ;;
        'sandbox list') flags='-f --filter --format --no-trunc -q --quiet' valued='-f --filter --format' ;;
        'sandbox rm') flags='-f --force --wait' operands='SANDBOX [SANDBOX...]' ;;
        'sandbox remove') flags='-f --force --wait' operands='SANDBOX [SANDBOX...]' ;;
        'commit') flags='-a --author -c --change -m --message -p --pause' valued='-a --author -c --change -m --message' operands='CONTAINER [REPOSITORY[:TAG]]' ;;
        'cp') flags='-a --archive -L --follow-link -q --quiet' operands='SOURCE DESTINATION' ;;
        'diff') operands='CONTAINER' ;;
        'doctor') flags='--repair' ;;
        'events') flags='-f --filter --format --since --until' valued='-f --filter --format --since --until' ;;
        'export') flags='-o --output' valued='-o --output' operands='CONTAINER' ;;
        'images') flags='-a --all --digests -f --filter --format --no-trunc -q --quiet' valued='-f --filter --format' operands='[REPOSITORY[:TAG]]' ;;
        'import') flags='-c --change -m --message --platform' valued='-c --change -m --message --platform' operands='FILE [REPOSITORY[:TAG]]' ;;
        'info') flags='-f --format' valued='-f --format' ;;
        'inspect') flags='-f --format -s --size --type' valued='-f --format --type' operands='NAME [NAME...]' ;;
        'load') flags='-i --input -q --quiet' valued='-i --input' ;;
        'logs') flags='--details -f --follow --since -n --tail -t --timestamps --until' valued='--since -n --tail --until' operands='CONTAINER' ;;
        'ps') flags='-a --all -f --filter --format --no-trunc -q --quiet -n --last -l --latest -s --size' valued='-f --filter --format -n --last' ;;
        'rmi') flags='-f --force --no-prune' operands='IMAGE [IMAGE...]' ;;
        'stats') flags='-a --all --format --no-stream --no-trunc' valued='--format' operands='[CONTAINER...]' ;;
        'status') flags='-f --format' valued='-f --format' ;;
        'top') operands='CONTAINER [PS-OPTIONS...]' ;;
        'version') flags='-f --format' valued='-f --format' ;;
        *) return 1 ;;
    esac
}

_cnmctl_names() {
    case ${1//[\[\].]/} in
        NETWORK) cnmctl "${host[@]}" network ls --format '{{.Name}}' ;;
        SANDBOX) cnmctl "${host[@]}" sandbox ls --format '{{.Name}}' ;;
        CONTAINER) cnmctl "${host[@]}" ps --all --format '{{.Names}}' ;;
        IMAGE) cnmctl "${host[@]}" images --format '{{.Repository}}:{{.Tag}}' ;;
        NETWORK/NAME) cnmctl "${host[@]}" endpoint ls --format '{{.Network}}/{{.Name}}' ;;
        COMMAND) compgen -c -- "$2" ;;
    esac 2>/dev/null
}

_cnmctl() {
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
    if [[ $operands == WORD ]]; then
        ((given)) || mapfile -t COMPREPLY < <(compgen -W "$words" -- "$current")
        return
    fi
    local kinds=($operands)
    ((given < ${#kinds[@]})) || given=$((${#kinds[@]} - 1))
    ((given >= 0)) || return
    mapfile -t COMPREPLY < <(compgen -W "$(_cnmctl_names "${kinds[given]}" "$current")" -- "$current")
}

complete -F _cnmctl cnmctl
