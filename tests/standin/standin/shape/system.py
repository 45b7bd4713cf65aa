"""systemd, dbus, PAM, accounts, ssh, cron, logging, sudo."""
import re

PAM_AUTH = """#%PAM-1.0
# The stand-in's; EL7 has authconfig write this.
auth        required      pam_env.so
auth        sufficient    pam_unix.so nullok try_first_pass
auth        requisite     pam_succeed_if.so uid >= 1000 quiet_success
auth        required      pam_deny.so

account     required      pam_unix.so

password    sufficient    pam_unix.so sha512 shadow nullok try_first_pass use_authtok
password    required      pam_deny.so

session     optional      pam_keyinit.so revoke
session     required      pam_limits.so
-session     optional      pam_systemd.so
session     required      pam_unix.so
"""
SSHD_CONFIG = """HostKey /etc/ssh/ssh_host_rsa_key
HostKey /etc/ssh/ssh_host_ecdsa_key
HostKey /etc/ssh/ssh_host_ed25519_key
SyslogFacility AUTHPRIV
AuthorizedKeysFile .ssh/authorized_keys
PasswordAuthentication yes
ChallengeResponseAuthentication no
UsePAM yes
X11Forwarding yes
AcceptEnv LANG LC_*
Subsystem sftp /usr/libexec/openssh/sftp-server
"""
SSHD_SERVICE = """[Unit]
Description=OpenSSH server daemon
Documentation=man:sshd(8) man:sshd_config(5)
After=network.target sshd-keygen.service
Wants=sshd-keygen.service

[Service]
Type=notify
EnvironmentFile=/etc/sysconfig/sshd
ExecStart=/usr/sbin/sshd -D $OPTIONS
ExecReload=/bin/kill -HUP $MAINPID
KillMode=process
Restart=on-failure
RestartSec=42s
RuntimeDirectory=sshd

[Install]
WantedBy=multi-user.target
"""
SSHD_KEYGEN = """[Unit]
Description=OpenSSH Server Key Generation
ConditionFileNotEmpty=|!/etc/ssh/ssh_host_rsa_key
ConditionFileNotEmpty=|!/etc/ssh/ssh_host_ecdsa_key
ConditionFileNotEmpty=|!/etc/ssh/ssh_host_ed25519_key
PartOf=sshd.service sshd.socket

[Service]
ExecStart=/usr/bin/ssh-keygen -A
Type=oneshot
RemainAfterExit=yes
"""
CROND_SERVICE = """[Unit]
Description=Command Scheduler
After=auditd.service systemd-user-sessions.service time-sync.target

[Service]
EnvironmentFile=/etc/sysconfig/crond
ExecStart=/usr/sbin/crond -f $CRONDARGS
ExecReload=/bin/kill -HUP $MAINPID
KillMode=process

[Install]
WantedBy=multi-user.target
"""
CRONTAB = """SHELL=/bin/bash
PATH=/sbin:/bin:/usr/sbin:/usr/bin
MAILTO=root

01 * * * * root run-parts /etc/cron.hourly
02 4 * * * root run-parts /etc/cron.daily
22 4 * * 0 root run-parts /etc/cron.weekly
42 4 1 * * root run-parts /etc/cron.monthly
"""
RSYSLOG_CONF = """# rsyslog configuration file
module(load="imuxsock")
module(load="imjournal" StateFile="imjournal.state")
module(load="builtin:omfile" Template="RSYSLOG_TraditionalFileFormat")
global(workDirectory="/var/lib/rsyslog")
include(file="/etc/rsyslog.d/*.conf" mode="optional")
*.info;mail.none;authpriv.none;cron.none                /var/log/messages
authpriv.*                                              /var/log/secure
mail.*                                                  -/var/log/maillog
cron.*                                                  /var/log/cron
*.emerg                                                 :omusrmsg:*
uucp,news.crit                                          /var/log/spooler
local7.*                                                /var/log/boot.log
"""
SUDOERS = """Defaults   !visiblepw
Defaults    always_set_home
Defaults    env_reset
Defaults    env_keep =  "COLORS DISPLAY HOSTNAME HISTSIZE KDEDIR LS_COLORS"
Defaults    secure_path = /sbin:/bin:/usr/sbin:/usr/bin

root    ALL=(ALL)       ALL
%wheel  ALL=(ALL)       ALL

#includedir /etc/sudoers.d
"""
LOGROTATE_CRON = "#!/bin/sh\n/usr/sbin/logrotate /etc/logrotate.conf\nexit $?\n"


def systemd(pkg):
    """Boots to multi-user; what only a Debian installation has is left out."""
    s = pkg("systemd")
    s.link("etc/systemd/system/default.target", "/usr/lib/systemd/system/multi-user.target")
    s.write("etc/locale.conf", 'LANG="C.UTF-8"\n')
    s.write("etc/machine-id", "", mode=0o444, ghost=True, noverify=True)
    s.write("etc/hostname", "", ghost=True, noverify=True)
    s.remove("usr/lib/tmpfiles.d/debian.conf", "usr/lib/tmpfiles.d/home.conf", "var/log/journal")
    s.remove("usr/lib/systemd/system-preset/90-systemd.preset")
    var = s.read("usr/lib/tmpfiles.d/var.conf")
    s.write("usr/lib/tmpfiles.d/var.conf", re.sub(r"(?m)^f /var/log/lastlog .*\n", "", var).replace("btmp 0660", "btmp 0600"))
    s.mkdir("etc/sysctl.d")
    s.mkdir("etc/tmpfiles.d")
    s.mkdir("var/lib/systemd")
    s.remove("etc/sysctl.d/99-sysctl.conf")
    # sysusers are EL7's scriptlets here.
    s.remove("usr/lib/systemd/system/systemd-sysusers.service",
             "usr/lib/systemd/system/sysinit.target.wants/systemd-sysusers.service")


def dbus(pkg):
    """The bus runs as `dbus`."""
    d = pkg("dbus")
    d.write("usr/share/dbus-1/system.conf",
            d.read("usr/share/dbus-1/system.conf").replace("<user>messagebus</user>", "<user>dbus</user>"))
    d.set("usr/lib/dbus-1.0/dbus-daemon-launch-helper", mode=0o4750, group="dbus")


def pam(pkg):
    """system-auth and password-auth, which Debian's `common-*` files lead to."""
    p = pkg("pam")
    for name in ("system-auth", "password-auth"):
        p.write(f"etc/pam.d/{name}-ac", PAM_AUTH)
        p.link(f"etc/pam.d/{name}", f"{name}-ac")
    for kind in ("auth", "account", "password", "session"):
        p.write(f"etc/pam.d/common-{kind}", f"{kind} include system-auth\n")
    p.write("etc/pam.d/common-session-noninteractive", "session include system-auth\n")
    p.remove("usr/share/pam", "usr/sbin/pam-auth-update", "usr/sbin/pam_getenv")
    p.mkdir("etc/security/limits.d")
    p.set("usr/sbin/unix_chkpwd", mode=0o4755)


def shadow(pkg):
    """EL7's limits, and its split of Debian's `passwd` and `login` into packages."""
    s = pkg("shadow-utils")
    defs = s.read("etc/login.defs")
    for key, value in {"UID_MIN": "1000", "UID_MAX": "60000", "SYS_UID_MIN": "201", "SYS_UID_MAX": "999",
                       "GID_MIN": "1000", "GID_MAX": "60000", "SYS_GID_MIN": "201", "SYS_GID_MAX": "999",
                       "USERGROUPS_ENAB": "yes", "ENCRYPT_METHOD": "SHA512", "UMASK": "077"}.items():
        defs, found = re.subn(rf"(?m)^#?\s*{key}\s.*$", f"{key}\t\t{value}", defs)
        if not found:
            defs += f"{key}\t\t{value}\n"
    s.write("etc/login.defs", defs + "CREATE_HOME\tyes\n")
    s.write("etc/default/useradd", "# useradd defaults file\nGROUP=100\nHOME=/home\nINACTIVE=-1\nEXPIRE=\n"
            "SHELL=/bin/bash\nSKEL=/etc/skel\nCREATE_MAIL_SPOOL=yes\n", mode=0o600)
    s.remove("usr/sbin/cpgr", "usr/sbin/cppw", "usr/sbin/shadowconfig", "usr/bin/expiry", "usr/lib/tmpfiles.d/passwd.conf")
    s.set("usr/bin/chage", mode=0o4755)
    s.give("passwd", "usr/bin/passwd", "etc/pam.d/passwd")
    s.give("util-linux", "usr/bin/login", "etc/pam.d/login", "usr/sbin/nologin", "usr/bin/chfn", "usr/bin/chsh",
           "etc/pam.d/chfn", "etc/pam.d/chsh")
    pkg("passwd").requires |= {"shadow-utils", "pam"}
    u = pkg("util-linux")
    u.set("usr/bin/chfn", mode=0o4711)
    u.set("usr/bin/chsh", mode=0o4711)
    u.requires.add("pam")
    # shadow-utils' tools link PAM here; login's needs went with login.
    u.requires -= {"shadow-utils"}


def openssh(pkg):
    """EL7's packages, unit names, paths and modes."""
    server, clients = pkg("openssh-server"), pkg("openssh-clients")
    units = "usr/lib/systemd/system/"
    server.remove(*(units + u for u in ("ssh.service", "ssh@.service", "ssh.socket", "rescue-ssh.target")),
                  "usr/lib/openssh/ssh-session-cleanup", "usr/lib/systemd/system/ssh-session-cleanup.service",
                  "usr/share/openssh")
    server.write(units + "sshd.service", SSHD_SERVICE)
    server.write(units + "sshd-keygen.service", SSHD_KEYGEN)
    server.write("etc/ssh/sshd_config", SSHD_CONFIG, mode=0o600)
    server.write("etc/sysconfig/sshd", "# Configuration file for the sshd service.\nOPTIONS=\n", mode=0o640)
    server.mkdir("var/empty/sshd", 0o711)
    server.rename("usr/lib/openssh/sftp-server", "usr/libexec/openssh/sftp-server")
    server.link("usr/lib/sftp-server", "../libexec/openssh/sftp-server")
    clients.give("openssh", "usr/bin/ssh-keygen", "usr/lib/openssh/ssh-keysign")
    server.give("openssh", "etc/ssh/moduli")
    pkg("openssh").set("usr/lib/openssh/ssh-keysign", mode=0o2555, group="ssh_keys")
    clients.set("usr/bin/ssh-agent", mode=0o2111, group="nobody")
    for package in (server, clients):
        package.requires.add("openssh")
    server.requires.discard("openssh-clients")


def cronie(pkg):
    """Debian's cron under EL7's names; the spool is where EL7 has it."""
    c = pkg("cronie")
    c.rename("usr/sbin/cron", "usr/sbin/crond")
    c.remove("usr/lib/systemd/system/cron.service", "etc/cron.d/.placeholder", "etc/cron.*/.placeholder",
             "var/spool/cron/crontabs")
    c.write("usr/lib/systemd/system/crond.service", CROND_SERVICE)
    c.write("etc/sysconfig/crond", "# Settings for the CRON daemon.\nCRONDARGS=\n")
    c.write("etc/crontab", CRONTAB)
    c.link("etc/pam.d/crond", "cron")
    c.mkdir("var/spool/cron", 0o700)
    c.link("var/spool/cron/crontabs", ".")
    c.set("usr/bin/crontab", mode=0o4755)


def logs(pkg):
    """rsyslog with EL7's files, logrotate from cron."""
    r = pkg("rsyslog")
    r.write("etc/rsyslog.conf", RSYSLOG_CONF)
    r.remove("etc/logrotate.d/rsyslog", "usr/lib/rsyslog")
    r.write("etc/logrotate.d/syslog", "/var/log/cron\n/var/log/maillog\n/var/log/messages\n/var/log/secure\n"
            "/var/log/spooler\n{\n    missingok\n    sharedscripts\n    postrotate\n"
            "\t/bin/kill -HUP `cat /var/run/rsyslogd.pid 2> /dev/null` 2> /dev/null || true\n    endscript\n}\n")
    r.mkdir("var/lib/rsyslog", 0o700)
    log = pkg("logrotate")
    log.remove("usr/lib/systemd/system/logrotate.*", "etc/cron.daily/logrotate")
    log.write("etc/cron.daily/logrotate", LOGROTATE_CRON, mode=0o700)


def privileges(pkg):
    """sudo's rules, and modes and capabilities that Debian's scriptlets set or EL7 has otherwise."""
    s = pkg("sudo")
    s.write("etc/sudoers", SUDOERS, mode=0o440)
    s.mkdir("etc/sudoers.d", 0o750)
    s.remove("etc/sudoers.d/README")
    s.set("usr/bin/sudo", mode=0o4111)
    pkg("util-linux").set("usr/bin/wall", mode=0o2555, group="tty")
    pkg("iputils").set("usr/bin/ping", caps="cap_net_raw=ep")


STEPS = (systemd, dbus, pam, shadow, openssh, cronie, logs, privileges)
