# The first process of a real node, in its own PID and mount namespaces. When it
# ends, they end, with all their processes and mounts. It runs containerd, and
# kubelet, which exits when its standard input closes.
#
# sh -c SCRIPT sh DIRECTORY MEBIBYTES KUBELET...
set -e
directory=$1
mebibytes=$2
shift 2

# Paths that are built into containerd, the CNI plugins and kubelet. Whatever is
# written there is seen by this node only.
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /var/log
mkdir /run/upper /run/work
mount -t overlay overlay -o lowerdir=/var/lib,upperdir=/run/upper,workdir=/run/work /var/lib

# Images, containers and volumes, on a disk of their own if it is to have a size.
mkdir -p "$directory/disk"
[ -z "$mebibytes" ] || mount -t tmpfs -o "size=${mebibytes}m" tmpfs "$directory/disk"

# kubelet would set these for the whole machine. Here it finds what it wants.
while read -r setting value; do
    echo "$value" >"/run/$setting"
    mount --bind "/run/$setting" "/proc/sys/$(echo "$setting" | tr . /)"
done <<END
vm.overcommit_memory 1
vm.panic_on_oom 0
kernel.panic 10
kernel.panic_on_oops 1
kernel.keys.root_maxkeys 1000000
kernel.keys.root_maxbytes 25000000
END

containerd --config "$directory/containerd.toml" </dev/null &
tries=0
until ctr version >/dev/null 2>&1; do
    kill -0 $! # Or it has ended, and said why.
    tries=$((tries + 1))
    [ $tries -lt 600 ]
    sleep 0.1
done
for image in "$directory"/image*.tar; do
    ctr --namespace k8s.io images import --snapshotter native "$image"
done
# Not by exec: the first process also takes the exit codes of orphaned shims.
"$@"
exit $?
