"""The packages that EL7 has and Debian hasn't, and the bottom of the system: setup to bash."""
from ..users import SETUP_GROUPS, SETUP_USERS

DIRS = {
    "boot": 0o555, "dev": 0o755, "etc": 0o755, "home": 0o755, "media": 0o755, "mnt": 0o755, "opt": 0o755,
    "proc": 0o555, "root": 0o550, "run": 0o755, "srv": 0o755, "sys": 0o555, "tmp": 0o1777,
    "usr": 0o755, "usr/bin": 0o555, "usr/include": 0o755, "usr/lib": 0o555, "usr/lib64": 0o555, "usr/libexec": 0o755,
    "usr/lib/x86_64-linux-gnu": 0o755, "usr/sbin": 0o555, "usr/share": 0o755, "usr/src": 0o755,
    "usr/games": 0o755, "usr/local": 0o755, "usr/local/bin": 0o755, "usr/local/etc": 0o755, "usr/local/lib": 0o755,
    "usr/local/lib64": 0o755, "usr/local/libexec": 0o755, "usr/local/sbin": 0o755, "usr/local/share": 0o755,
    "usr/local/src": 0o755, "usr/share/doc": 0o755, "usr/share/man": 0o755, "usr/share/misc": 0o755,
    "var": 0o755, "var/adm": 0o755, "var/cache": 0o755, "var/db": 0o755, "var/empty": 0o755, "var/games": 0o755,
    "var/lib": 0o755, "var/lib/misc": 0o755, "var/lib/rpm-state": 0o755, "var/local": 0o755, "var/log": 0o755,
    "var/nis": 0o755, "var/opt": 0o755, "var/preserve": 0o755, "var/spool": 0o755, "var/spool/lpd": 0o755,
    "var/tmp": 0o1777, "var/yp": 0o755,
    "etc/opt": 0o755, "etc/pki": 0o755, "etc/pki/rpm-gpg": 0o755, "etc/profile.d": 0o755, "etc/skel": 0o755,
    "etc/sysconfig": 0o755, "etc/xdg": 0o755, "etc/yum.repos.d": 0o755, "etc/logrotate.d": 0o755, "etc/pam.d": 0o755,
    "etc/cron.d": 0o755, "etc/cron.daily": 0o755, "etc/security": 0o755, "usr/lib/systemd": 0o755,
    "usr/lib/systemd/system": 0o755, "usr/lib/systemd/user": 0o755, "usr/lib/tmpfiles.d": 0o755,
}
LINKS = {
    "bin": "usr/bin", "sbin": "usr/sbin", "lib": "usr/lib", "lib64": "usr/lib64",
    "var/run": "../run", "var/lock": "../run/lock", "var/mail": "spool/mail",
}
OS_RELEASE = """NAME="CentOS Linux"
VERSION="7 (Core)"
ID="centos"
ID_LIKE="rhel fedora"
VERSION_ID="7"
PRETTY_NAME="CentOS Linux 7 (Core)"
ANSI_COLOR="0;31"
CPE_NAME="cpe:/o:centos:centos:7"
HOME_URL="https://www.centos.org/"
BUG_REPORT_URL="https://bugs.centos.org/"

CENTOS_MANTISBT_PROJECT="CentOS-7"
CENTOS_MANTISBT_PROJECT_VERSION="7"
REDHAT_SUPPORT_PRODUCT="centos"
REDHAT_SUPPORT_PRODUCT_VERSION="7"
"""
PROFILE = """# /etc/profile
pathmunge () {
    case ":${PATH}:" in
        *:"$1":*) ;;
        *) if [ "$2" = "after" ]; then PATH=$PATH:$1; else PATH=$1:$PATH; fi ;;
    esac
}
PATH=/usr/local/bin:/usr/bin
pathmunge /usr/local/sbin after
pathmunge /usr/sbin after
export PATH USER="${USER:-$(id -un)}" LOGNAME="${LOGNAME:-$(id -un)}" HISTSIZE=1000
umask 022
for i in /etc/profile.d/*.sh; do
    [ -r "$i" ] && . "$i" >/dev/null
done
unset i
unset -f pathmunge
"""
HOSTS = """127.0.0.1   localhost localhost.localdomain localhost4 localhost4.localdomain4
::1         localhost localhost.localdomain localhost6 localhost6.localdomain6
"""
SERVICE = """#!/bin/bash
# service NAME ACTION: what is left of SysV's command on a systemd system
if [ $# -lt 2 ]; then
    echo "Usage: service < option > | --status-all | [ service_name [ command ] ]" >&2
    exit 2
fi
name=${1%.service}
shift
exec systemctl "$@" "$name.service"
"""
FUNCTIONS = """# The least that scripts expect of /etc/rc.d/init.d/functions.
umask 022
action() { local text=$1; shift; echo -n "$text "; if "$@"; then echo "[  OK  ]"; else echo "[FAILED]"; return 1; fi; }
success() { echo -n "[  OK  ]"; }
failure() { echo -n "[FAILED]"; }
"""


def setup(pkg):
    """Users, groups, hosts and the shells' start files."""
    s = pkg("setup")
    db = {"config": True, "noverify": True}
    s.write("etc/passwd", "".join("%s:x:%d:%d:%s:%s:%s\n" % u for u in SETUP_USERS), **db)
    s.write("etc/group", "".join(f"{name}:x:{gid}:\n" for name, gid in SETUP_GROUPS), **db)
    s.write("etc/shadow", "".join(f"{u[0]}:*:18353:0:99999:7:::\n" for u in SETUP_USERS), mode=0, **db)
    s.write("etc/gshadow", "".join(f"{name}:::\n" for name, _ in SETUP_GROUPS), mode=0, **db)
    s.write("etc/hosts", HOSTS)
    s.write("etc/host.conf", "multi on\n")
    s.write("etc/profile", PROFILE)
    s.write("etc/bashrc", '# /etc/bashrc\n[ "$PS1" ] && PS1="[\\u@\\h \\W]\\\\$ "\n')
    s.write("etc/csh.cshrc", "# /etc/csh.cshrc\numask 022\n")
    s.write("etc/csh.login", "# /etc/csh.login\n")
    s.write("etc/filesystems", "xfs\next4\next3\next2\nnodev proc\nnodev devpts\niso9660\nvfat\n*\n")
    s.write("etc/shells", "/bin/sh\n/bin/bash\n/usr/bin/sh\n/usr/bin/bash\n")
    s.write("etc/securetty", "console\nhvc0\nttyS0\ntty1\n", mode=0o600)
    s.write("etc/inputrc", "set bell-style none\nset meta-flag on\nset input-meta on\nset convert-meta off\n"
            "set output-meta on\n")
    s.write("etc/networks", "default 0.0.0.0\nloopback 127.0.0.0\nlink-local 169.254.0.0\n")
    for empty in ("motd", "printcap", "exports", "environment", "aliases", "hosts.allow", "hosts.deny"):
        s.write(f"etc/{empty}", "")
    for empty in ("subuid", "subgid"):
        s.write(f"etc/{empty}", "", **db)
    s.write("var/log/lastlog", "", ghost=True, noverify=True)


def filesystem(pkg):
    """The directories, and the links of the merged /usr."""
    f = pkg("filesystem")
    for path, mode in DIRS.items():
        f.mkdir(path, mode)
    f.mkdir("var/spool/mail", 0o775, group="mail")
    for path, target in LINKS.items():
        f.link(path, target)
    pkg("basesystem")


def release(pkg, key):
    """Release files. The key is where EL7 has its own, so that playbooks and .repo files find it."""
    c = pkg("centos-release")
    c.write("etc/os-release", OS_RELEASE)
    c.link("usr/lib/os-release", "../../etc/os-release")
    c.write("etc/centos-release", "CentOS Linux release 7.9.2009 (Core)\n")
    c.write("etc/centos-release-upstream", "Derived from Red Hat Enterprise Linux 7.9 (Source)\n")
    c.link("etc/redhat-release", "centos-release")
    c.link("etc/system-release", "centos-release")
    c.write("etc/system-release-cpe", "cpe:/o:centos:linux:7:ga\n")
    for name in ("issue", "issue.net"):
        c.write(f"etc/{name}", "\\S\nKernel \\r on an \\m\n\n")
    c.write("etc/yum/vars/infra", "stock\n")
    c.write("etc/yum/vars/contentdir", "centos\n")
    c.write("etc/rpm/macros.dist", "%centos_ver 7\n%centos 7\n%rhel 7\n%dist .el7\n%el7 1\n")
    c.write("etc/pki/rpm-gpg/RPM-GPG-KEY-CentOS-7", key)
    c.write("usr/share/rootbuild-standin/README",
            "Debian packages re-packed as RPMs in EL7's shape, for rootbuild's tests. This is not CentOS.\n")
    stanzas = [f"[{name}]\nname=CentOS-$releasever - {title}\n"
               f"baseurl=http://vault.centos.org/7.9.2009/{path}/$basearch/\ngpgcheck=1\nenabled=0\n"
               "gpgkey=file:///etc/pki/rpm-gpg/RPM-GPG-KEY-CentOS-7\n"
               for name, title, path in (("base", "Base", "os"), ("updates", "Updates", "updates"),
                                         ("extras", "Extras", "extras"))]
    c.write("etc/yum.repos.d/CentOS-Base.repo",
            "# Off: real CentOS packages do not fit the stand-in's.\n" + "\n".join(stanzas))
    c.write("usr/lib/systemd/system-preset/90-default.preset", "".join(
        f"enable {unit}\n" for unit in ("remote-fs.target", "dbus.*", "crond.service", "rsyslog.*", "sshd.*",
                                        "sshd-keygen.service", "getty@tty1.service", "systemd-journald.*",
                                        "systemd-logind.service")))
    c.write("usr/lib/systemd/system-preset/99-default-disable.preset", "disable *\n")


def glibc(pkg):
    """The loader's configuration and name service switch."""
    g = pkg("glibc")
    g.write("etc/nsswitch.conf", "passwd:     files\nshadow:     files\ngroup:      files\nhosts:      files dns myhostname\n"
            "bootparams: files\nethers:     files\nnetmasks:   files\nnetworks:   files\nprotocols:  files\n"
            "rpc:        files\nservices:   files\nnetgroup:   files\npublickey:  files\nautomount:  files\naliases:    files\n")
    g.write("etc/ld.so.conf", "include ld.so.conf.d/*.conf\n")
    g.write("etc/ld.so.cache", "", ghost=True, noverify=True)
    g.mkdir("var/cache/ldconfig", 0o700)
    # Links go through usr/, as rpm must not meet a directory link that `filesystem` has yet to make.
    for link in g.match("usr/lib64/ld-linux*"):
        g.link(link, "../lib/x86_64-linux-gnu/" + (g.tree.root / link).readlink().name)


def bash(pkg):
    """sh, and what new homes get."""
    b = pkg("bash")
    b.link("usr/bin/sh", "bash")
    b.remove("etc/bash.bashrc", "etc/skel")
    b.write("etc/skel/.bashrc", "# .bashrc\n\nif [ -f /etc/bashrc ]; then\n\t. /etc/bashrc\nfi\n")
    b.write("etc/skel/.bash_profile", "# .bash_profile\n\nif [ -f ~/.bashrc ]; then\n\t. ~/.bashrc\nfi\n\n"
            "PATH=$PATH:$HOME/.local/bin:$HOME/bin\n\nexport PATH\n")
    b.write("etc/skel/.bash_logout", "# ~/.bash_logout\n")


def small_tools(pkg):
    """Names that EL7 has and Debian makes by alternatives, or keeps elsewhere."""
    pkg("gawk").link("usr/bin/awk", "gawk")
    vim = pkg("vim-minimal")
    vim.link("usr/bin/vi", "vim.tiny")
    vim.link("usr/bin/view", "vim.tiny")
    which = pkg("which")
    which.remove(*(p for p in which.match("*") if p not in ("usr/bin/which", "usr/bin/run-parts")))
    which.give("cronie", "usr/bin/run-parts")
    pkg("nmap-ncat").link("usr/bin/nc", "ncat")
    pkg("telnet").rename("usr/bin/telnet.netkit", "usr/bin/telnet")
    hello = pkg("standin-hello")
    hello.write("usr/bin/standin-hello", "#!/bin/bash\necho hello from standin-hello 1.0\n", mode=0o755)
    hello.write("etc/standin-hello.conf", "greeting=hello\n")


def initscripts(pkg):
    """`service`, and the files that everybody sources."""
    i = pkg("initscripts")
    i.write("usr/sbin/service", SERVICE, mode=0o755)
    i.write("etc/rc.d/init.d/functions", FUNCTIONS)
    i.link("etc/init.d", "rc.d/init.d")
    i.write("etc/rc.d/rc.local", "#!/bin/bash\ntouch /var/lock/subsys/local\n")
    i.link("etc/rc.local", "rc.d/rc.local")
    i.write("etc/sysconfig/network", "# Created by the stand-in\n")
    i.mkdir("etc/sysconfig/network-scripts")
    i.write("var/log/wtmp", "", mode=0o664, group="utmp", ghost=True, noverify=True)
    i.write("var/log/btmp", "", mode=0o600, group="utmp", ghost=True, noverify=True)


STEPS = (setup, filesystem, glibc, bash, small_tools, initscripts)
