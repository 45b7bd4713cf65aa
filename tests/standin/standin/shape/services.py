"""The services that playbooks install: OpenLDAP, memcached, HAProxy, rsync, Mercurial."""
import re

SLAPD_SERVICE = """[Unit]
Description=OpenLDAP Server Daemon
After=syslog.target network-online.target
Documentation=man:slapd man:slapd-config man:slapd-hdb man:slapd-mdb

[Service]
Type=forking
PIDFile=/run/openldap/slapd.pid
Environment="SLAPD_URLS=ldap:/// ldapi:///" "SLAPD_OPTIONS="
EnvironmentFile=/etc/sysconfig/slapd
# Debian's slapd has its ldapi socket in /run/slapd.
ExecStartPre=/usr/bin/install -d -o ldap -g ldap /run/openldap /run/slapd
ExecStart=/usr/sbin/slapd -u ldap -h ${SLAPD_URLS} $SLAPD_OPTIONS

[Install]
WantedBy=multi-user.target
Alias=openldap.service
"""
SLAPD_LDIF = """dn: cn=config
objectClass: olcGlobal
cn: config
olcArgsFile: /run/openldap/slapd.args
olcPidFile: /run/openldap/slapd.pid

dn: cn=module,cn=config
objectClass: olcModuleList
cn: module
olcModulepath: /usr/lib64/openldap
olcModuleload: back_hdb
olcModuleload: back_mdb
olcModuleload: back_monitor

dn: cn=schema,cn=config
objectClass: olcSchemaConfig
cn: schema

include: file:///etc/openldap/schema/core.ldif

dn: olcDatabase=frontend,cn=config
objectClass: olcDatabaseConfig
objectClass: olcFrontendConfig
olcDatabase: frontend

dn: olcDatabase=config,cn=config
objectClass: olcDatabaseConfig
olcDatabase: config
olcAccess: to * by dn.base="gidNumber=0+uidNumber=0,cn=peercred,cn=external,cn=auth" manage by * none

dn: olcDatabase=monitor,cn=config
objectClass: olcDatabaseConfig
olcDatabase: monitor
olcAccess: to * by dn.base="gidNumber=0+uidNumber=0,cn=peercred,cn=external,cn=auth" read by dn.base="cn=Manager,dc=my-domain,dc=com" read by * none

dn: olcDatabase=hdb,cn=config
objectClass: olcDatabaseConfig
objectClass: olcHdbConfig
olcDatabase: hdb
olcSuffix: dc=my-domain,dc=com
olcRootDN: cn=Manager,dc=my-domain,dc=com
olcDbDirectory: /var/lib/ldap
olcDbIndex: objectClass eq,pres
"""
MEMCACHED_SERVICE = """[Unit]
Description=Memcached
Before=httpd.service
After=network.target

[Service]
Type=simple
EnvironmentFile=-/etc/sysconfig/memcached
RuntimeDirectory=memcached
ExecStart=/usr/bin/memcached -u $USER -p $PORT -m $CACHESIZE -c $MAXCONN $OPTIONS

[Install]
WantedBy=multi-user.target
"""
HAPROXY_SERVICE = """[Unit]
Description=HAProxy Load Balancer
After=syslog.target network.target

[Service]
Type=notify
EnvironmentFile=/etc/sysconfig/haproxy
ExecStartPre=/usr/sbin/haproxy -f /etc/haproxy/haproxy.cfg -c -q
ExecStart=/usr/sbin/haproxy -Ws -f /etc/haproxy/haproxy.cfg -p /run/haproxy.pid $OPTIONS
ExecReload=/bin/kill -USR2 $MAINPID
KillMode=mixed

[Install]
WantedBy=multi-user.target
"""
HAPROXY_CFG = """global
    log         127.0.0.1 local2
    chroot      /var/lib/haproxy
    pidfile     /var/run/haproxy.pid
    maxconn     4000
    user        haproxy
    group       haproxy
    daemon
    stats socket /var/lib/haproxy/stats

defaults
    mode                    http
    log                     global
    option                  httplog
    option                  dontlognull
    option http-server-close
    option forwardfor       except 127.0.0.0/8
    option                  redispatch
    retries                 3
    timeout http-request    10s
    timeout queue           1m
    timeout connect         10s
    timeout client          1m
    timeout server          1m
    timeout http-keep-alive 10s
    timeout check           10s
    maxconn                 3000

frontend  main
    bind *:5000
    default_backend             app

backend app
    balance     roundrobin
    server  app1 127.0.0.1:5001 check
"""
RSYNCD_SERVICE = """[Unit]
Description=fast remote file copy program daemon
ConditionPathExists=/etc/rsyncd.conf

[Service]
EnvironmentFile=/etc/sysconfig/rsyncd
ExecStart=/usr/bin/rsync --daemon --no-detach "$OPTIONS"

[Install]
WantedBy=multi-user.target
"""


def openldap(pkg):
    """/etc/openldap is where EL7 has it; Debian's compiled-in /etc/ldap leads there."""
    o = pkg("openldap")
    o.mkdir("etc/openldap")
    o.link("etc/ldap", "openldap")
    o.write("etc/openldap/ldap.conf", "TLS_CACERTDIR\t/etc/openldap/certs\nSASL_NOCANON\ton\n")
    o.mkdir("etc/openldap/certs")


def slapd(pkg):
    """The server with EL7's first configuration, loaded by its scriptlet."""
    s = pkg("openldap-servers")
    # Perl and ODBC are not among the packages.
    s.remove("usr/lib/ldap/back_perl*", "usr/lib/ldap/back_sql*")
    s.remove("usr/share/slapd", "usr/lib/systemd/system/slapd.service.d", "etc/ldap/sasl2")
    s.rename("etc/ldap/schema", "etc/openldap/schema")
    if "etc/ldap" in s.entries:
        s.remove("etc/ldap")
    s.rename("usr/lib/ldap", "usr/lib64/openldap")
    s.link("usr/lib/ldap", "../lib64/openldap")
    s.write("usr/share/openldap-servers/slapd.ldif", SLAPD_LDIF)
    s.write("usr/share/openldap-servers/DB_CONFIG.example", "set_cachesize 0 268435456 1\nset_lg_regionmax 262144\n"
            "set_lg_bsize 2097152\n")
    s.write("usr/lib/systemd/system/slapd.service", SLAPD_SERVICE)
    s.write("usr/lib/tmpfiles.d/slapd.conf", "d /run/openldap 755 ldap ldap\nd /run/slapd 755 ldap ldap\nL /run/ldapi - - - - slapd/ldapi\n")
    s.write("etc/sysconfig/slapd", '# OpenLDAP server configuration\nSLAPD_URLS="ldapi:/// ldap:///"\n')
    s.mkdir("etc/openldap/slapd.d", 0o750, "ldap", "ldap")
    s.mkdir("var/lib/ldap", 0o700, "ldap", "ldap")
    pkg("openldap-clients").remove("etc/ldap")


def memcached(pkg):
    """Settings in /etc/sysconfig."""
    m = pkg("memcached")
    m.remove("usr/lib/tmpfiles.d/memcached.conf", "usr/share/memcached", "etc/memcached.conf")
    m.write("usr/lib/systemd/system/memcached.service", MEMCACHED_SERVICE)
    m.write("etc/sysconfig/memcached", 'PORT="11211"\nUSER="memcached"\nMAXCONN="1024"\nCACHESIZE="64"\nOPTIONS=""\n')


def haproxy(pkg):
    """EL7's sample configuration and chroot."""
    h = pkg("haproxy")
    h.rename("etc/haproxy/errors", "usr/share/haproxy")
    h.remove("etc/rsyslog.d", "usr/lib/tmpfiles.d/haproxy.conf", "var/lib/haproxy")
    h.write("etc/haproxy/haproxy.cfg", HAPROXY_CFG)
    h.write("etc/sysconfig/haproxy", "# Add extra options to the haproxy daemon here\nOPTIONS=\"\"\n")
    h.write("usr/lib/systemd/system/haproxy.service", HAPROXY_SERVICE)
    h.mkdir("var/lib/haproxy", 0o755, "haproxy", "haproxy")
    rotate = h.read("etc/logrotate.d/haproxy")
    h.write("etc/logrotate.d/haproxy", re.sub(r"(?ms)postrotate.*?endscript",
            "postrotate\n        /bin/kill -HUP `cat /var/run/rsyslogd.pid 2> /dev/null` 2> /dev/null || true\n    endscript",
            rotate))


def rsync(pkg):
    """The daemon under EL7's unit name."""
    r = pkg("rsync")
    r.remove("usr/lib/systemd/system/rsync.service", "usr/share/rsync", "usr/bin/rrsync")
    r.write("usr/lib/systemd/system/rsyncd.service", RSYNCD_SERVICE)
    r.write("etc/sysconfig/rsyncd", 'OPTIONS=""\n')
    r.write("etc/rsyncd.conf", "# /etc/rsyncd: configuration file for rsync daemon mode\n")


def mercurial(pkg):
    """hgrc as EL7 has it; hgweb.cgi where EL7's documentation directory has it."""
    m = pkg("mercurial")
    m.remove("etc/mercurial", "usr/share/mercurial/tests", "usr/share/mercurial/hgk")
    m.write("etc/mercurial/hgrc", "[web]\ncacerts = /etc/pki/tls/certs/ca-bundle.crt\n")
    m.mkdir("etc/mercurial/hgrc.d")
    m.write("usr/share/doc/mercurial/hgweb.cgi", "#!/usr/bin/python3\n# An example hgweb CGI script; edit `config`.\n"
            "config = b\"/path/to/repo/or/config\"\n\nfrom mercurial import demandimport\n\ndemandimport.enable()\n"
            "from mercurial.hgweb import hgweb, wsgicgi\n\napplication = hgweb(config)\nwsgicgi.launch(application)\n",
            mode=0o755)


# slapd first: the link that `openldap` makes must find no directory in its place.
STEPS = (slapd, openldap, memcached, haproxy, rsync, mercurial)
