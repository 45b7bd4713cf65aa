# With what the small base has.
set -eu
[ "$(cat /etc/motd)" = 'made by Bazel' ]
[ "$(cat /etc/web.conf)" = 'port 8000' ]
