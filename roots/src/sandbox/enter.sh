# Process 1 of the sandbox's own process and mount namespaces: mounts the root, runs nspawn.
# Arguments: keep (yes: the host's /run stays visible in /run/rootbuild/host), the text of resolv.conf,
# then "plain" DIR or "overlay" UPPER WORK N LOWER..., then nspawn's arguments.
trap 'rc=$?; [ "$rc" = 0 ] || [ -n "${entered-}" ] || { echo "rootbuild-sandbox: $doing failed" >&2; exit 125; }' EXIT

doing='mounting a private /run'
# Made at a place where no path of the specification can be, then moved.
mount -n -t tmpfs -o mode=0755,nosuid,nodev tmpfs /proc/fs
mkdir -p /proc/fs/rootbuild/host /proc/fs/rootbuild/root
if [ "$1" = yes ]; then
    mount -n --rbind /run /proc/fs/rootbuild/host
fi
mount -n --move /proc/fs /run
cd /run/rootbuild
printf %s "$2" > resolv.conf
kind=$3
shift 3

doing='mounting the root'
if [ "$kind" = plain ]; then
    mount -n --bind "$1" root
    shift
else
    # Short relative names: mount options are limited to a page, and `:` and `,` are special in them.
    ln -s "$1" upper
    ln -s "$2" work
    count=$3 n=0 lowers=
    shift 3
    while [ "$n" -lt "$count" ]; do
        ln -s "$1" "l$n"
        lowers=$lowers${lowers:+:}l$n
        n=$((n + 1))
        shift
    done
    options=lowerdir=$lowers,upperdir=upper,workdir=work,redirect_dir=on,metacopy=off,index=off,xino=auto
    # A step's root needs no fsync: it is captured and made durable as a whole, or thrown away. The
    # kernel leaves a mark in the work directory that would refuse the next mount.
    rm -rf work/work/incompat
    mount -n -t overlay -o "$options,volatile" rootbuild root 2> /dev/null ||
        mount -n -t overlay -o "$options" rootbuild root
fi

entered=yes
systemd-nspawn "$@" || exit $?
exit 0
