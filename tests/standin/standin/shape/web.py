"""Apache's server as EL7's httpd: names, paths, module files, unit."""

MODULES = "usr/lib64/httpd/modules"
# EL7's conf.modules.d; modules that Debian links into the server (so, unixd, log_config…) are not loaded.
MODULE_FILES = {
    "00-base.conf": """access_compat actions alias allowmethods auth_basic auth_digest authn_anon authn_core authn_dbd
        authn_dbm authn_file authn_socache authz_core authz_dbd authz_dbm authz_groupfile authz_host authz_owner
        authz_user autoindex cache cache_disk cache_socache data dbd deflate dir dumpio echo env expires ext_filter
        filter headers include info macro mime_magic mime negotiation remoteip reqtimeout request rewrite setenvif
        slotmem_plain slotmem_shm socache_dbm socache_memcache socache_shmcb status substitute suexec unique_id
        userdir vhost_alias""",
    "00-dav.conf": "dav dav_fs dav_lock",
    "00-lua.conf": "lua",
    "00-mpm.conf": "mpm_prefork",
    "00-proxy.conf": """proxy lbmethod_bybusyness lbmethod_byrequests lbmethod_bytraffic lbmethod_heartbeat proxy_ajp
        proxy_balancer proxy_connect proxy_express proxy_fcgi proxy_fdpass proxy_ftp proxy_http proxy_scgi
        proxy_wstunnel""",
    "01-cgi.conf": "cgi",
}
HTTPD_CONF = """ServerRoot "/etc/httpd"
Listen 80
Include conf.modules.d/*.conf
User apache
Group apache
ServerAdmin root@localhost
PidFile /run/httpd/httpd.pid
<Directory />
    AllowOverride none
    Require all denied
</Directory>
DocumentRoot "/var/www/html"
<Directory "/var/www">
    AllowOverride None
    Require all granted
</Directory>
<Directory "/var/www/html">
    Options Indexes FollowSymLinks
    AllowOverride None
    Require all granted
</Directory>
<IfModule dir_module>
    DirectoryIndex index.html
</IfModule>
<Files ".ht*">
    Require all denied
</Files>
ErrorLog "logs/error_log"
LogLevel warn
LogFormat "%h %l %u %t \\"%r\\" %>s %b \\"%{Referer}i\\" \\"%{User-Agent}i\\"" combined
LogFormat "%h %l %u %t \\"%r\\" %>s %b" common
CustomLog "logs/access_log" combined
<IfModule alias_module>
    ScriptAlias /cgi-bin/ "/var/www/cgi-bin/"
</IfModule>
<Directory "/var/www/cgi-bin">
    AllowOverride None
    Options None
    Require all granted
</Directory>
<IfModule mime_module>
    TypesConfig /etc/mime.types
    AddType application/x-compress .Z
    AddType application/x-gzip .gz .tgz
</IfModule>
AddDefaultCharset UTF-8
<IfModule mime_magic_module>
    MIMEMagicFile conf/magic
</IfModule>
EnableSendfile on
IncludeOptional conf.d/*.conf
"""
HTTPD_SERVICE = """[Unit]
Description=The Apache HTTP Server
After=network.target remote-fs.target nss-lookup.target
Documentation=man:httpd(8)

[Service]
Type=simple
EnvironmentFile=/etc/sysconfig/httpd
RuntimeDirectory=httpd
ExecStart=/usr/sbin/httpd $OPTIONS -DFOREGROUND
ExecReload=/usr/sbin/httpd $OPTIONS -k graceful
KillSignal=SIGWINCH
KillMode=mixed
PrivateTmp=true

[Install]
WantedBy=multi-user.target
"""
APACHECTL = """#!/bin/sh
# apachectl: units where systemd has them, httpd's own options for the rest
case "$1" in
start|stop|restart|status) exec systemctl "$1" httpd.service ;;
graceful) exec systemctl reload httpd.service ;;
configtest) exec /usr/sbin/httpd -t ;;
*) exec /usr/sbin/httpd "$@" ;;
esac
"""
SSL_CONF = """# Only the module is set up; there is no certificate, so nothing listens on 443.
SSLPassPhraseDialog builtin
SSLSessionCache         shmcb:/run/httpd/sslcache(512000)
SSLSessionCacheTimeout  300
SSLRandomSeed startup file:/dev/urandom  256
"""


def _load(names):
    return "".join(f"LoadModule {name}_module modules/mod_{name}.so\n" for name in names)


def httpd(pkg):
    """The server and its tree under /etc/httpd; Debian's own tree goes."""
    h = pkg("httpd")
    magic = h.read("etc/apache2/magic")
    h.remove("etc/apache2", "etc/cron.daily/apache2", "etc/logrotate.d/apache2", "usr/lib/systemd/system/apache*",
             "usr/sbin/a2*", "usr/sbin/apache2ctl", "usr/sbin/apachectl", "usr/share/apache2/apache2-maintscript-helper",
             "usr/share/apache2/ask-for-passphrase", "usr/share/apache2/build", "usr/share/apache2/default-site",
             "usr/lib/cgi-bin", "usr/lib/apache2/suexec*", "var/cache/apache2", "var/lib/apache2", "var/log/apache2")
    h.rename("usr/sbin/apache2", "usr/sbin/httpd")
    h.rename("usr/lib/apache2/modules", MODULES)
    h.rename("usr/share/apache2", "usr/share/httpd")
    h.remove("usr/lib/apache2")
    h.write("etc/httpd/conf/httpd.conf", HTTPD_CONF)
    h.write("etc/httpd/conf/magic", magic)
    for name, modules in MODULE_FILES.items():
        present = [m for m in modules.split() if h.has(f"{MODULES}/mod_{m}.so")]
        h.write(f"etc/httpd/conf.modules.d/{name}", _load(present))
    h.write("etc/httpd/conf.d/README", "Files here that end in .conf are read by httpd.\n")
    h.write("etc/httpd/conf.d/autoindex.conf", "Alias /icons/ \"/usr/share/httpd/icons/\"\n"
            "<Directory \"/usr/share/httpd/icons\">\n    Require all granted\n</Directory>\n")
    h.write("etc/sysconfig/httpd", "OPTIONS=\nLANG=C\n")
    h.write("etc/logrotate.d/httpd", "/var/log/httpd/*log {\n    missingok\n    notifempty\n    sharedscripts\n"
            "    delaycompress\n    postrotate\n        /bin/systemctl reload httpd.service > /dev/null 2>/dev/null || true\n"
            "    endscript\n}\n")
    h.write("usr/lib/systemd/system/httpd.service", HTTPD_SERVICE)
    h.write("usr/sbin/apachectl", APACHECTL, mode=0o755)
    h.write("usr/lib/tmpfiles.d/httpd.conf", "d /run/httpd 710 root apache\n")
    h.link("etc/httpd/modules", "../../" + MODULES)
    h.link("etc/httpd/logs", "../../var/log/httpd")
    h.link("etc/httpd/run", "/run/httpd")
    # The server was compiled to read /etc/apache2/apache2.conf.
    h.link("etc/apache2", "httpd")
    h.link("etc/httpd/apache2.conf", "conf/httpd.conf")
    for path in ("var/www", "var/www/html", "var/www/cgi-bin"):
        h.mkdir(path)
    h.mkdir("var/log/httpd", 0o700)
    h.mkdir("var/cache/httpd", 0o700, "apache", "apache")
    h.mkdir("var/lib/dav", 0o700, "apache", "apache")
    h.requires |= {"mailcap", "httpd-tools"}
    h.requires -= {"apr-util-ldap"}


def extra_modules(pkg):
    """EL7's separate packages of modules."""
    h = pkg("httpd")
    h.give("mod_ssl", f"{MODULES}/mod_ssl.so")
    ssl = pkg("mod_ssl")
    ssl.write("etc/httpd/conf.modules.d/00-ssl.conf", _load(["ssl"]))
    ssl.write("etc/httpd/conf.d/ssl.conf", SSL_CONF)
    h.give("mod_ldap", f"{MODULES}/mod_ldap.so", f"{MODULES}/mod_authnz_ldap.so")
    pkg("mod_ldap").write("etc/httpd/conf.modules.d/01-ldap.conf", _load(["ldap", "authnz_ldap"]))
    pkg("mod_ldap").requires.add("apr-util-ldap")
    h.give("mod_md", f"{MODULES}/mod_md.so")
    for name in ("mod_ssl", "mod_ldap", "mod_md"):
        pkg(name).requires.add("httpd")
    h.remove(f"{MODULES}/mod_case_filter*", f"{MODULES}/mod_bucketeer.so")


def tools(pkg):
    """EL7 keeps what an administrator of a running server needs with the server."""
    t = pkg("httpd-tools")
    t.give("httpd", "usr/bin/htcacheclean", "usr/bin/rotatelogs", "usr/bin/fcgistarter")
    t.remove("usr/sbin/check_forensic", "usr/sbin/split-logfile", "usr/bin/checkgid")


STEPS = (httpd, extra_modules, tools)
