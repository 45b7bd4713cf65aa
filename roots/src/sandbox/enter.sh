# Process 1 of the sandbox's own process and mount namespaces: mounts the root, runs nspawn.
# Arguments: keep (yes: the host's /run stays visible in /run/rootbuild/host), the text of resolv.conf,
# the payload's unit and script where the root is booted (else two empty ones), "plain" DIR or
# "overlay" UPPER WORK N LOWER..., then nspawn's arguments.
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
booted=$3
if [ -n "$booted" ]; then
    mkdir boot
    printf %s "$3" > boot/rootbuild-payload.service
    printf %s "$4" > boot/payload.sh
    mkfifo -m 0600 boot/in boot/out boot/err
fi
kind=$5
shift 5

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

if [ -z "$booted" ]; then
    entered=yes
    systemd-nspawn "$@" || exit $?
    exit 0
fi

doing='booting the root'
exec 3<&0 4>&1
cat <&3 > boot/in 4>&- &
cat < boot/out >&4 3<&- &
out=$!
cat < boot/err >&2 3<&- 4>&- &
err=$!
(
    # A root that doesn't get as far as the payload would be waited for for ever.
    left=120
    while [ ! -e boot/started ] && [ "$left" -gt 0 ]; do
        sleep 0.5
        left=$((left - 1))
    done
    [ -e boot/started ] || kill -KILL -1
) 3<&- 4>&- &
systemd-nspawn "$@" < /dev/null >&2 3<&- 4>&- || :
if [ ! -e boot/started ]; then
    exit 1
fi
entered=yes
exec 4>&-
wait "$out" "$err" || :
if [ -e boot/status ]; then
    exit "$(cat boot/status)"
fi
echo 'rootbuild-sandbox: the root went down before the payload had ended' >&2
exit 143
