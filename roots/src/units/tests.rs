//! Whole roots, lifted.

use super::testing::{Root, cluster};
use super::{Host, Level, Run, Softened};

fn new() -> Host {
    Host::with(257, true)
}

#[test]
fn a_unit_bears_the_roots_name_and_runs_in_it() {
    let root = Root::new();
    let text = "[Unit]\nDescription=A\nAfter=network.target\n[Service]\nExecStart=/bin/a --b\n[Install]\nWantedBy=multi-user.target\n";
    root.enable("a.service", "multi-user.target", text);
    let lifted = root.lift();
    assert_eq!(lifted.started, ["rootbuild-web-a.service"]);
    let expected = "# Made by rootbuild from /usr/lib/systemd/system/a.service\n\n\
        [Unit]\nDescription=A\nAfter=network.target\n\n\
        [Service]\nExecStart=/bin/a --b\n\n[Install]\nWantedBy=rootbuild-web.target\n";
    assert_eq!(lifted.text("a.service"), expected);
    let drop_in = lifted.text("a.service.d/50-rootbuild.conf");
    for line in [
        "Requires=rootbuild-web-root.service",
        "RootDirectory=/run/rootbuild/roots/web",
        "MountAPIVFS=yes",
        "Slice=rootbuild-web.slice",
        "PrivateDevices=yes",
        "PrivateIPC=yes",
    ] {
        assert!(drop_in.lines().any(|it| it == line), "{line} in {drop_in}");
    }
    assert!(!drop_in.contains("ReadOnlyPaths=+") && !drop_in.contains("BindsTo"));
    assert_eq!(lifted.told(), "");
}

#[test]
fn what_a_unit_brings_along_is_lifted_and_named_anew() {
    let root = Root::new();
    let main = "[Unit]\nRequires=b.service\nWants=c.socket gone.service\nAfter=b.service d.service network.target\n\
                PartOf=alias.service\nOnFailure=tell@%n.service\n[Service]\nExecStart=/a\n";
    root.enable("a.service", "multi-user.target", main);
    for unit in ["b.service", "c.service", "d.service", "tell@.service"] {
        root.write(&format!("usr/lib/systemd/system/{unit}"), "[Service]\nExecStart=/x %i\n");
    }
    root.write(
        "usr/lib/systemd/system/c.socket",
        "[Socket]\nListenStream=/var/run/c.sock\nListenStream=80\n",
    );
    root.link("etc/systemd/system/alias.service", "/usr/lib/systemd/system/b.service");
    let lifted = root.lift();
    let text = lifted.text("a.service");
    for line in [
        "Requires=rootbuild-web-b.service",
        "Wants=rootbuild-web-c.socket",
        "After=rootbuild-web-b.service",
        "After=network.target",
        "PartOf=rootbuild-web-b.service",
        "OnFailure=rootbuild-web-tell@a.service.service",
    ] {
        assert!(text.lines().any(|it| it == line), "{line} in {text}");
    }
    assert!(!text.contains("d.service") && !lifted.has("d.service"));
    let socket = lifted.text("c.socket");
    assert!(
        socket.contains("ListenStream=/run/rootbuild/roots/web/run/c.sock\nListenStream=80\n"),
        "{socket}"
    );
    assert!(socket.contains("FileDescriptorName=c.socket\n"));
    assert!(lifted.text("tell@a.service.service").contains("ExecStart=/x a.service\n"));
    assert!(lifted.has("c.service"));
    assert_eq!(lifted.started, ["rootbuild-web-a.service"]);
    let told = lifted.told();
    for line in [
        "`a.service` (/usr/lib/systemd/system/a.service:4) `After=d.service` is left out: no such unit is taken over",
        "`gone.service` (/usr/lib/systemd/system/a.service:3) isn't taken over: it isn't there",
    ] {
        assert!(told.contains(line), "{line} in {told}");
    }
}

#[test]
fn paths_that_the_host_opens_lead_into_the_root() {
    let root = Root::new();
    let text = "[Unit]\nConditionPathExists=|!/etc/off\nAssertPathExists=/etc/%i\nRequiresMountsFor=/var/log\n\
        [Service]\nExecStart=/a\nEnvironmentFile=-/etc/default/a\nPIDFile=a.pid\nStandardOutput=append:/var/log/a\n\
        LoadCredential=key:/etc/key\nReadWritePaths=-/var/lib/a \"/srv/b c\"\nBindPaths=/srv:/mnt /etc/x\n\
        RuntimeDirectory=a b\nStateDirectory=a/deep\nStateDirectoryMode=0700\nPAMName=login\n";
    root.enable("a@i.service", "multi-user.target", text);
    let lifted = root.lift();
    let unit = lifted.text("a@i.service");
    for line in [
        "ConditionPathExists=|!/run/rootbuild/roots/web/etc/off",
        "AssertPathExists=/run/rootbuild/roots/web/etc/i",
        "EnvironmentFile=-/run/rootbuild/roots/web/etc/default/a",
        "PIDFile=/run/rootbuild/roots/web/run/a.pid",
        "StandardOutput=append:/run/rootbuild/roots/web/var/log/a",
        "LoadCredential=key:/run/rootbuild/roots/web/etc/key",
        "ReadWritePaths=-+/var/lib/a \"+/srv/b c\"",
        "BindPaths=/run/rootbuild/roots/web/srv:/mnt /run/rootbuild/roots/web/etc/x:/etc/x",
        "RuntimeDirectory=rootbuild/roots/web/run/a rootbuild/roots/web/run/b",
    ] {
        assert!(unit.lines().any(|it| it == line), "{line} in {unit}");
    }
    for key in ["StateDirectory", "PAMName", "RequiresMountsFor"] {
        assert!(!unit.contains(key), "{key} in {unit}");
    }
    let drop_in = lifted.text("a@i.service.d/50-rootbuild.conf");
    for line in [
        "Environment=RUNTIME_DIRECTORY=/run/a:/run/b",
        "Environment=STATE_DIRECTORY=/var/lib/a/deep",
        "ReadWritePaths=+/var/lib/a/deep",
    ] {
        assert!(drop_in.lines().any(|it| it == line), "{line} in {drop_in}");
    }
    assert!(lifted.text("root.service").contains("StandardInputText=d /var/lib/a/deep 0700 0 0 -\n"));
    assert!(
        lifted.told().contains("warning: `a@i.service` (/usr/lib/systemd/system/a@i.service:16) `PAMName`")
    );
}

#[test]
fn users_are_the_roots_and_bear_its_name() {
    let root = Root::new();
    root.write("etc/passwd", "root:x:0:0::/root:/bin/sh\nred:x:101:102::/var/lib/red:/bin/false\n");
    root.write("etc/group", "root:x:0:\nred:x:102:\nssl:x:110:red\nlog:x:4:\n");
    let text = "[Service]\nExecStart=-/a b\nExecStartPost=!/c\nUser=red\nGroup=log\nRuntimeDirectory=red\nEnvironment=\"USER=own\"\n";
    root.enable("a.service", "multi-user.target", text);
    root.enable("b.service", "multi-user.target", "[Service]\nExecStart=/b\nUser=nobody-here\n");
    root.enable(
        "c.service",
        "multi-user.target",
        "[Service]\nExecStart=/c\nUser=made-up\nDynamicUser=yes\nStateDirectory=c\n",
    );
    let lifted = root.lift();
    let unit = lifted.text("a.service");
    assert!(
        unit.contains(
            "User=rootbuild-web-red\nSupplementaryGroups=rootbuild-web-ssl\nGroup=rootbuild-web-log\n"
        ),
        "{unit}"
    );
    let drop_in = lifted.text("a.service.d/50-rootbuild.conf");
    assert!(drop_in.contains("Environment=LOGNAME=red\n") && !drop_in.contains("USER="), "{drop_in}");
    let files: Vec<&str> = lifted.users.iter().map(|it| it.file.as_str()).collect();
    assert_eq!(files, ["rootbuild-web-log.group", "rootbuild-web-red.user", "rootbuild-web-ssl.group"]);
    assert!(!lifted.has("b.service"));
    assert!(
        lifted.told().contains("isn't taken over: the root has no user `nobody-here`"),
        "{}",
        lifted.told()
    );
    let made_up = lifted.text("c.service");
    assert!(
        !made_up.contains("User=made-up") && made_up.contains("StateDirectory=rootbuild/web/c\n"),
        "{made_up}"
    );
    let bind = "BindPaths=/var/lib/private/rootbuild/web/c:/var/lib/c\n";
    assert!(lifted.text("c.service.d/50-rootbuild.conf").contains(bind));

    // A host that can't be told of users.
    let old = Host::with(247, false);
    assert!(!root.lift_on(old).has("a.service"), "nothing changes its user");
    root.write("usr/bin/setpriv", "");
    let path = root.path().join("usr/bin/setpriv");
    std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let lifted = root.lift_on(old);
    let unit = lifted.text("a.service");
    assert!(
        unit.contains(
            "ExecStart=-/usr/bin/setpriv --reuid=101 --regid=4 --groups=110 -- /a b\nExecStartPost=!/c\n"
        ),
        "{unit}"
    );
    assert!(!unit.contains("User=") && !unit.contains("Group=") && lifted.users.is_empty());
}

#[test]
fn what_a_host_is_too_old_for_is_refused_by_name_or_done_another_way() {
    let root = Root::new();
    let files = "[Service]\nExecStart=/a\nOpenFile=/etc/x\n";
    root.enable("files.service", "multi-user.target", files);
    root.enable(
        "reload.service",
        "multi-user.target",
        "[Service]\nType=notify-reload\nExecStart=/a\nExecPaths=/a\n",
    );
    let new = root.lift_on(new());
    assert!(new.has("files.service") && new.text("reload.service").contains("Type=notify-reload\n"));
    let lifted = root.lift_on(Host::with(247, true));
    assert!(!lifted.has("files.service"));
    assert!(lifted.told().contains("`OpenFile` needs systemd 253, this host has 247"), "{}", lifted.told());
    let text = lifted.text("reload.service");
    assert!(text.contains("Type=notify\n") && !text.contains("ExecPaths"), "{text}");
    assert!(!lifted.text("reload.service.d/50-rootbuild.conf").contains("PrivateIPC"));
}

#[test]
fn what_is_not_lifted_is_told_with_its_reason() {
    let root = Root::new();
    root.enable("getty@.service", "getty.target", "[Service]\nExecStart=/sbin/agetty\n");
    root.enable("bus.service", "multi-user.target", "[Service]\nBusName=org.x\nExecStart=/a\n");
    root.enable("srv.mount", "multi-user.target", "[Mount]\nWhat=/dev/x\nWhere=/srv\n");
    root.enable("early.service", "sysinit.target", "[Service]\nExecStart=/a\n");
    root.enable("root.service", "multi-user.target", "[Service]\nExecStart=/a\n");
    root.enable("own.service", "multi-user.target", "[Service]\nExecStart=/a\nRootDirectory=/srv\n");
    root.link("etc/systemd/system/multi-user.target.wants/gone.service", "/lib/systemd/system/gone.service");
    root.link("etc/systemd/system/multi-user.target.wants/off.service", "/lib/systemd/system/off.service");
    root.link("etc/systemd/system/off.service", "/dev/null");
    root.enable("many@.service", "multi-user.target", "[Service]\nExecStart=/a\n");
    root.link("etc/rc3.d/S20old", "../init.d/old");
    let lifted = root.lift();
    assert_eq!(lifted.files.len(), 3, "root, slice and target: {:#?}", lifted.files);
    let told = lifted.told();
    for line in [
        "note: `getty@.service` (/etc/systemd/system/getty.target.wants/getty@.service) isn't taken over: consoles",
        "warning: `bus.service` (/usr/lib/systemd/system/bus.service:2) isn't taken over: it takes a name on the D-Bus",
        "warning: `srv.mount` (/etc/systemd/system/multi-user.target.wants/srv.mount) isn't taken over: mounts",
        "warning: `early.service` (/etc/systemd/system/sysinit.target.wants/early.service) isn't taken over: it is part",
        "isn't taken over: its name is taken by rootbuild's own",
        "`own.service` (/usr/lib/systemd/system/own.service:3) isn't taken over: `RootDirectory`: it has a root",
        "warning: `gone.service` (/etc/systemd/system/multi-user.target.wants/gone.service) isn't taken over: it isn't",
        "warning: `many@.service` (/etc/systemd/system/multi-user.target.wants/many@.service) isn't taken over: it is a t",
        "note: `off.service` (/etc/systemd/system/off.service) isn't taken over: it is masked",
        "warning: `/etc/init.d/old` (/etc/rc3.d/S20old) isn't taken over: an init script",
    ] {
        assert!(told.contains(line), "{line} in {told}");
    }
    assert_eq!(told.lines().count(), 10, "{told}");
    assert!(lifted.reports.iter().any(|it| it.level == Level::Note));
}

#[test]
fn timers_paths_and_sockets_start_what_is_theirs() {
    let root = Root::new();
    root.enable("t.timer", "timers.target", "[Timer]\nOnCalendar=daily\nUnit=job.service\n");
    root.enable("p.path", "paths.target", "[Path]\nPathChanged=/var/run/p\n");
    root.enable("s.socket", "sockets.target", "[Socket]\nListenStream=22\nAccept=yes\nSocketUser=gone\n");
    root.write("usr/lib/systemd/system/job.service", "[Service]\nExecStart=/a\n");
    root.write("usr/lib/systemd/system/p.service", "[Service]\nExecStart=/a\n");
    root.write(
        "usr/lib/systemd/system/s@.service",
        "[Unit]\nAfter=s@%i.service\n[Service]\nExecStart=-/a %I\nRuntimeDirectory=s-%i\n",
    );
    let lifted = root.lift();
    assert!(lifted.text("t.timer").contains("Unit=rootbuild-web-job.service\n") && lifted.has("job.service"));
    assert!(
        lifted.text("p.path").contains("PathChanged=/run/rootbuild/roots/web/run/p\n")
            && lifted.has("p.service")
    );
    let template = lifted.text("s@.service");
    assert!(
        template.contains("ExecStart=-/a %I\n") && template.contains("After=rootbuild-web-s@%i.service\n"),
        "{template}"
    );
    assert!(template.contains("RuntimeDirectory=rootbuild/roots/web/run/s-%i\n"));
    assert!(!lifted.text("s.socket").contains("FileDescriptorName"), "each connection has its own");
    let started = ["rootbuild-web-p.path", "rootbuild-web-s.socket", "rootbuild-web-t.timer"];
    let needs_root =
        |name: &str| lifted.text(&format!("{name}.d/50-rootbuild.conf")).contains("root.service");
    assert!(needs_root("p.path") && needs_root("job.service") && needs_root("s@.service"));
    assert!(!needs_root("t.timer") && !needs_root("s.socket"), "they go on while the root is mounted anew");
    let mut found = lifted.started.clone();
    found.sort();
    assert_eq!(found, started);
}

#[test]
fn targets_of_the_root_are_lifted_with_what_they_want() {
    let root = Root::new();
    root.enable("app.target", "multi-user.target", "[Unit]\nAllowIsolate=yes\nRequires=basic.target\n");
    root.enable("a.service", "app.target", "[Service]\nExecStart=/a\n");
    let lifted = root.lift();
    let text = lifted.text("app.target");
    assert!(text.contains("Wants=rootbuild-web-a.service\n") && !text.contains("Isolate"), "{text}");
    assert!(text.contains("Requires=basic.target\n") && lifted.has("a.service"));
    assert!(lifted.text("app.target.d/50-rootbuild.conf").contains("PartOf=rootbuild-web.target\n"));
}

#[test]
fn drop_ins_are_merged_in_order_with_their_resets() {
    let root = Root::new();
    root.enable(
        "a.service",
        "multi-user.target",
        "[Service]\nExecStart=/a\nUser=\n[Unit]\nAfter=x.service\n",
    );
    root.write(
        "etc/systemd/system/a.service.d/10-own.conf",
        "[Service]\nExecStart=\nExecStart=/b\n[Unit]\nAfter=\n",
    );
    let lifted = root.lift();
    let text = lifted.text("a.service");
    assert!(
        text.contains("from /usr/lib/systemd/system/a.service /etc/systemd/system/a.service.d/10-own.conf\n")
    );
    assert!(
        text.contains("ExecStart=/a\nUser=\nExecStart=\nExecStart=/b\n") && !text.contains("After"),
        "{text}"
    );
}

#[test]
fn a_root_that_cannot_be_mounted_safely_is_refused() {
    let root = Root::new();
    std::fs::remove_dir(root.path().join("run")).unwrap();
    root.link("run", "/etc");
    let host = Host::with(252, true);
    let link = std::path::Path::new("/store/roots/web");
    let (run, cluster) = (Run::new("web"), cluster());
    let request = super::Request { name: "web", link, host, private: None, run: &run, cluster: &cluster };
    assert!(matches!(
        super::lift(root.path(), None, &request),
        Err(super::UnitsError::NoDirectory { path: "/run" })
    ));
    let request = super::Request { name: "../web", ..request };
    assert!(matches!(super::lift(root.path(), None, &request), Err(super::UnitsError::Name(_))));
}

#[test]
fn linked_roots_get_what_they_share_read_only() {
    let root = Root::new();
    root.enable(
        "a.service",
        "multi-user.target",
        "[Service]\nExecStart=/a\nProtectHostname=no\nDeviceAllow=/dev/x\n",
    );
    let host = Host::with(252, true);
    let link = std::path::Path::new("/my store/50%/roots/web");
    let areas = crate::checkout::Areas::new(["/etc", "var", "usr/local"]);
    let softened = |unit: &str, setting: Option<&str>| Softened {
        unit: Some(unit.to_owned()),
        setting: setting.map(str::to_owned),
    };
    let softened = vec![softened("a.service", Some("PrivateTmp")), softened("b.service", None)];
    let (run, cluster) = (Run { softened, ..Run::new("web") }, cluster());
    let request =
        super::Request { name: "web", link, host, private: Some(&areas), run: &run, cluster: &cluster };
    let lifted = super::lift(root.path(), None, &request).unwrap();
    let drop_in = lifted.text("a.service.d/50-rootbuild.conf");
    assert!(drop_in.contains("PrivateIPC=yes\n") && !drop_in.contains("PrivateTmp"), "{drop_in}");
    assert!(drop_in.contains("ReadOnlyPaths=-+/usr\nReadWritePaths=-+/usr/local\n"), "{drop_in}");
    assert!(!drop_in.contains("ProtectHostname") && !drop_in.contains("PrivateDevices"), "{drop_in}");
    let mount = lifted.text("root.service");
    assert!(mount.contains(" sh \"/my store/50%%/roots/web\" /run/rootbuild/roots/web web \"\" "), "{mount}");
    assert!(
        mount.contains("tree=$$(readlink -e -- \"$$1\")")
            && mount.contains("RequiresMountsFor=\"/my store/50%%/roots\"\n")
    );
}

#[test]
fn no_unit_reaches_beyond_its_root() {
    let root = Root::new();
    root.link("etc/evil", "/etc/x\nUser=root\nRootDirectory=/");
    root.link("etc/swallow", "/etc/x\\");
    let text = "[Unit]\nOnFailure=reboot.target\nOnFailureJobMode=isolate\nFailureAction=poweroff\nWants=shutdown.target\n\
        Before=sysinit.target\nConflicts=sshd.service multi-user.target\nBindsTo=dbus.service\nUpholds=dbus.service\n\
        [Service]\nExecStart=/a\nEnvironmentFile=/etc/evil\nEnvironmentFile=/etc/swallow\nUser=root\n\
        ReadWritePaths=\"/a\\nUser=root\"\nRuntimeDirectory=../../systemd/system a\nStateDirectory=../../etc\n\
        StateDirectory=b\nStateDirectoryMode=0777 0 0 - -\nOpenFile=/etc/shadow:x\nImportCredential=*\nSlice=-.slice\n";
    root.enable("a.service", "multi-user.target", text);
    root.write("etc/systemd/system/a.service.d/x\n[Service]\nUser=root\n.conf", "[Service]\nA=1\n");
    let lifted = root.lift_on(new());
    let unit = lifted.text("a.service");
    let expected = "# Made by rootbuild from /usr/lib/systemd/system/a.service\n\n[Service]\nExecStart=/a\n\
        EnvironmentFile=/run/rootbuild/roots/web/etc/x\u{fffd}User=root\u{fffd}RootDirectory=\n\
        EnvironmentFile=/run/rootbuild/roots/web/etc/x\\\\\nUser=root\nReadWritePaths=\"+/a\\nUser=root\"\n\
        RuntimeDirectory=rootbuild/roots/web/run/a\nOpenFile=/run/rootbuild/roots/web/etc/shadow:x\n\n\
        [Unit]\nDescription=a.service\n\n[Install]\nWantedBy=rootbuild-web.target\n";
    assert_eq!(unit, expected);
    assert!(lifted.text("root.service").contains("StandardInputText=d /var/lib/b 0755 0 0 -\n"));
    for setting in
        ["OnFailureJobMode", "FailureAction", "ImportCredential", "OnFailure=reboot.target", "StateDirectory"]
    {
        assert!(
            lifted.told().contains(&format!("`{setting}` is left out")),
            "{setting} in {}",
            lifted.told()
        );
    }
}
