//! `rootbuild shell`: a shell in a root; what it changes is dropped.

use std::ffi::OsString;
use std::fs;
use std::path::PathBuf;

use clap::Args;
use rootbuild_cache::Error;
use rootbuild_roots::sandbox::{Console, Network, Nspawn, Running, Sandbox, SandboxSpec};
use rootbuild_roots::working::{self, RootMount};
use rootbuild_roots::{Cancel, publish};

use super::Global;
use crate::logs;
use crate::render::Report;

/// Arguments of `rootbuild shell`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// The root
    #[arg(value_name = "ROOT")]
    pub root: String,

    /// Enter what the last failed provision left (and keep changes), instead of the finished root
    #[arg(long)]
    pub failed: bool,

    /// Let it see the host's network
    #[arg(long)]
    pub network: bool,

    /// What to run instead of a login shell
    #[arg(last = true, value_name = "COMMAND")]
    pub command: Vec<OsString>,
}

/// Runs the command; ends with the exit code of what ran inside.
pub fn run(global: &Global, arguments: &Arguments) -> Result<u8, Report> {
    let definition = global.definition()?;
    let root = super::one_root(&definition, &arguments.root)?;
    super::require_root("rootbuild shell")?;
    // Looking for a root makes no store.
    global.store_read_only()?.ok_or_else(|| super::not_provisioned(root))?;
    let store = global.store()?;
    let standing = super::standing(&store, &definition, root)?;
    let staging = store.trash("shell")?;
    // Held until the shell has ended.
    let (failed, _lease);
    let mount = if arguments.failed {
        failed = working::failed_root(&store, &root.name, &definition.path)?.ok_or_else(|| {
            let report = Report::failed(format!("no failed root of `{}` is kept", root.name));
            match logs::owner_of_latest(store.dir(), &root.name) {
                Some(owner) => report.hint(format!(
                    "it failed with `{owner}`, whose layer it shares: `rootbuild shell --failed {owner}`"
                )),
                None => report.hint("one is kept when a playbook fails, until the root is provisioned again"),
            }
        })?;
        failed.mount().clone()
    } else {
        let published = standing.ok_or_else(|| super::not_provisioned(root))?;
        _lease = publish::lease(&store, &published)?;
        let (upper, work) = (staging.path().join("upper"), staging.path().join("work"));
        for dir in [&upper, &work] {
            fs::create_dir(dir).map_err(Error::io("create", dir))?;
        }
        RootMount::Overlay { lowers: vec![published.checkout], upper, work }
    };
    let argv = if arguments.command.is_empty() {
        vec![
            "/bin/sh".into(),
            "-c".into(),
            "if [ -x /bin/bash ]; then exec /bin/bash -l; else exec /bin/sh -l; fi".into(),
        ]
    } else {
        // The command is found with the root's own PATH, as `sh` does it. It must not be PID 1 itself:
        // the kernel keeps signals that aren't handled from that one, and Ctrl-C would do nothing.
        let mut argv: Vec<OsString> =
            vec!["/bin/sh".into(), "-c".into(), "\"$@\"; exit $?".into(), "sh".into()];
        argv.extend(arguments.command.iter().cloned());
        argv
    };
    let spec = SandboxSpec {
        name: format!("shell-{}-{}", root.name, std::process::id()),
        root: mount,
        writable: true,
        argv,
        env: environment(),
        binds: Vec::new(),
        network: if arguments.network { Network::Host } else { Network::None },
        hostname: root.host.value.clone(),
        boot: false,
        console: Console::Inherit,
        chdir: Some(PathBuf::from("/root")),
    };
    let code = Nspawn.start(&spec, &Cancel::new()).and_then(Running::wait)?;
    Ok(u8::try_from(code).unwrap_or(crate::exit::FAILED))
}

fn environment() -> Vec<(String, String)> {
    let mut environment = vec![
        ("PATH".to_owned(), "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned()),
        ("HOME".to_owned(), "/root".to_owned()),
        ("SYSTEMD_OFFLINE".to_owned(), "1".to_owned()),
    ];
    environment.extend(
        ["TERM", "COLORTERM"].iter().filter_map(|name| Some(((*name).to_owned(), std::env::var(name).ok()?))),
    );
    environment
}
