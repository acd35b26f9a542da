# Completion of cnmctl for bash. Made by `python -m cnm.cli.completion`; a test keeps it so.

# What may follow a command: its flags, those that take a value, what its operands are.
_cnmctl_grammar() {
    flags= valued= operands= words=
    case $1 in
        '') flags='-H --host -v --version' valued='-H --host' operands='WORD' words='cluster container dns endpoint image network port sandbox volume attach build commit cp create diff doctor events exec export history images import info inspect kill load login logout logs pause ps pull push rename restart rm rmi run save search start stats status stop tag top unpause update version wait' ;;
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
        'container') operands='WORD' words='attach commit cp create diff exec export inspect kill logs ls pause prune rename restart rm run start stats stop top unpause update wait' ;;
        'container attach') flags='--detach-keys --no-stdin --sig-proxy' valued='--detach-keys' operands='CONTAINER' ;;
        'container commit') flags='-a --author -c --change -m --message -p --pause' valued='-a --author -c --change -m --message' operands='CONTAINER [REPOSITORY[:TAG]]' ;;
        'container cp') flags='-a --archive -L --follow-link -q --quiet' operands='SOURCE DESTINATION' ;;
        'container create') flags='--add-host --annotation -a --attach --blkio-weight --blkio-weight-device --cap-add --cap-drop --cgroup-parent --cgroupns --cidfile --cpu-period --cpu-quota --cpu-rt-period --cpu-rt-runtime -c --cpu-shares --cpus --cpuset-cpus --cpuset-mems --device --device-cgroup-rule --device-read-bps --device-read-iops --device-write-bps --device-write-iops --dns --dns-option --dns-search --domainname --entrypoint -e --env --env-file --expose --group-add --health-cmd --health-interval --health-retries --health-start-interval --health-start-period --health-timeout -h --hostname --init -i --interactive --ip --ip6 --ipc --isolation -l --label --label-file --link --link-local-ip --log-driver --log-opt --mac-address -m --memory --memory-reservation --memory-swap --memory-swappiness --mount --name --network --network-alias --no-healthcheck --oom-kill-disable --oom-score-adj --pid --pids-limit --platform --privileged -p --publish -P --publish-all --pull -q --quiet --read-only --restart --rm --runtime --security-opt --shm-size --stop-signal --stop-timeout --storage-opt --sysctl --tmpfs -t --tty --ulimit -u --user --userns --uts -v --volume --volume-driver --volumes-from -w --workdir' valued='--add-host --annotation -a --attach --blkio-weight --blkio-weight-device --cap-add --cap-drop --cgroup-parent --cgroupns --cidfile --cpu-period --cpu-quota --cpu-rt-period --cpu-rt-runtime -c --cpu-shares --cpus --cpuset-cpus --cpuset-mems --device --device-cgroup-rule --device-read-bps --device-read-iops --device-write-bps --device-write-iops --dns --dns-option --dns-search --domainname --entrypoint -e --env --env-file --expose --group-add --health-cmd --health-interval --health-retries --health-start-interval --health-start-period --health-timeout -h --hostname --ip --ip6 --ipc --isolation -l --label --label-file --link --link-local-ip --log-driver --log-opt --mac-address -m --memory --memory-reservation --memory-swap --memory-swappiness --mount --name --network --network-alias --oom-score-adj --pid --pids-limit --platform -p --publish --pull --restart --runtime --security-opt --shm-size --stop-signal --stop-timeout --storage-opt --sysctl --tmpfs --ulimit -u --user --userns --uts -v --volume --volume-driver --volumes-from -w --workdir' operands='IMAGE [COMMAND] [ARG...]' ;;
        'container diff') operands='CONTAINER' ;;
        'container exec') flags='-d --detach --detach-keys -e --env --env-file -i --interactive --privileged -t --tty -u --user -w --workdir' valued='--detach-keys -e --env --env-file -u --user -w --workdir' operands='CONTAINER COMMAND [ARG...]' ;;
        'container export') flags='-o --output' valued='-o --output' operands='CONTAINER' ;;
        'container inspect') flags='-f --format -s --size' valued='-f --format' operands='CONTAINER [CONTAINER...]' ;;
        'container kill') flags='-s --signal' valued='-s --signal' operands='CONTAINER [CONTAINER...]' ;;
        'container logs') flags='--details -f --follow --since -n --tail -t --timestamps --until' valued='--since -n --tail --until' operands='CONTAINER' ;;
        'container ls') flags='-a --all -f --filter --format --no-trunc -q --quiet -n --last -l --latest -s --size' valued='-f --filter --format -n --last' ;;
        'container list') flags='-a --all -f --filter --format --no-trunc -q --quiet -n --last -l --latest -s --size' valued='-f --filter --format -n --last' ;;
        'container ps') flags='-a --all -f --filter --format --no-trunc -q --quiet -n --last -l --latest -s --size' valued='-f --filter --format -n --last' ;;
        'container pause') operands='CONTAINER [CONTAINER...]' ;;
        'container prune') flags='--filter -f --force' valued='--filter' ;;
        'container rename') operands='CONTAINER NEW-NAME' ;;
        'container restart') flags='-s --signal -t --timeout' valued='-s --signal -t --timeout' operands='CONTAINER [CONTAINER...]' ;;
        'container rm') flags='-f --force -l --link -v --volumes' operands='CONTAINER [CONTAINER...]' ;;
        'container run') flags='--add-host --annotation -a --attach --blkio-weight --blkio-weight-device --cap-add --cap-drop --cgroup-parent --cgroupns --cidfile --cpu-period --cpu-quota --cpu-rt-period --cpu-rt-runtime -c --cpu-shares --cpus --cpuset-cpus --cpuset-mems -d --detach --detach-keys --device --device-cgroup-rule --device-read-bps --device-read-iops --device-write-bps --device-write-iops --dns --dns-option --dns-search --domainname --entrypoint -e --env --env-file --expose --group-add --health-cmd --health-interval --health-retries --health-start-interval --health-start-period --health-timeout -h --hostname --init -i --interactive --ip --ip6 --ipc --isolation -l --label --label-file --link --link-local-ip --log-driver --log-opt --mac-address -m --memory --memory-reservation --memory-swap --memory-swappiness --mount --name --network --network-alias --no-healthcheck --oom-kill-disable --oom-score-adj --pid --pids-limit --platform --privileged -p --publish -P --publish-all --pull -q --quiet --read-only --restart --rm --runtime --security-opt --shm-size --sig-proxy --stop-signal --stop-timeout --storage-opt --sysctl --tmpfs -t --tty --ulimit -u --user --userns --uts -v --volume --volume-driver --volumes-from -w --workdir' valued='--add-host --annotation -a --attach --blkio-weight --blkio-weight-device --cap-add --cap-drop --cgroup-parent --cgroupns --cidfile --cpu-period --cpu-quota --cpu-rt-period --cpu-rt-runtime -c --cpu-shares --cpus --cpuset-cpus --cpuset-mems --detach-keys --device --device-cgroup-rule --device-read-bps --device-read-iops --device-write-bps --device-write-iops --dns --dns-option --dns-search --domainname --entrypoint -e --env --env-file --expose --group-add --health-cmd --health-interval --health-retries --health-start-interval --health-start-period --health-timeout -h --hostname --ip --ip6 --ipc --isolation -l --label --label-file --link --link-local-ip --log-driver --log-opt --mac-address -m --memory --memory-reservation --memory-swap --memory-swappiness --mount --name --network --network-alias --oom-score-adj --pid --pids-limit --platform -p --publish --pull --restart --runtime --security-opt --shm-size --stop-signal --stop-timeout --storage-opt --sysctl --tmpfs --ulimit -u --user --userns --uts -v --volume --volume-driver --volumes-from -w --workdir' operands='IMAGE [COMMAND] [ARG...]' ;;
        'container start') flags='-a --attach --detach-keys -i --interactive' valued='--detach-keys' operands='CONTAINER [CONTAINER...]' ;;
        'container stats') flags='-a --all --format --no-stream --no-trunc' valued='--format' operands='[CONTAINER...]' ;;
        'container stop') flags='-s --signal -t --timeout' valued='-s --signal -t --timeout' operands='CONTAINER [CONTAINER...]' ;;
        'container top') operands='CONTAINER [PS-OPTIONS...]' ;;
        'container unpause') operands='CONTAINER [CONTAINER...]' ;;
        'container update') flags='--blkio-weight --cpu-period --cpu-quota --cpu-rt-period --cpu-rt-runtime -c --cpu-shares --cpus --cpuset-cpus --cpuset-mems -m --memory --memory-reservation --memory-swap --pids-limit --restart' valued='--blkio-weight --cpu-period --cpu-quota --cpu-rt-period --cpu-rt-runtime -c --cpu-shares --cpus --cpuset-cpus --cpuset-mems -m --memory --memory-reservation --memory-swap --pids-limit --restart' operands='CONTAINER [CONTAINER...]' ;;
        'container wait') operands='CONTAINER [CONTAINER...]' ;;
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
        'image') operands='WORD' words='history import inspect load ls prune pull push rm save tag' ;;
        'image history') flags='--format -H --human --no-trunc -q --quiet' valued='--format' operands='IMAGE' ;;
        'image import') flags='-c --change -m --message --platform' valued='-c --change -m --message --platform' operands='FILE|URL|- [REPOSITORY[:TAG]]' ;;
        'image inspect') flags='-f --format' valued='-f --format' operands='IMAGE [IMAGE...]' ;;
        'image load') flags='-i --input -q --quiet' valued='-i --input' ;;
        'image ls') flags='-a --all --digests -f --filter --format --no-trunc -q --quiet' valued='-f --filter --format' operands='[REPOSITORY[:TAG]]' ;;
        'image list') flags='-a --all --digests -f --filter --format --no-trunc -q --quiet' valued='-f --filter --format' operands='[REPOSITORY[:TAG]]' ;;
        'image prune') flags='-a --all --filter -f --force' valued='--filter' ;;
        'image pull') flags='-a --all-tags --platform -q --quiet' valued='--platform' operands='NAME[:TAG|@DIGEST]' ;;
        'image push') flags='-a --all-tags -q --quiet' operands='NAME[:TAG]' ;;
        'image rm') flags='-f --force --no-prune' operands='IMAGE [IMAGE...]' ;;
        'image remove') flags='-f --force --no-prune' operands='IMAGE [IMAGE...]' ;;
        'image save') flags='-o --output' valued='-o --output' operands='IMAGE [IMAGE...]' ;;
        'image tag') operands='IMAGE NAME[:TAG]' ;;
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
        'port') operands='CONTAINER [PORT[/PROTOCOL]]' words='add ls rm' ;;
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
        'volume') operands='WORD' words='create df inspect keep ls move prune rm' ;;
        'volume create') flags='-d --driver --label --name -o --opt' valued='-d --driver --label --name -o --opt' operands='[VOLUME]' ;;
        'volume df') flags='-f --filter --format' valued='-f --filter --format' ;;
        'volume inspect') flags='-f --format' valued='-f --format' operands='VOLUME [VOLUME...]' ;;
        'volume keep') operands='VOLUME [VOLUME...]' ;;
        'volume ls') flags='-f --filter --format -q --quiet' valued='-f --filter --format' ;;
        'volume list') flags='-f --filter --format -q --quiet' valued='-f --filter --format' ;;
        'volume move') flags='-f --force -q --quiet' operands='VOLUME HOST' ;;
        'volume prune') flags='-a --all --filter -f --force' valued='--filter' ;;
        'volume rm') flags='-f --force' operands='VOLUME [VOLUME...]' ;;
        'volume remove') flags='-f --force' operands='VOLUME [VOLUME...]' ;;
        'attach') flags='--detach-keys --no-stdin --sig-proxy' valued='--detach-keys' operands='CONTAINER' ;;
        'build') flags='--add-host --build-arg --cpuset-cpus -f --file --iidfile --label -m --memory --network --no-cache --platform --pull -q --quiet --shm-size --squash -t --tag --target' valued='--add-host --build-arg --cpuset-cpus -f --file --iidfile --label -m --memory --network --platform --shm-size -t --tag --target' operands='PATH' ;;
        'commit') flags='-a --author -c --change -m --message -p --pause' valued='-a --author -c --change -m --message' operands='CONTAINER [REPOSITORY[:TAG]]' ;;
        'cp') flags='-a --archive -L --follow-link -q --quiet' operands='SOURCE DESTINATION' ;;
        'create') flags='--add-host --annotation -a --attach --blkio-weight --blkio-weight-device --cap-add --cap-drop --cgroup-parent --cgroupns --cidfile --cpu-period --cpu-quota --cpu-rt-period --cpu-rt-runtime -c --cpu-shares --cpus --cpuset-cpus --cpuset-mems --device --device-cgroup-rule --device-read-bps --device-read-iops --device-write-bps --device-write-iops --dns --dns-option --dns-search --domainname --entrypoint -e --env --env-file --expose --group-add --health-cmd --health-interval --health-retries --health-start-interval --health-start-period --health-timeout -h --hostname --init -i --interactive --ip --ip6 --ipc --isolation -l --label --label-file --link --link-local-ip --log-driver --log-opt --mac-address -m --memory --memory-reservation --memory-swap --memory-swappiness --mount --name --network --network-alias --no-healthcheck --oom-kill-disable --oom-score-adj --pid --pids-limit --platform --privileged -p --publish -P --publish-all --pull -q --quiet --read-only --restart --rm --runtime --security-opt --shm-size --stop-signal --stop-timeout --storage-opt --sysctl --tmpfs -t --tty --ulimit -u --user --userns --uts -v --volume --volume-driver --volumes-from -w --workdir' valued='--add-host --annotation -a --attach --blkio-weight --blkio-weight-device --cap-add --cap-drop --cgroup-parent --cgroupns --cidfile --cpu-period --cpu-quota --cpu-rt-period --cpu-rt-runtime -c --cpu-shares --cpus --cpuset-cpus --cpuset-mems --device --device-cgroup-rule --device-read-bps --device-read-iops --device-write-bps --device-write-iops --dns --dns-option --dns-search --domainname --entrypoint -e --env --env-file --expose --group-add --health-cmd --health-interval --health-retries --health-start-interval --health-start-period --health-timeout -h --hostname --ip --ip6 --ipc --isolation -l --label --label-file --link --link-local-ip --log-driver --log-opt --mac-address -m --memory --memory-reservation --memory-swap --memory-swappiness --mount --name --network --network-alias --oom-score-adj --pid --pids-limit --platform -p --publish --pull --restart --runtime --security-opt --shm-size --stop-signal --stop-timeout --storage-opt --sysctl --tmpfs --ulimit -u --user --userns --uts -v --volume --volume-driver --volumes-from -w --workdir' operands='IMAGE [COMMAND] [ARG...]' ;;
        'diff') operands='CONTAINER' ;;
        'doctor') flags='--repair' ;;
        'events') flags='-f --filter --format --since --until' valued='-f --filter --format --since --until' ;;
        'exec') flags='-d --detach --detach-keys -e --env --env-file -i --interactive --privileged -t --tty -u --user -w --workdir' valued='--detach-keys -e --env --env-file -u --user -w --workdir' operands='CONTAINER COMMAND [ARG...]' ;;
        'export') flags='-o --output' valued='-o --output' operands='CONTAINER' ;;
        'history') flags='--format -H --human --no-trunc -q --quiet' valued='--format' operands='IMAGE' ;;
        'images') flags='-a --all --digests -f --filter --format --no-trunc -q --quiet' valued='-f --filter --format' operands='[REPOSITORY[:TAG]]' ;;
        'import') flags='-c --change -m --message --platform' valued='-c --change -m --message --platform' operands='FILE|URL|- [REPOSITORY[:TAG]]' ;;
        'info') flags='-f --format' valued='-f --format' ;;
        'inspect') flags='-f --format -s --size --type' valued='-f --format --type' operands='NAME|ID [NAME|ID...]' ;;
        'kill') flags='-s --signal' valued='-s --signal' operands='CONTAINER [CONTAINER...]' ;;
        'load') flags='-i --input -q --quiet' valued='-i --input' ;;
        'login') flags='-p --password --password-stdin -u --username' valued='-p --password -u --username' operands='[SERVER]' ;;
        'logout') operands='[SERVER]' ;;
        'logs') flags='--details -f --follow --since -n --tail -t --timestamps --until' valued='--since -n --tail --until' operands='CONTAINER' ;;
        'pause') operands='CONTAINER [CONTAINER...]' ;;
        'ps') flags='-a --all -f --filter --format --no-trunc -q --quiet -n --last -l --latest -s --size' valued='-f --filter --format -n --last' ;;
        'pull') flags='-a --all-tags --platform -q --quiet' valued='--platform' operands='NAME[:TAG|@DIGEST]' ;;
        'push') flags='-a --all-tags -q --quiet' operands='NAME[:TAG]' ;;
        'rename') operands='CONTAINER NEW-NAME' ;;
        'restart') flags='-s --signal -t --timeout' valued='-s --signal -t --timeout' operands='CONTAINER [CONTAINER...]' ;;
        'rm') flags='-f --force -l --link -v --volumes' operands='CONTAINER [CONTAINER...]' ;;
        'rmi') flags='-f --force --no-prune' operands='IMAGE [IMAGE...]' ;;
        'run') flags='--add-host --annotation -a --attach --blkio-weight --blkio-weight-device --cap-add --cap-drop --cgroup-parent --cgroupns --cidfile --cpu-period --cpu-quota --cpu-rt-period --cpu-rt-runtime -c --cpu-shares --cpus --cpuset-cpus --cpuset-mems -d --detach --detach-keys --device --device-cgroup-rule --device-read-bps --device-read-iops --device-write-bps --device-write-iops --dns --dns-option --dns-search --domainname --entrypoint -e --env --env-file --expose --group-add --health-cmd --health-interval --health-retries --health-start-interval --health-start-period --health-timeout -h --hostname --init -i --interactive --ip --ip6 --ipc --isolation -l --label --label-file --link --link-local-ip --log-driver --log-opt --mac-address -m --memory --memory-reservation --memory-swap --memory-swappiness --mount --name --network --network-alias --no-healthcheck --oom-kill-disable --oom-score-adj --pid --pids-limit --platform --privileged -p --publish -P --publish-all --pull -q --quiet --read-only --restart --rm --runtime --security-opt --shm-size --sig-proxy --stop-signal --stop-timeout --storage-opt --sysctl --tmpfs -t --tty --ulimit -u --user --userns --uts -v --volume --volume-driver --volumes-from -w --workdir' valued='--add-host --annotation -a --attach --blkio-weight --blkio-weight-device --cap-add --cap-drop --cgroup-parent --cgroupns --cidfile --cpu-period --cpu-quota --cpu-rt-period --cpu-rt-runtime -c --cpu-shares --cpus --cpuset-cpus --cpuset-mems --detach-keys --device --device-cgroup-rule --device-read-bps --device-read-iops --device-write-bps --device-write-iops --dns --dns-option --dns-search --domainname --entrypoint -e --env --env-file --expose --group-add --health-cmd --health-interval --health-retries --health-start-interval --health-start-period --health-timeout -h --hostname --ip --ip6 --ipc --isolation -l --label --label-file --link --link-local-ip --log-driver --log-opt --mac-address -m --memory --memory-reservation --memory-swap --memory-swappiness --mount --name --network --network-alias --oom-score-adj --pid --pids-limit --platform -p --publish --pull --restart --runtime --security-opt --shm-size --stop-signal --stop-timeout --storage-opt --sysctl --tmpfs --ulimit -u --user --userns --uts -v --volume --volume-driver --volumes-from -w --workdir' operands='IMAGE [COMMAND] [ARG...]' ;;
        'save') flags='-o --output' valued='-o --output' operands='IMAGE [IMAGE...]' ;;
        'search') flags='-f --filter --format --limit --no-trunc' valued='-f --filter --format --limit' operands='TERM' ;;
        'start') flags='-a --attach --detach-keys -i --interactive' valued='--detach-keys' operands='CONTAINER [CONTAINER...]' ;;
        'stats') flags='-a --all --format --no-stream --no-trunc' valued='--format' operands='[CONTAINER...]' ;;
        'status') flags='-f --format' valued='-f --format' ;;
        'stop') flags='-s --signal -t --timeout' valued='-s --signal -t --timeout' operands='CONTAINER [CONTAINER...]' ;;
        'tag') operands='IMAGE NAME[:TAG]' ;;
        'top') operands='CONTAINER [PS-OPTIONS...]' ;;
        'unpause') operands='CONTAINER [CONTAINER...]' ;;
        'update') flags='--blkio-weight --cpu-period --cpu-quota --cpu-rt-period --cpu-rt-runtime -c --cpu-shares --cpus --cpuset-cpus --cpuset-mems -m --memory --memory-reservation --memory-swap --pids-limit --restart' valued='--blkio-weight --cpu-period --cpu-quota --cpu-rt-period --cpu-rt-runtime -c --cpu-shares --cpus --cpuset-cpus --cpuset-mems -m --memory --memory-reservation --memory-swap --pids-limit --restart' operands='CONTAINER [CONTAINER...]' ;;
        'version') flags='-f --format' valued='-f --format' ;;
        'wait') operands='CONTAINER [CONTAINER...]' ;;
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
