# Installs packages into a root; runs in mount, process, network, IPC and UTS namespaces of its own.
# Arguments: root, directory of keys, directory of packages, further options for rpm.
# HOME holds the only rpm configuration besides the host's own.
root=$1 keys=$2 packages=$3
shift 3
umask 022
for dir in proc sys dev run tmp var/lib/rpm; do
    mkdir -p "$root/$dir"
done
chmod 0555 "$root/proc" "$root/sys"
chmod 1777 "$root/tmp"

# What scriptlets need, and nothing they could hurt the host with. rpm itself sets mode and owner of
# /proc, /sys and /dev, so these must be writable.
mount -n -t proc -o nosuid,nodev,noexec proc "$root/proc"
mount -n --bind "$root/proc/sys" "$root/proc/sys"
mount -n -o remount,bind,ro "$root/proc/sys"
[ ! -e "$root/proc/sysrq-trigger" ] || mount -n --bind /dev/null "$root/proc/sysrq-trigger"
mount -n -t tmpfs -o mode=0555,size=1m tmpfs "$root/sys"
mount -n -t tmpfs -o mode=0755,nosuid,size=8m tmpfs "$root/dev"
for device in null zero full random urandom tty; do
    : > "$root/dev/$device"
    mount -n --bind "/dev/$device" "$root/dev/$device"
done
mkdir "$root/dev/shm" "$root/dev/pts"
ln -s /proc/self/fd "$root/dev/fd"
ln -s /proc/self/fd/0 "$root/dev/stdin"
ln -s /proc/self/fd/1 "$root/dev/stdout"
ln -s /proc/self/fd/2 "$root/dev/stderr"

rpm --root "$root" --initdb
(
    set -- "$keys"/*
    [ ! -e "$1" ] || rpmkeys --root "$root" --import "$@"
)
# Signatures and digests of packages were checked before, on these very files; what is unpacked is checked once more
# by the digest of each file.
rpm --root "$root" --install --verbose --nosignature --nodigest --define '_pkgverify_level none' "$@" \
    "$packages"/*.rpm || exit $?
exit 0
