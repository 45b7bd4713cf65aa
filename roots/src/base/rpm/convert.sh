# Runs inside the root: gives the root's own rpm a package database that it can read.
# Files for it are below /run/rootbuild/rpm: keys/, packages/; it writes out/found.
# Exit status: 0 done; 10 there is no rpm; 11 it failed.
fail() {
    echo "rootbuild: $*" >&2
    exit 11
}
command -v rpm > /dev/null || exit 10
here=/run/rootbuild/rpm
dir=$(rpm --eval '%{_dbpath}')
case $dir in
/?*) ;;
*) fail "its database directory is '$dir'" ;;
esac

# Written anew whoever installed: what the host's rpm writes this one may not read, or not write itself, and the
# order in which packages were installed is no part of what a root is.
new=$dir.rootbuild
rm -rf "$new"
mkdir -p "$new"
rpm --dbpath "$new" --initdb || fail "rpm --initdb failed"
set -- "$here"/keys/*
[ ! -e "$1" ] || rpm --dbpath "$new" --import "$@" || fail "rpm --import failed"
# Everything is installed, and was checked before: only the database is to be written.
rpm --dbpath "$new" -i --justdb --nosignature --nodigest --define '_pkgverify_level none' --nodeps --noscripts \
    --notriggers --noorder --replacefiles --replacepkgs --oldpackage --ignoresize --ignorearch --ignoreos \
    "$here"/packages/*.rpm > "$here/out/log" 2>&1 ||
    fail "rpm --justdb failed: $(tail -n 5 "$here/out/log")"
set --
for old in /var/lib/rpm/* /var/lib/rpm/.[!.]* "$dir"/* "$dir"/.[!.]*; do
    [ -d "$old" ] || set -- "$@" "$old"
done
rm -f "$@"
mkdir -p "$dir"
mv "$new"/* "$dir"/
rm -rf "$new"

# The names and versions that the root's rpm sees, for the last check.
rpm -qa --nosignature --nodigest --qf '%{NAME}-%{VERSION}-%{RELEASE}.%{ARCH}\n' > "$here/out/found" ||
    fail "rpm -qa failed"
# Left by Berkeley DB, good for this kernel and this moment only: the last act.
rm -f "$dir"/__db.* "$dir"/.dbenv.lock "$dir"/.rpm.lock
exit 0
