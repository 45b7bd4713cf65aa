# Finds the root's Python and starts process 1 with it. Run by the root's own /bin/sh:
#   sh start.sh SOCKET old|new
# old: ansible-core up to 2.16 chooses the interpreter by the distribution; new: it takes the newest.
# The agent runs with the interpreter that Ansible will most likely choose, and has it warm.
here=/run/rootbuild/agent
socket=$1
age=$2

# One field of os-release, unquoted, without running what is in it and without any program.
release() {
    while IFS== read -r key value; do
        if [ "$key" = "$1" ]; then
            value=${value#[\"\']}
            echo "${value%[\"\']}"
            return
        fi
    done
} 2>/dev/null </etc/os-release

newest="/usr/bin/python3.14 /usr/bin/python3.13 /usr/bin/python3.12 /usr/bin/python3.11 /usr/bin/python3.10
    /usr/bin/python3.9 /usr/bin/python3.8"
rest="/usr/libexec/platform-python /usr/bin/python3 /usr/bin/python2.7 /usr/bin/python
    /usr/bin/python3.7 /usr/bin/python3.6 /usr/bin/python3.5 /usr/local/bin/python3 /usr/local/bin/python"

if [ "$age" = new ]; then
    first=$newest
else
    case " $(release ID) $(release ID_LIKE) " in
    *" rhel "* | *" centos "* | *" fedora "*)
        case $(release VERSION_ID) in
        6* | 7*) first=/usr/bin/python ;;
        8*) first=/usr/libexec/platform-python ;;
        *) first=/usr/bin/python3 ;;
        esac
        ;;
    *) first=/usr/bin/python3 ;;
    esac
fi

for python in $first $rest $newest; do
    if [ -x "$python" ]; then
        exec "$python" "$here/pid1.py" "$socket" /run/rootbuild/payloads "$python"
    fi
done
echo NO-PYTHON
exit 3
