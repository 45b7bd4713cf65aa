# Runs inside a bootstrap root: lets its rpm install the packages into the root that is shown in it.
# Argument: the script that installs (install.sh).
# The root, keys/, packages/ and out/ are below /run/rootbuild/rpm.
# Exit status: 10 there is no rpm, 12 there is no mount, 11 it can't be prepared, else rpm's.
exec 2>&1
command -v rpm > /dev/null && command -v rpmkeys > /dev/null || exit 10
command -v mount > /dev/null || exit 12
here=/run/rootbuild/rpm
export HOME=$here/home
if command -v ldconfig > /dev/null; then
    ldconfig || exit 11
fi
option=
if rpm --force-debian --version > /dev/null 2>&1; then
    option=--force-debian
fi
# Nothing of the sandbox's environment for scriptlets: the other way has none either.
env -i "PATH=$PATH" "HOME=$HOME" LC_ALL=C.UTF-8 \
    sh -eu -c "$1" install "$here/root" "$here/keys" "$here/packages" $option || exit $?
rpm --root "$here/root" -qa --qf '%{NAME}-%{VERSION}-%{RELEASE}.%{ARCH}\n' > "$here/out/installed"
