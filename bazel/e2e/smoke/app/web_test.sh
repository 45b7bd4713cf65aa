set -eu
grep -qx 'made by Bazel' /etc/motd
grep -qx 'port 8000' /etc/web.conf
